#pragma once

// System calls and macros that Swift's importer cannot reach: variadic functions, and calls without a wrapper in glibc.
// Nothing here has logic of its own.

#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/types.h>

/// openat2(2). Returns a descriptor, or -1 with errno set.
int apus_openat2(int directory, const char *path, const struct open_how *how);
/// pidfd_open(2). Returns a descriptor, or -1 with errno set.
int apus_pidfd_open(pid_t process);
/// pidfd_send_signal(2) without extra information. Returns 0, or -1 with errno set.
int apus_pidfd_send_signal(int descriptor, int signal);
/// setns(2).
int apus_setns(int descriptor, int type);
/// unshare(2).
int apus_unshare(int flags);
/// prctl(2) with four unsigned arguments.
int apus_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
/// ioctl(2) with a pointer.
int apus_ioctl(int descriptor, unsigned long request, void *argument);
/// fcntl(2) with an integer.
int apus_fcntl(int descriptor, int command, int argument);
/// renameat2(2).
int apus_renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned int flags);
/// pipe2(2).
int apus_pipe2(int ends[2], int flags);
/// posix_spawn_file_actions_addclosefrom_np(3).
int apus_spawn_add_close_from(posix_spawn_file_actions_t *actions, int from);
/// posix_spawn_file_actions_addchdir_np(3).
int apus_spawn_add_change_directory(posix_spawn_file_actions_t *actions, const char *path);
/// The flag POSIX_SPAWN_SETSID.
short apus_spawn_new_session(void);
/// Names the calling thread, in at most 15 bytes (pthread_setname_np(3)).
int apus_name_thread(const char *name);
/// Makes malloc(3) give back what was freed: two arenas, and blocks of 128 KiB and more mapped on their own (mallopt(3)).
void apus_tune_allocator(void);
/// Gives free memory back to the system (malloc_trim(3)).
void apus_trim_allocator(void);
/// Lets go of the code and constants of all loaded files that only starting up needed; what is used again comes back from the page cache.
void apus_release_start_up_pages(void);
