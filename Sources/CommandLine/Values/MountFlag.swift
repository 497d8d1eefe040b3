import PluginAPI

/// The value of `--mount`: `type=volume,source=data,target=/data,readonly`.
enum MountFlag {
    static func parse(_ text: String) throws(ApusError) -> Mount {
        var mount = Mount()
        mount.kind = .volume
        for (key, value) in try CommaFields.pairs(text) { try apply(key, value, to: &mount) }
        try check(mount, text)
        return mount
    }

    private static func apply(_ key: String, _ value: String?, to mount: inout Mount) throws(ApusError) {
        switch key {
        case "readonly", "ro":
            mount.readOnly = try CommaFields.boolean(key, value)
            return
        case "volume-nocopy":
            let noCopy = try CommaFields.boolean(key, value)
            mount.editVolume { $0.noCopy = noCopy }
            return
        case "bind-nonrecursive":
            let nonRecursive = try CommaFields.boolean(key, value)
            mount.editBind { $0.nonRecursive = nonRecursive }
            return
        default: break
        }
        guard let value, !value.isEmpty else { throw ApusError(.invalidArgument, "\(key) has no value; write \(key)=VALUE") }
        switch key {
        case "type":
            guard let kind = MountKind(rawValue: value.lowercased()) else {
                throw ApusError(.invalidArgument, "type=\(value): the types are bind, volume and tmpfs")
            }
            mount.kind = kind
        case "source", "src": mount.source = value
        case "target", "dst", "destination": mount.target = value
        case "consistency": mount.consistency = value
        case "bind-propagation":
            guard ["private", "rprivate", "shared", "rshared", "slave", "rslave"].contains(value) else {
                throw ApusError(.invalidArgument, "bind-propagation=\(value): it is private, shared or slave, or one of these with an r in front")
            }
            mount.editBind { $0.propagation = value }
        case "bind-recursive":
            switch value {
            case "enabled": mount.editBind { $0.nonRecursive = false }
            case "disabled": mount.editBind { $0.nonRecursive = true }
            case "writable": mount.editBind { $0.readOnlyNonRecursive = true }
            case "readonly": mount.editBind { $0.readOnlyForceRecursive = true }
            default: throw ApusError(.invalidArgument, "bind-recursive=\(value): it is enabled, disabled, writable or readonly")
            }
        case "volume-label":
            let (label, content) = value.cut(at: "=")
            mount.editVolume { $0.labels[label] = content ?? "" }
        case "volume-driver": mount.editVolumeDriver { $0.name = value }
        case "volume-opt":
            let (option, content) = value.cut(at: "=")
            mount.editVolumeDriver { $0.options[option] = content ?? "" }
        case "volume-subpath": mount.editVolume { $0.subpath = value }
        case "tmpfs-size":
            let size = try ByteSize.parse(value)
            mount.editTmpfs { $0.sizeBytes = size }
        case "tmpfs-mode":
            guard let mode = Int64(value, radix: 8), (0...0o7777).contains(mode) else {
                throw ApusError(.invalidArgument, "tmpfs-mode=\(value): write permissions in octal, such as 1777")
            }
            mount.editTmpfs { $0.mode = mode }
        default: throw ApusError(.invalidArgument, "\(key) is not known here; see `apus service create --help` for the keys of a mount")
        }
    }

    private static func check(_ mount: Mount, _ text: String) throws(ApusError) {
        guard !mount.target.isEmpty else { throw ApusError(.invalidArgument, "\"\(text)\" has no target, the path in the container") }
        guard mount.target.hasPrefix("/") else {
            throw ApusError(.invalidArgument, "target=\(mount.target): the path in the container must begin with /")
        }
        func refuse(_ options: Bool, _ what: String) throws(ApusError) {
            if options { throw ApusError(.invalidArgument, "\"\(text)\" mixes \(what) options with type=\(mount.kind.rawValue)") }
        }
        try refuse(mount.kind != .bind && mount.bindOptions != nil, "bind")
        try refuse(mount.kind != .volume && mount.volumeOptions != nil, "volume")
        try refuse(mount.kind != .tmpfs && mount.tmpfsOptions != nil, "tmpfs")
        switch mount.kind {
        case .bind:
            guard mount.source.hasPrefix("/") else {
                throw ApusError(.invalidArgument, "\"\(text)\" needs a source that begins with /: the path on the node")
            }
        case .tmpfs:
            guard mount.source.isEmpty else { throw ApusError(.invalidArgument, "\"\(text)\" has a source; a tmpfs has none") }
        case .volume: break
        @unknown default: break
        }
        if mount.bindOptions?.readOnlyNonRecursive == true || mount.bindOptions?.readOnlyForceRecursive == true, !mount.readOnly {
            throw ApusError(.invalidArgument, "\"\(text)\" says how read-only goes deeper, but the mount is not readonly")
        }
    }
}

extension Mount {
    fileprivate mutating func editBind(_ change: (inout BindOptions) -> Void) {
        var options = bindOptions ?? BindOptions()
        change(&options)
        bindOptions = options
    }

    fileprivate mutating func editVolume(_ change: (inout VolumeOptions) -> Void) {
        var options = volumeOptions ?? VolumeOptions()
        change(&options)
        volumeOptions = options
    }

    fileprivate mutating func editVolumeDriver(_ change: (inout VolumeDriver) -> Void) {
        editVolume { options in
            var driver = options.driver ?? VolumeDriver()
            change(&driver)
            options.driver = driver
        }
    }

    fileprivate mutating func editTmpfs(_ change: (inout TmpfsOptions) -> Void) {
        var options = tmpfsOptions ?? TmpfsOptions()
        change(&options)
        tmpfsOptions = options
    }
}
