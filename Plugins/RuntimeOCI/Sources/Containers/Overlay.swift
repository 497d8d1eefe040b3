import CLinux
import Files
import Glibc
import Namespaces
import PluginAPI

/// Mounts of container file systems.
enum Overlay {
    /// The kernel copies a mount call's options from one page.
    private static let optionsLimit = 4000

    /// Mounts the layers, uppermost first, with the container's writable layer on top.
    static func mount(layers: [String], home: ContainerHome, at target: String) throws(ApusError) {
        var lower = layers
        if lower.isEmpty {
            // An image without layers; the kernel wants one.
            try Files.makeDirectory(home.empty, permissions: 0o755)
            lower = [home.empty]
        }
        let direct = options(lower: lower, home: home)
        if direct.utf8.count < optionsLimit, lower.allSatisfy(isPlain), isPlain(home.path) {
            try call(options: direct, target: target)
            return
        }
        try Files.makeDirectory(home.layers)
        for (index, layer) in lower.enumerated() {
            let link = "\(home.layers)/\(index)"
            unlink(link)
            guard symlink(layer, link) == 0 else { throw Files.lastError("cannot make \(link)") }
        }
        let short = "lowerdir=\(lower.indices.map { String($0) }.joined(separator: ":")),upperdir=../upper,workdir=../work"
        guard short.utf8.count < optionsLimit else { throw ApusError(.invalidArgument, "the image has too many layers: \(lower.count)") }
        // Relative names need a working directory; the process has one, which is everybody's, so a thread gets its own.
        try DedicatedThread.runBlocking { () throws(ApusError) in
            guard apus_unshare(LinuxConstants.cloneFileSystem) == 0, chdir(home.layers) == 0 else {
                throw Files.lastError("cannot enter \(home.layers)")
            }
            try call(options: short, target: target)
        }
    }

    /// Unmounts; one that is not mounted is fine. A busy one is taken away from sight and ends with its last user.
    static func unmount(_ target: String) throws(ApusError) {
        if umount2(target, LinuxConstants.unmountNoFollow) == 0 { return }
        if errno == EINVAL || errno == ENOENT { return }
        guard umount2(target, Int32(MNT_DETACH) | LinuxConstants.unmountNoFollow) == 0 || errno == EINVAL else {
            throw Files.lastError("cannot unmount \(target)")
        }
    }

    private static func options(lower: [String], home: ContainerHome) -> String {
        "lowerdir=\(lower.joined(separator: ":")),upperdir=\(home.upper),workdir=\(home.work)"
    }

    /// Whether a path means itself in an option.
    private static func isPlain(_ path: String) -> Bool {
        !path.utf8.contains { $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "\\") }
    }

    private static func call(options: String, target: String) throws(ApusError) {
        guard Glibc.mount("overlay", target, "overlay", 0, options) == 0 else {
            throw Files.lastError("cannot mount the container's file system at \(target) (\(options.prefix(200)))")
        }
    }
}
