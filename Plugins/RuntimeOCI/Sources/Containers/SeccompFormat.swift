import Coding
import PluginAPI

extension SeccompProfile {
    /// Reads a profile in Docker's JSON format: `archMap` or `architectures`, `syscalls` with `names` or `name`, `includes`, `excludes`.
    ///
    /// A value of the wrong kind is refused: a filter without a part of what was asked for guards less, or forbids more.
    init(dockerFormat text: String) throws(ApusError) {
        do throws(ApusError) {
            try self.init(json: .parse(text))
        } catch {
            throw ApusError(error.code, "decoding seccomp profile failed: \(error.message)")
        }
    }

    private init(json: JSONValue) throws(ApusError) {
        let profile = try Part(json, "the profile")
        guard let action = try profile.string("defaultAction") else { throw ApusError(.invalidArgument, "\"defaultAction\" is missing") }
        let map = try profile.parts("archMap")
        let plain = try profile.strings("architectures")
        guard map.isEmpty || plain.isEmpty else {
            throw ApusError(
                .invalidArgument, "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'")
        }
        self.init(defaultAction: try Self.action(action), defaultErrorNumber: try profile.integer("defaultErrnoRet"), architectures: [:], rules: [])
        for entry in map {
            guard let name = try entry.string("architecture") else { throw ApusError(.invalidArgument, "\(entry.name) names no architecture") }
            architectures[name] = try entry.strings("subArchitectures")
        }
        plainArchitectures = plain
        flags = try profile.strings("flags")
        for call in try profile.parts("syscalls") { rules.append(try Self.rule(call)) }
    }

    private static func rule(_ call: Part) throws(ApusError) -> SeccompRule {
        var names = try call.strings("names")
        if let name = try call.string("name"), !name.isEmpty {
            guard names.isEmpty else {
                throw ApusError(.invalidArgument, "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
            }
            names = [name]
        }
        var rule = SeccompRule(names: names)
        rule.action = try action(call.string("action") ?? "")
        rule.errorNumber = try call.integer("errnoRet")
        for argument in try call.parts("args") {
            guard let index = try argument.integer("index"), (0...5).contains(index), let comparison = try argument.string("op") else {
                throw ApusError(.invalidArgument, "the seccomp profile has an argument without index or op for \(names.joined(separator: ", "))")
            }
            guard comparisons.contains(comparison) else {
                throw ApusError(.invalidArgument, "the seccomp profile has an unknown comparison: \"\(comparison)\"")
            }
            rule.arguments.append(
                .init(
                    index: index, value: try argument.unsigned("value"), secondValue: try argument.unsigned("valueTwo"), comparison: comparison))
        }
        rule.includes = try condition(call.part("includes"))
        rule.excludes = try condition(call.part("excludes"))
        return rule
    }

    private static func condition(_ part: Part?) throws(ApusError) -> SeccompRule.Condition {
        guard let part else { return .init() }
        let kernel = try part.string("minKernel")
        if let kernel, KernelVersion(kernel) == nil {
            throw ApusError(.invalidArgument, "the seccomp profile has a minKernel that is no version: \"\(kernel)\"")
        }
        return .init(capabilities: try part.strings("caps"), architectures: try part.strings("arches"), minimumKernel: kernel)
    }

    private static let actions = Set(
        ["KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY"].map { "SCMP_ACT_\($0)" })
    private static let comparisons = Set(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"].map { "SCMP_CMP_\($0)" })

    private static func action(_ text: String) throws(ApusError) -> String {
        guard actions.contains(text) else { throw ApusError(.invalidArgument, "the seccomp profile has an unknown action: \"\(text)\"") }
        return text
    }

    /// An object of a profile; what is absent or null is nothing.
    private struct Part {
        let object: JSONObject
        /// For messages.
        let name: String

        init(_ json: JSONValue, _ name: String) throws(ApusError) {
            guard let object = json.object else { throw ApusError(.invalidArgument, "\(name) is \(json.kind), not an object") }
            self.object = object
            self.name = name
        }

        private func value(_ key: String) -> JSONValue? { object[key].flatMap { $0.isNull ? nil : $0 } }

        private func wrong(_ key: String, _ value: JSONValue, _ expected: String) -> ApusError {
            ApusError(.invalidArgument, "\"\(key)\" of \(name) is \(value.kind), not \(expected)")
        }

        func string(_ key: String) throws(ApusError) -> String? {
            guard let value = value(key) else { return nil }
            guard let string = value.string else { throw wrong(key, value, "a string") }
            return string
        }

        func integer(_ key: String) throws(ApusError) -> Int64? {
            guard let value = value(key) else { return nil }
            guard let integer = value.integer else { throw wrong(key, value, "a whole number") }
            return integer
        }

        /// 0 when absent.
        func unsigned(_ key: String) throws(ApusError) -> UInt64 {
            switch value(key) {
            case nil: return 0
            case .unsigned(let value)?: return value
            case let value?:
                guard let integer = value.integer.flatMap({ UInt64(exactly: $0) }) else { throw wrong(key, value, "a whole number from 0") }
                return integer
            }
        }

        private func array(_ key: String) throws(ApusError) -> [JSONValue] {
            guard let value = value(key) else { return [] }
            guard let array = value.array else { throw wrong(key, value, "an array") }
            return array
        }

        func strings(_ key: String) throws(ApusError) -> [String] {
            var strings: [String] = []
            for element in try array(key) {
                guard let string = element.string else { throw wrong(key, element, "an array of strings") }
                strings.append(string)
            }
            return strings
        }

        func part(_ key: String) throws(ApusError) -> Part? {
            guard let value = value(key) else { return nil }
            return try Part(value, "\"\(key)\"")
        }

        func parts(_ key: String) throws(ApusError) -> [Part] {
            var parts: [Part] = []
            for element in try array(key) { parts.append(try Part(element, "an element of \"\(key)\"")) }
            return parts
        }
    }
}
