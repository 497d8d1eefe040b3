import Files
import PluginAPI

/// Checks the mounts of a container and finds what they show.
struct MountSources: Sendable {
    let volumes: Volumes

    /// What is wrong with the mounts themselves, in Docker's words.
    func check(_ mounts: [Mount]) throws(ApusError) {
        var targets: Set<String> = []
        for mount in mounts {
            func refuse(_ reason: String) -> ApusError {
                ApusError(.invalidArgument, "invalid mount config for type \"\(mount.kind.rawValue)\": \(reason)")
            }
            guard !mount.target.isEmpty else { throw refuse("field Target must not be empty") }
            guard mount.target.hasPrefix("/") else { throw refuse("invalid mount path: '\(mount.target)' mount path must be absolute") }
            guard mount.target.split(separator: "/").contains(where: { $0 != "." && $0 != ".." }) else {
                throw refuse("invalid specification: destination can't be '/'")
            }
            guard targets.insert(mount.target).inserted else { throw ApusError(.invalidArgument, "Duplicate mount point: \(mount.target)") }
            switch mount.kind {
            case .bind:
                guard !mount.source.isEmpty else { throw refuse("field Source must not be empty") }
                guard mount.source.hasPrefix("/") else { throw refuse("invalid mount path: '\(mount.source)' mount path must be absolute") }
                guard Files.exists(mount.source) || mount.bindOptions?.createMountpoint == true else {
                    throw refuse("bind source path does not exist: \(mount.source)")
                }
            case .volume:
                if !mount.source.isEmpty { try Volumes.check(name: mount.source) }
                if let driver = mount.volumeOptions?.driver {
                    guard driver.name.isEmpty || driver.name == "local" else {
                        throw ApusError(.unimplemented, "volume driver \"\(driver.name)\" is not supported: only \"local\" is")
                    }
                    guard driver.options.isEmpty else { throw ApusError(.unimplemented, "options of volumes are not supported yet") }
                }
            case .tmpfs:
                guard mount.source.isEmpty else { throw refuse("field Source must not be specified") }
            @unknown default: throw ApusError(.unimplemented, "mounts of type \"\(mount.kind.rawValue)\" are not supported")
            }
        }
    }

    /// Paths of the host for each. Makes what bind mounts ask to be made.
    func resolve(_ mounts: [Mount]) throws(ApusError) -> [ResolvedMount] {
        try check(mounts)
        var result: [ResolvedMount] = []
        for mount in mounts {
            switch mount.kind {
            case .tmpfs: result.append(ResolvedMount(mount: mount, source: ""))
            case .bind:
                if mount.bindOptions?.createMountpoint == true, !Files.exists(mount.source) {
                    try Files.makeDirectory(mount.source, permissions: 0o755)
                }
                result.append(ResolvedMount(mount: mount, source: mount.source))
            case .volume:
                guard volumes.exists(mount.source) else { throw ApusError(.notFound, "get \(mount.source): no such volume") }
                var source = volumes.data(mount.source)
                if let subpath = mount.volumeOptions?.subpath, !subpath.isEmpty {
                    guard let found = RootPath.resolved(subpath, in: source) else {
                        throw ApusError(.invalidArgument, "the volume \(mount.source) has no \(subpath)")
                    }
                    source = found
                }
                result.append(ResolvedMount(mount: mount, source: source))
            @unknown default: throw ApusError(.unimplemented, "mounts of type \"\(mount.kind.rawValue)\" are not supported")
            }
        }
        return result
    }
}
