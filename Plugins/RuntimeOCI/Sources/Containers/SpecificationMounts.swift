import Coding
import PluginAPI

extension Specification {
    /// The mounts of every container, then the configured ones, upper folders before those inside them.
    func mounts() throws(ApusError) -> [JSONValue] {
        var result: [(target: String, json: JSONValue)] = standardMounts()
        if configuration.initProcess {
            guard let path = context.initPath else {
                throw ApusError(.invalidArgument, "no init program is installed: install the Debian package tini, or leave out --init")
            }
            result.append((Self.initTarget, Self.json(type: "bind", source: path, target: Self.initTarget, options: ["bind", "ro"])))
        }
        for (target, source) in context.files.sorted(by: { $0.key < $1.key }) {
            result.append((target, Self.json(type: "bind", source: source, target: target, options: ["rbind", "rprivate"])))
        }
        // One mounted by hand replaces what would be there.
        let targets = Set(context.mounts.map(\.mount.target))
        result.removeAll { targets.contains($0.target) }
        let sorted = context.mounts.sorted {
            ($0.mount.target.split(separator: "/").count, $0.mount.target) < ($1.mount.target.split(separator: "/").count, $1.mount.target)
        }
        for mount in sorted { result.append((mount.mount.target, try json(mount))) }
        return result.map(\.json)
    }

    private func standardMounts() -> [(target: String, json: JSONValue)] {
        func entry(_ type: String, _ source: String, _ target: String, _ options: [String]) -> (target: String, json: JSONValue) {
            (target, Self.json(type: type, source: source, target: target, options: options))
        }
        let writable = configuration.privileged ? "rw" : "ro"
        let memory = configuration.shmSize > 0 ? configuration.shmSize : 64 << 20
        var result = [
            entry("proc", "proc", "/proc", ["nosuid", "noexec", "nodev"]),
            entry("tmpfs", "tmpfs", "/dev", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            entry("devpts", "devpts", "/dev/pts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            entry("sysfs", "sysfs", "/sys", ["nosuid", "noexec", "nodev", writable]),
            entry("cgroup", "cgroup", "/sys/fs/cgroup", [writable, "nosuid", "noexec", "nodev"]),
        ]
        // It shows the queues of the IPC namespace, whichever that is.
        result.append(entry("mqueue", "mqueue", "/dev/mqueue", ["nosuid", "noexec", "nodev"]))
        if configuration.ipcMode == "host" {
            result.append(entry("bind", "/dev/shm", "/dev/shm", ["rbind", "rprivate"]))
        } else {
            result.append(entry("tmpfs", "shm", "/dev/shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=\(memory)"]))
        }
        return result
    }

    private static func json(type: String, source: String, target: String, options: [String]) -> JSONValue {
        ["destination": .string(target), "type": .string(type), "source": .string(source), "options": JSONValue(options)]
    }

    private func json(_ resolved: ResolvedMount) throws(ApusError) -> JSONValue {
        let mount = resolved.mount
        switch mount.kind {
        case .tmpfs:
            var options = ["noexec", "nosuid", "nodev", mount.readOnly ? "ro" : "rw"]
            if let size = mount.tmpfsOptions?.sizeBytes, size > 0 { options.append("size=\(size)") }
            if let mode = mount.tmpfsOptions?.mode, mode > 0 { options.append("mode=\(String(mode, radix: 8))") }
            return Self.json(type: "tmpfs", source: "tmpfs", target: mount.target, options: options)
        case .bind, .volume:
            let bind = mount.bindOptions
            let propagation = bind?.propagation ?? ""
            guard propagation.isEmpty || Self.propagations.contains(propagation) else {
                throw ApusError(.invalidArgument, "invalid mount config for type \"bind\": invalid propagation: \(propagation)")
            }
            var options = [bind?.nonRecursive == true ? "bind" : "rbind", propagation.isEmpty ? "rprivate" : propagation]
            if mount.readOnly {
                options.append("ro")
                // mount_setattr(2) came with Linux 5.12.
                let recursive = context.kernel >= KernelVersion(major: 5, minor: 12)
                if bind?.readOnlyForceRecursive == true, !recursive {
                    throw ApusError(.invalidArgument, "\(mount.target): a recursive read-only mount needs Linux 5.12 or newer")
                }
                if recursive, bind?.readOnlyNonRecursive != true, bind?.nonRecursive != true { options.append("rro") }
            }
            return Self.json(type: "bind", source: resolved.source, target: mount.target, options: options)
        @unknown default: throw ApusError(.unimplemented, "mounts of type \"\(mount.kind.rawValue)\" are not supported")
        }
    }

    private static let propagations: Set<String> = ["private", "rprivate", "shared", "rshared", "slave", "rslave"]

    /// The root must let through what a mount in it is to share.
    var rootPropagation: String? {
        let used = context.mounts.compactMap(\.mount.bindOptions?.propagation)
        if used.contains(where: { $0 == "shared" || $0 == "rshared" }) { return "shared" }
        if used.contains(where: { $0 == "slave" || $0 == "rslave" }) { return "rslave" }
        return nil
    }
}
