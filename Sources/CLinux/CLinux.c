#define _GNU_SOURCE
#include "CLinux.h"

#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int apus_openat2(int directory, const char *path, const struct open_how *how) {
    return (int)syscall(SYS_openat2, directory, path, how, sizeof(*how));
}

int apus_pidfd_open(pid_t process) { return (int)syscall(SYS_pidfd_open, process, 0); }

int apus_pidfd_send_signal(int descriptor, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, descriptor, signal, NULL, 0);
}

int apus_setns(int descriptor, int type) { return setns(descriptor, type); }

int apus_unshare(int flags) { return unshare(flags); }

int apus_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    return prctl(option, a, b, c, d);
}

int apus_ioctl(int descriptor, unsigned long request, void *argument) { return ioctl(descriptor, request, argument); }

int apus_fcntl(int descriptor, int command, int argument) { return fcntl(descriptor, command, argument); }

int apus_renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned int flags) {
    return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
}

int apus_pipe2(int ends[2], int flags) { return pipe2(ends, flags); }

int apus_spawn_add_close_from(posix_spawn_file_actions_t *actions, int from) {
    return posix_spawn_file_actions_addclosefrom_np(actions, from);
}

int apus_spawn_add_change_directory(posix_spawn_file_actions_t *actions, const char *path) {
    return posix_spawn_file_actions_addchdir_np(actions, path);
}

short apus_spawn_new_session(void) { return POSIX_SPAWN_SETSID; }

int apus_name_thread(const char *name) { return pthread_setname_np(pthread_self(), name); }

void apus_tune_allocator(void) {
    mallopt(M_ARENA_MAX, 2);
    // Set once, the threshold no longer grows with the largest block that was ever freed.
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 128 << 10);
}

void apus_trim_allocator(void) { malloc_trim(0); }

static int release_pages(struct dl_phdr_info *object, size_t size, void *context) {
    (void)size;
    const uintptr_t page = *(const uintptr_t *)context;
    // The kernel's own object is not a mapping of a file.
    if (object->dlpi_name != NULL && strncmp(object->dlpi_name, "linux-vdso", 10) == 0) return 0;
    for (int index = 0; index < object->dlpi_phnum; index++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[index];
        if (segment->p_type != PT_DYNAMIC) continue;
        // The loader has written into the code of an object with text relocations.
        for (const ElfW(Dyn) *entry = (const ElfW(Dyn) *)(object->dlpi_addr + segment->p_vaddr); entry->d_tag != DT_NULL; entry++) {
            if (entry->d_tag == DT_TEXTREL || (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0)) return 0;
        }
    }
    for (int index = 0; index < object->dlpi_phnum; index++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[index];
        // What the loader has written to, relocations among it, exists nowhere else.
        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) != 0) continue;
        const uintptr_t start = (object->dlpi_addr + segment->p_vaddr + page - 1) & ~(page - 1);
        const uintptr_t end = (object->dlpi_addr + segment->p_vaddr + segment->p_memsz) & ~(page - 1);
        if (end <= start) continue;
        madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return 0;
}

void apus_release_start_up_pages(void) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    dl_iterate_phdr(release_pages, &page);
}
