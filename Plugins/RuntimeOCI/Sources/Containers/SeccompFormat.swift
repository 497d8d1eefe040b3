import Coding
import PluginAPI

extension SeccompProfile {
    /// Reads a profile in Docker's JSON format: `archMap` or `architectures`, `syscalls` with `names` or `name`, `includes`, `excludes`.
    init(dockerFormat text: String) throws(ApusError) {
        let json: JSONValue
        do throws(ApusError) { json = try JSONValue.parse(text) } catch { throw error.during("decoding seccomp profile failed") }
        guard let action = json["defaultAction"]?.string else {
            throw ApusError(.invalidArgument, "decoding seccomp profile failed: \"defaultAction\" is missing")
        }
        let map = json["archMap"]?.array ?? []
        let plain = json["architectures"]?.array ?? []
        guard map.isEmpty || plain.isEmpty else {
            throw ApusError(
                .invalidArgument, "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'")
        }
        self.init(defaultAction: try Self.action(action), defaultErrorNumber: json["defaultErrnoRet"]?.integer, architectures: [:], rules: [])
        for entry in map {
            guard let name = entry["architecture"]?.string else { continue }
            architectures[name] = (entry["subArchitectures"]?.array ?? []).compactMap(\.string)
        }
        plainArchitectures = plain.compactMap(\.string)
        flags = (json["flags"]?.array ?? []).compactMap(\.string)
        for call in json["syscalls"]?.array ?? [] { rules.append(try Self.rule(call)) }
    }

    private static func rule(_ json: JSONValue) throws(ApusError) -> SeccompRule {
        var names = (json["names"]?.array ?? []).compactMap(\.string)
        if let name = json["name"]?.string, !name.isEmpty {
            guard names.isEmpty else {
                throw ApusError(.invalidArgument, "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
            }
            names = [name]
        }
        var rule = SeccompRule(names: names)
        rule.action = try action(json["action"]?.string ?? "")
        rule.errorNumber = json["errnoRet"]?.integer
        for argument in json["args"]?.array ?? [] {
            guard let index = argument["index"]?.integer, (0...5).contains(index), let comparison = argument["op"]?.string else {
                throw ApusError(.invalidArgument, "the seccomp profile has an argument without index or op for \(names.joined(separator: ", "))")
            }
            rule.arguments.append(
                .init(
                    index: index, value: UInt64(bitPattern: argument["value"]?.integer ?? 0),
                    secondValue: UInt64(bitPattern: argument["valueTwo"]?.integer ?? 0), comparison: comparison))
        }
        rule.includes = condition(json["includes"])
        rule.excludes = condition(json["excludes"])
        return rule
    }

    private static func condition(_ json: JSONValue?) -> SeccompRule.Condition {
        .init(
            capabilities: (json?["caps"]?.array ?? []).compactMap(\.string), architectures: (json?["arches"]?.array ?? []).compactMap(\.string),
            minimumKernel: json?["minKernel"]?.string)
    }

    private static func action(_ text: String) throws(ApusError) -> String {
        let known = ["KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY"].map { "SCMP_ACT_\($0)" }
        guard known.contains(text) else { throw ApusError(.invalidArgument, "the seccomp profile has an unknown action: \"\(text)\"") }
        return text
    }
}
