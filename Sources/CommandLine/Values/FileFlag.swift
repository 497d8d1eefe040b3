import PluginAPI

/// The value of `--secret` and `--config`: a name, or `source=key,target=/etc/key,uid=0,gid=0,mode=0400`.
enum FileFlag {
    static func secret(_ text: String) throws(ApusError) -> SecretReference {
        let (source, target) = try parse(text)
        var reference = SecretReference()
        reference.secretName = source
        reference.file = target
        return reference
    }

    static func config(_ text: String) throws(ApusError) -> ConfigReference {
        let (source, target) = try parse(text)
        var reference = ConfigReference()
        reference.configName = source
        reference.file = target
        return reference
    }

    private static func parse(_ text: String) throws(ApusError) -> (source: String, target: FileTarget) {
        var target = FileTarget()
        (target.uid, target.gid, target.mode) = ("0", "0", 0o444)
        var source = ""
        if text.contains("=") {
            for (key, value) in try CommaFields.pairs(text) {
                guard let value, !value.isEmpty else { throw ApusError(.invalidArgument, "\(key) has no value; write \(key)=VALUE") }
                switch key {
                case "source", "src": source = value
                case "target": target.name = value
                case "uid": target.uid = value
                case "gid": target.gid = value
                case "mode":
                    guard let mode = UInt64(value, radix: 8), mode <= 0o7777 else {
                        throw ApusError(.invalidArgument, "mode=\(value): write permissions in octal, such as 0400")
                    }
                    target.mode = mode
                default: throw ApusError(.invalidArgument, "\(key) is not known here; the keys are source, target, uid, gid and mode")
                }
            }
        } else {
            source = text
        }
        guard !source.isEmpty else { throw ApusError(.invalidArgument, "a source is needed: the name of what the service is to have") }
        if target.name.isEmpty { target.name = source }
        return (source, target)
    }
}
