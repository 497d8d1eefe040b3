/// Numbers of the kernel's interface that glibc defines only under _GNU_SOURCE, which Swift's importer does not set.
enum LinuxConstants {
    /// O_PATH, the same on every architecture that Swift runs on.
    static let openPath: Int32 = 0o10000000
    /// CLONE_FS
    static let cloneFileSystem: Int32 = 0x200
    /// UMOUNT_NOFOLLOW
    static let unmountNoFollow: Int32 = 8
}
