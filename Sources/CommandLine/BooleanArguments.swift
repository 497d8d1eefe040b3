/// `--detach=true` and `--init=false`, as many scripts write them.
enum BooleanArguments {
    private static let names: Set<String> = [
        "accept-nodes", "all", "all-tags", "autolock", "detach", "details", "follow", "force", "init", "interactive", "latest", "no-healthcheck", "no-resolve",
        "no-resolve-image", "no-trunc", "pretty", "privileged", "publish-all", "quiet", "raw", "read-only", "rm", "rollback", "rotate", "size", "stale",
        "timestamps", "tty", "wait", "with-registry-auth",
    ]
    private static let invertible: Set<String> = ["accept-nodes", "autolock", "init", "read-only", "tty"]
    private static let shortNames: Set<Character> = ["d", "i", "q", "t", "P"]
    /// Commands whose arguments behind the image belong to the container.
    private static let passing: [[String]] = [["run"], ["create"], ["container", "run"], ["container", "create"], ["service", "create"]]

    /// True is the flag alone; false is `--no-…` where that has a meaning, else nothing. What belongs to a container stays.
    static func rewritten(_ arguments: [String]) -> [String] {
        let end = ownEnd(arguments)
        return arguments[..<end].flatMap { argument -> [String] in
            guard argument.hasPrefix("--"), let separator = argument.firstIndex(of: "=") else { return [argument] }
            let name = String(argument[..<separator].dropFirst(2))
            guard names.contains(name), let value = try? CommaFields.boolean(name, String(argument[argument.index(after: separator)...])) else {
                return [argument]
            }
            if value { return ["--\(name)"] }
            return invertible.contains(name) ? ["--no-\(name)"] : []
        } + arguments[end...]
    }

    /// Where the arguments of the container begin.
    private static func ownEnd(_ arguments: [String]) -> Int {
        let terminator = arguments.firstIndex(of: "--") ?? arguments.endIndex
        guard let command = passing.first(where: { arguments.starts(with: $0) }) else { return terminator }
        var index = command.count
        while index < terminator {
            let argument = arguments[index]
            guard argument.hasPrefix("-"), argument.count > 1 else { return index }
            let takesNext: Bool
            if argument.hasPrefix("--") {
                let name = String(argument.dropFirst(2))
                takesNext = !name.contains("=") && !names.contains(name) && !(name.hasPrefix("no-") && invertible.contains(String(name.dropFirst(3))))
            } else {
                // `-dit` are three flags, `-p80:80` is a flag with its value, and `-p` takes the next word.
                takesNext =
                    argument.last.map { !shortNames.contains($0) } ?? false && argument.dropFirst().dropLast().allSatisfy { shortNames.contains($0) }
            }
            index += takesNext ? 2 : 1
        }
        return min(index, terminator)
    }
}
