import PluginAPI

/// `NAME=value` flags: environment and labels.
enum KeyValue {
    /// `--env`: a name alone takes the value of the caller's environment, and is left out when there is none.
    static func environment(_ entries: [String], from caller: [String: String]) throws(ApusError) -> [String] {
        var result: [String] = []
        for entry in entries {
            let (name, value) = entry.cut(at: "=")
            guard !name.isEmpty else { throw ApusError(.invalidArgument, "--env \(entry): the name is empty; write NAME=value") }
            guard !name.contains(where: \.isWhitespace) else { throw ApusError(.invalidArgument, "--env \(entry): the name has a space") }
            if value != nil {
                result.append(entry)
            } else if let inherited = caller[name] {
                result.append("\(name)=\(inherited)")
            }
        }
        return result
    }

    /// The entries of an `--env-file` or `--label-file`: one a line; empty lines and lines that begin with `#` are left out.
    static func lines(ofFile text: String) -> [String] {
        text.split(whereSeparator: \.isNewline).map { line in
            String(line.drop(while: \.isWhitespace))
        }.filter { !$0.isEmpty && !$0.hasPrefix("#") }
    }

    /// Labels and other maps; a key alone has an empty value.
    static func map(_ entries: [String], flag: String) throws(ApusError) -> [String: String] {
        var result: [String: String] = [:]
        for entry in entries {
            let (key, value) = entry.cut(at: "=")
            guard !key.isEmpty else { throw ApusError(.invalidArgument, "\(flag) \(entry): the key is empty; write key=value") }
            result[key] = value ?? ""
        }
        return result
    }
}

/// `--filter` flags as the API takes them.
enum Filters {
    static func parse(_ entries: [String]) throws(ApusError) -> [String: [String]] {
        var result: [String: [String]] = [:]
        for entry in entries {
            let (key, value) = entry.cut(at: "=")
            guard let value, !key.trimmed.isEmpty else {
                throw ApusError(.invalidArgument, "--filter \(entry): write it as key=value, such as name=frontend")
            }
            result[key.trimmed.lowercased(), default: []].append(value.trimmed)
        }
        return result
    }
}

/// `--ulimit`: `nofile=1024` or `nofile=1024:2048`, soft and hard; -1 is unlimited.
enum UlimitFlag {
    private static let names: Set<String> = [
        "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
    ]

    static func parse(_ text: String) throws(ApusError) -> Ulimit {
        let (name, value) = text.cut(at: "=")
        guard let value else { throw ApusError(.invalidArgument, "write a limit as name=soft[:hard], such as nofile=1024:2048") }
        guard names.contains(name) else {
            throw ApusError(.invalidArgument, "\"\(name)\" is not a limit; they are \(names.sorted().joined(separator: ", "))")
        }
        let (softText, hardText) = value.cut(at: ":")
        guard let soft = Int64(softText), let hard = Int64(hardText ?? softText), soft >= -1, hard >= -1 else {
            throw ApusError(.invalidArgument, "\"\(value)\" is not a number, or two with a colon between")
        }
        guard hard == -1 || soft != -1 && soft <= hard else {
            throw ApusError(.invalidArgument, "the soft limit \(soft) is above the hard limit \(hard)")
        }
        var limit = Ulimit()
        limit.name = name
        limit.soft = soft
        limit.hard = hard
        return limit
    }
}

/// `--host` of services and `--add-host` of containers: `name:address`.
enum HostFlag {
    static func parse(_ text: String) throws(ApusError) -> (name: String, address: String) {
        let (name, address) = text.contains("=") ? text.cut(at: "=") : text.cut(at: ":")
        guard let address, !name.isEmpty, !name.contains(where: \.isWhitespace) else {
            throw ApusError(.invalidArgument, "\"\(text)\" is not name:address")
        }
        let bare = address.hasPrefix("[") && address.hasSuffix("]") ? String(address.dropFirst().dropLast()) : address
        guard bare == "host-gateway" || IPAddress(bare) != nil else { throw ApusError(.invalidArgument, "\"\(bare)\" is not an IP address") }
        return (name, bare)
    }

    /// A line of a service's `/etc/hosts`.
    static func parseLine(_ text: String) throws(ApusError) -> String {
        let (name, address) = try parse(text)
        return "\(address) \(name)"
    }
}

/// `--network` of a service: a name, or `name=front,alias=web,driver-opt=key=value`.
enum NetworkFlag {
    static func parse(_ text: String) throws(ApusError) -> NetworkAttachmentSpec {
        var attachment = NetworkAttachmentSpec()
        guard text.contains("=") else {
            attachment.target = text
            return attachment
        }
        for (key, value) in try CommaFields.pairs(text) {
            guard let value, !value.isEmpty else { throw ApusError(.invalidArgument, "\(key) has no value; write \(key)=VALUE") }
            switch key {
            case "name": attachment.target = value
            case "alias": attachment.aliases.append(value)
            case "driver-opt":
                let (option, content) = value.cut(at: "=")
                attachment.driverOptions[option] = content ?? ""
            default: throw ApusError(.invalidArgument, "\(key) is not known here; the keys are name, alias and driver-opt")
            }
        }
        guard !attachment.target.isEmpty else { throw ApusError(.invalidArgument, "\"\(text)\" has no name") }
        return attachment
    }
}

/// `--placement-pref spread=node.labels.rack`.
enum PreferenceFlag {
    static func parse(_ text: String) throws(ApusError) -> PlacementPreference {
        let (strategy, label) = text.cut(at: "=")
        guard strategy == "spread", let label, !label.isEmpty else {
            throw ApusError(.invalidArgument, "\"\(text)\": the one strategy is spread, as in spread=node.labels.rack")
        }
        var preference = PlacementPreference()
        var spread = SpreadOver()
        spread.descriptor = label
        preference.spread = spread
        return preference
    }
}

/// `--generic-resource gpu=2` or `gpu=UUID`.
enum GenericResourceFlag {
    static func parse(_ text: String) throws(ApusError) -> GenericResource {
        let (kind, value) = text.cut(at: "=")
        guard !kind.isEmpty, let value, !value.isEmpty else { throw ApusError(.invalidArgument, "write a resource as kind=amount or kind=name") }
        var resource = GenericResource()
        if let amount = Int64(value) {
            var discrete = DiscreteResource()
            discrete.kind = kind
            discrete.value = amount
            resource.discrete = discrete
        } else {
            var named = NamedResource()
            named.kind = kind
            named.value = value
            resource.named = named
        }
        return resource
    }
}

/// Flags with a closed set of words.
enum WordFlag {
    static func parse<Word: RawRepresentable & CaseIterable>(_ text: String) throws(ApusError) -> Word where Word.RawValue == String {
        guard !text.isEmpty, let word = Word(rawValue: text) else {
            let known = Word.allCases.map(\.rawValue).filter { !$0.isEmpty }
            throw ApusError(.invalidArgument, "it is one of \(known.joined(separator: ", "))")
        }
        return word
    }

    /// A share from 0 to 1.
    static func ratio(_ text: String) throws(ApusError) -> Double {
        guard let value = Double(text), (0...1).contains(value) else { throw ApusError(.invalidArgument, "it is a number from 0 to 1, such as 0.25") }
        return value
    }

    /// `--rollback-failure-action`: a rollback cannot be rolled back.
    static func rollbackFailureAction(_ text: String) throws(ApusError) -> FailureAction {
        let action: FailureAction = try parse(text)
        guard action != .rollback else { throw ApusError(.invalidArgument, "it is one of pause, continue") }
        return action
    }

    /// `--oom-score-adj`.
    static func oomScore(_ text: String) throws(ApusError) -> Int64 {
        guard let value = Int64(text), (-1000...1000).contains(value) else { throw ApusError(.invalidArgument, "it is a number from -1000 to 1000") }
        return value
    }
}
