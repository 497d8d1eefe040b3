#pragma once
#include <linux/capability.h>
#include <linux/prctl.h>
#include <seccomp.h>
#include <sys/types.h>

// glibc has the system call but no header for it.
extern int capset(cap_user_header_t header, const cap_user_data_t data);

/// Limits the calling thread to these capabilities, one bit each, permitted and effective; nothing is inheritable. Returns 0, or -1 with errno set.
static inline int apus_set_capabilities(unsigned long long capabilities) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {
        {(__u32)capabilities, (__u32)capabilities, 0},
        {(__u32)(capabilities >> 32), (__u32)(capabilities >> 32), 0},
    };
    return capset(&header, data);
}
