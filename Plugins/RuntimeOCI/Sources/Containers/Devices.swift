import Files
import Glibc
import PluginAPI

/// Finds device nodes of the host.
enum Devices {
    /// What the configuration names, or everything for a privileged container.
    static func find(for configuration: ContainerConfiguration) throws(ApusError) -> [HostDevice] {
        var result: [HostDevice] = configuration.privileged ? all(in: "/dev") : []
        for mapping in configuration.devices {
            let access = mapping.permissions.isEmpty ? "rwm" : mapping.permissions
            guard access.allSatisfy({ "rwm".contains($0) }) else {
                throw ApusError(.invalidArgument, "invalid device mode: \(mapping.permissions) (only the letters r, w and m)")
            }
            let target = mapping.containerPath.isEmpty ? mapping.hostPath : mapping.containerPath
            let found: [HostDevice]
            if Files.isDirectory(mapping.hostPath) {
                found = all(in: mapping.hostPath).map { device in
                    var device = device
                    device.path = target + device.path.dropFirst(mapping.hostPath.count)
                    device.access = access
                    return device
                }
            } else if let device = node(mapping.hostPath, as: target, access: access) {
                found = [device]
            } else {
                throw ApusError(
                    .invalidArgument, "error gathering device information while adding custom device \"\(mapping.hostPath)\": no such device node")
            }
            result.removeAll { known in found.contains { $0.path == known.path } }
            result += found
        }
        return result
    }

    private static func node(_ path: String, as target: String, access: String) -> HostDevice? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        let kind = status.st_mode & S_IFMT
        guard kind == S_IFCHR || kind == S_IFBLK else { return nil }
        let device = UInt64(status.st_rdev)
        return HostDevice(
            path: target, type: kind == S_IFCHR ? "c" : "b",
            // The layout of glibc's major() and minor(), which are macros.
            major: Int64((device >> 8) & 0xfff | (device >> 32) & ~0xfff), minor: Int64(device & 0xff | (device >> 12) & 0xffff_ff00),
            mode: Int64(status.st_mode & 0o777), user: Int64(status.st_uid), group: Int64(status.st_gid), access: access)
    }

    private static func all(in folder: String) -> [HostDevice] {
        // File systems of their own, which every container has anew.
        let skipped: Set<String> = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/hugepages"]
        var result: [HostDevice] = []
        for name in (try? Files.list(folder)) ?? [] {
            let path = "\(folder)/\(name)"
            var status = stat()
            guard !skipped.contains(path), lstat(path, &status) == 0 else { continue }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: result += all(in: path)
            case S_IFCHR, S_IFBLK: if let device = node(path, as: path, access: "rwm") { result.append(device) }
            default: break
            }
        }
        return result
    }
}
