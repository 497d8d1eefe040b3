import CLinux
import CSeccomp
import Glibc

/// Takes from this process everything that unpacking does not need. From here on a defect in a decompressor can at worst write
/// wrong files below one folder.
enum Jail {
    private static let capabilities: [Int32] = [
        CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP,
        // The kernel asks for it before it sets trusted.overlay.opaque; the calls that make it dangerous are not in the list below.
        CAP_SYS_ADMIN,
    ]

    private static let systemCalls = [
        "read", "readv", "pread64", "write", "pwrite64", "lseek", "close", "dup", "fstat", "newfstatat", "statx", "ftruncate", "openat", "openat2",
        "mkdirat", "mknodat", "linkat", "symlinkat", "unlinkat", "fchown", "fchownat", "fchmod", "fchmodat", "utimensat", "fsetxattr", "syncfs",
        "munmap", "mremap", "madvise", "brk", "futex", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "restart_syscall", "sched_yield",
        "clock_gettime", "gettimeofday", "getrandom", "getpid", "gettid", "exit", "exit_group",
    ]

    /// Must come after the Swift runtime, libarchive and libcrypto have been used once, so that all they load is loaded.
    static func close(directory: Int32, maximumBytes: Int64) throws(UnpackError) {
        umask(0)
        try limit(RLIMIT_CORE, 0)
        try limit(RLIMIT_NOFILE, 64)
        try limit(RLIMIT_AS, 1 << 30)
        try limit(RLIMIT_FSIZE, UInt(clamping: maximumBytes))
        // The call then fails with EFBIG and the entry can be named.
        signal(SIGXFSZ, SIG_IGN)
        guard fchdir(directory) == 0, chroot(".") == 0, chdir("/") == 0 else { throw failure("cannot make the folder the root") }
        guard apus_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 else { throw failure("cannot set no_new_privs") }
        let kept = capabilities.reduce(UInt64(0)) { $0 | 1 << UInt64($1) }
        guard apus_set_capabilities(kept) == 0 else { throw failure("cannot drop capabilities") }
        try filterSystemCalls()
    }

    private static func limit(_ resource: __rlimit_resource, _ value: UInt) throws(UnpackError) {
        var limits = rlimit(rlim_cur: value, rlim_max: value)
        guard setrlimit(Int32(resource.rawValue), &limits) == 0 else { throw failure("cannot set resource limit \(resource.rawValue)") }
    }

    private static func filterSystemCalls() throws(UnpackError) {
        guard let filter = seccomp_init(SCMP_ACT_KILL_PROCESS) else { throw UnpackError(.machine, "libseccomp has no memory") }
        defer { seccomp_release(filter) }
        for name in systemCalls {
            let number = seccomp_syscall_resolve_name(name)
            // Some architectures lack some of them.
            guard number >= 0 else { continue }
            guard seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, 0, nil) == 0 else {
                throw UnpackError(.machine, "libseccomp refuses \(name)")
            }
        }
        // Memory, but none that can be executed.
        for name in ["mmap", "mprotect"] {
            var condition = scmp_arg_cmp(arg: 2, op: SCMP_CMP_MASKED_EQ, datum_a: UInt64(PROT_EXEC), datum_b: 0)
            let number = seccomp_syscall_resolve_name(name)
            guard seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, 1, &condition) == 0 else {
                throw UnpackError(.machine, "libseccomp refuses \(name)")
            }
        }
        let result = seccomp_load(filter)
        guard result == 0 else { throw UnpackError(.machine, "cannot load the system call filter: \(String(cString: strerror(-result)))") }
    }

    private static func failure(_ what: String) -> UnpackError { UnpackError(.machine, "\(what): \(String(cString: strerror(errno)))") }
}
