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
        if let entry = users.first(where: { $0[0] == wanted }) ?? users.first(where: { UInt32(wanted) != nil && $0[2] == wanted }),
            let user = UInt32(entry[2]), let group = UInt32(entry[3])
        {
            name = entry[0]
            result.user = user
            result.group = group
            if !entry[5].isEmpty { result.home = entry[5] }
        } else if let number = UInt32(wanted), number <= Int32.max {
            result.user = number
        } else {
            throw ApusError(.invalidArgument, "unable to find user \(userPart): no matching entries in passwd file")
        }

        if groupPart.isEmpty {
            if let name {
                result.additionalGroups = known.compactMap { entry in
                    guard entry.count > 3, entry[3].split(separator: ",").contains(Substring(name)) else { return nil }
                    return UInt32(entry[2])
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
        if let entry = known.first(where: { $0[0] == text }), let number = UInt32(entry[2]) { return number }
        if let number = UInt32(text), number <= Int32.max { return number }
        throw ApusError(.invalidArgument, "unable to find group \(text): no matching entries in group file")
    }

    private static func lines(_ text: String, fields: Int) -> [[String]] {
        text.split(separator: "\n").compactMap { line in
            let parts = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            return parts.count >= fields ? parts : nil
        }
    }
}
