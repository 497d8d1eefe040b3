import PluginAPI

/// Whom a container's process runs as.
struct ProcessUser: Sendable, Hashable {
    var user: UInt32 = 0
    var group: UInt32 = 0
    var additionalGroups: [UInt32] = []
    var home = "/"

    /// Resolves `name`, `uid`, `name:group`, `uid:gid` in the texts of `/etc/passwd` and `/etc/group`. Empty: root.
    /// - Parameter groups: further groups, by name or number.
    static func resolve(_ text: String, groups: [String], passwd: String, group groupFile: String) throws(ApusError) -> ProcessUser {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let userPart = parts.first ?? ""
        let groupPart = parts.count > 1 ? parts[1] : ""
        let users = lines(passwd, fields: 6)
        let known = lines(groupFile, fields: 3)
        var result = ProcessUser()

        let wanted = userPart.isEmpty ? "0" : userPart
        var name: String?
        let isWhole = { (entry: [String]) in number(entry[2]) != nil && number(entry[3]) != nil }
        if let entry = users.first(where: { $0[0] == wanted && isWhole($0) }) ?? users.first(where: { $0[2] == wanted && isWhole($0) }),
            let user = number(entry[2]), let group = number(entry[3])
        {
            name = entry[0]
            result.user = user
            result.group = group
            if !entry[5].isEmpty { result.home = entry[5] }
        } else if let number = number(wanted) {
            result.user = number
        } else {
            throw ApusError(.invalidArgument, "unable to find user \(userPart): no matching entries in passwd file")
        }

        if groupPart.isEmpty {
            if let name {
                for entry in known where entry.count > 3 && entry[3].split(separator: ",").contains(Substring(name)) {
                    guard let number = number(entry[2]), !result.additionalGroups.contains(number) else { continue }
                    result.additionalGroups.append(number)
                }
            }
        } else {
            result.group = try number(ofGroup: groupPart, in: known)
        }
        // Also among the others: a process that drops the others must not lose what the group is refused.
        result.additionalGroups.removeAll { $0 == result.group }
        result.additionalGroups.insert(result.group, at: 0)
        for group in groups {
            let number = try number(ofGroup: group, in: known)
            if !result.additionalGroups.contains(number) { result.additionalGroups.append(number) }
        }
        return result
    }

    /// Resolves in a container's own files.
    static func resolve(_ text: String, groups: [String], root: String) throws(ApusError) -> ProcessUser {
        try resolve(
            text, groups: groups, passwd: RootPath.text("/etc/passwd", in: root), group: RootPath.text("/etc/group", in: root))
    }

    private static func number(ofGroup text: String, in known: [[String]]) throws(ApusError) -> UInt32 {
        if let number = known.lazy.filter({ $0[0] == text }).compactMap({ number($0[2]) }).first ?? number(text) { return number }
        throw ApusError(.invalidArgument, "unable to find group \(text): no matching entries in group file")
    }

    private static func lines(_ text: String, fields: Int) -> [[String]] {
        // By bytes: as characters, a separator and a mark that combines with it are one.
        text.utf8.split(separator: UInt8(ascii: "\n")).compactMap { line in
            let parts = line.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
            return parts.count >= fields ? parts : nil
        }
    }

    /// Digits without a sign, up to what the kernel takes everywhere.
    private static func number(_ text: String) -> UInt32? {
        guard text.utf8.allSatisfy({ (48...57).contains($0) }), let number = UInt32(text), number <= Int32.max else { return nil }
        return number
    }
}
