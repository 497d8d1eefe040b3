import PluginAPI

/// The checks of one mount.
struct MountValidation {
    let mount: Mount
    /// Whether the source may hold placeholders, which the node fills in.
    var allowsPlaceholders = true

    func check() throws(ApusError) {
        guard !mount.target.isEmpty else { throw invalid("the target is missing") }
        guard mount.target.hasPrefix("/"), !mount.target.utf8.contains(0) else { throw invalid("invalid mount target, must be an absolute path") }
        guard Self.normalized(mount.target) != "/" else { throw invalid("invalid mount target: it may not be the root") }
        guard !mount.source.utf8.contains(0) else { throw invalid("the source has a NUL") }
        switch mount.kind {
        case .bind: try checkBind()
        case .volume: try checkVolume()
        case .tmpfs: try checkTmpfs()
        default: throw ApusError(.unimplemented, "mounts of the type \(mount.kind.rawValue) are not supported")
        }
        guard ["", "default", "consistent", "cached", "delegated"].contains(mount.consistency) else {
            throw invalid("the consistency \"\(ServiceValidation.printable(mount.consistency))\" is unknown")
        }
        try checkOptions()
    }

    private func invalid(_ message: String) -> ApusError {
        ApusError(
            .invalidArgument,
            "invalid mount config for type \"\(mount.kind.rawValue)\" at \"\(ServiceValidation.printable(mount.target))\": \(message)")
    }

    private func checkBind() throws(ApusError) {
        guard !mount.source.isEmpty else { throw invalid("field Source must not be empty") }
        guard mount.source.hasPrefix("/") else {
            throw invalid("invalid mount source, must be an absolute path: \"\(ServiceValidation.printable(mount.source))\"")
        }
        let known = ["", "private", "rprivate", "shared", "rshared", "slave", "rslave"]
        if let propagation = mount.bindOptions?.propagation, !known.contains(propagation) {
            throw invalid("invalid propagation mode: \"\(ServiceValidation.printable(propagation))\"")
        }
    }

    private func checkVolume() throws(ApusError) {
        if !mount.source.isEmpty, !allowsPlaceholders || !mount.source.contains("{{") {
            let bytes = Array(mount.source.utf8)
            let isName =
                bytes.count >= 2 && bytes.count <= 255 && ServiceValidation.isAlphanumeric(bytes[0])
                && bytes.allSatisfy { ServiceValidation.isAlphanumeric($0) || "_.-".utf8.contains($0) }
            guard isName else {
                throw invalid(
                    "\"\(ServiceValidation.printable(mount.source))\" includes invalid characters for a volume name: it has two or more of [a-zA-Z0-9_.-] and starts with a letter or digit"
                )
            }
        }
        if mount.source.isEmpty, mount.readOnly { throw invalid("must not set ReadOnly mode when using anonymous volumes") }
        if let driver = mount.volumeOptions?.driver?.name, !["", "local"].contains(driver) {
            throw ApusError(.unimplemented, "volume driver \"\(ServiceValidation.printable(driver))\" is not supported; local is")
        }
        if let options = mount.volumeOptions?.driver?.options, !options.isEmpty {
            throw ApusError(
                .unimplemented,
                "options of the volume driver (\(ServiceValidation.printable(options.keys.sorted().joined(separator: ", ")))) are not supported yet")
        }
        if let labels = mount.volumeOptions?.labels { try ServiceValidation.checkLabels(labels, of: "volume") }
        if let subpath = mount.volumeOptions?.subpath,
            subpath.hasPrefix("/") || subpath.split(separator: "/").contains("..") || subpath.utf8.contains(0)
        {
            throw invalid("the subpath must be relative and stay inside of the volume")
        }
    }

    private func checkTmpfs() throws(ApusError) {
        guard mount.source.isEmpty else { throw invalid("field Source must not be specified") }
        guard let options = mount.tmpfsOptions else { return }
        guard options.sizeBytes >= 0 else { throw invalid("the size \(options.sizeBytes) is negative") }
        guard (0...0o7777).contains(options.mode) else { throw invalid("the mode \(options.mode) is not made of permission bits") }
    }

    /// Options of another type are a mistake that would otherwise be ignored.
    private func checkOptions() throws(ApusError) {
        guard mount.bindOptions == nil || mount.kind == .bind else { throw invalid("field BindOptions must not be specified") }
        guard mount.volumeOptions == nil || mount.kind == .volume else { throw invalid("field VolumeOptions must not be specified") }
        guard mount.tmpfsOptions == nil || mount.kind == .tmpfs else { throw invalid("field TmpfsOptions must not be specified") }
    }

    /// A path without empty parts, `.` and `..`.
    static func normalized(_ path: String) -> String {
        var parts: [Substring] = []
        for part in path.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        return "/" + parts.joined(separator: "/")
    }
}
