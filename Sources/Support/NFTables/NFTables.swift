import PluginAPI

/// The nftables of one network namespace, by libnftables.
///
/// A context keeps its netlink socket: closing one after something was deleted waits for the kernel's clean-up (10 ms or more), so it pays
/// to keep this for as long as the namespace is used. Where too many are kept already, each call has a context of its own. All calls must come
/// from threads that are in the namespace in which this was made, because libnftables opens its socket again after some errors.
public final class NFTables: Sendable {
    private let thread: NFTablesThread
    /// `nil` where each call has its own.
    private let context: NFTablesContext?

    /// Opens the nftables of the calling thread's namespace.
    /// - Throws: `unavailable` when libnftables gives no context.
    public init() throws(ApusError) {
        thread = try NFTablesThread.shared()
        context = try thread.open()
    }

    deinit { if let context { thread.close(context) } }

    /// Runs commands in the language of nft(8) as one transaction: all of them are in force afterwards, or none.
    ///
    /// - Returns: what `list` commands print.
    /// - Throws: `notFound`, `conflict`, `permissionDenied` or `unavailable` by the kernel's reason, else `failed`; the message has what libnftables says first.
    @discardableResult
    public func run(_ commands: String, json: Bool = false) throws(ApusError) -> String {
        try thread.run { [context] () throws(ApusError) in
            if let context { return try context.run(commands, json: json) }
            let context = try NFTablesContext()
            defer { context.free() }
            return try context.run(commands, json: json)
        }
    }

    /// The error for what libnftables printed: its first complaint, without the position and the echo of the input.
    static func error(_ complaint: String) -> ApusError {
        let lines = complaint.split(separator: "\n").map(String.init)
        let line = lines.first { $0.contains("rror:") } ?? lines.first ?? "no reason given"
        let reason = line.index(behind: "rror: ").map { String(line[$0...]) } ?? line
        let echo = lines.firstIndex(of: line).flatMap { lines.indices.contains($0 + 1) ? lines[$0 + 1] : nil } ?? ""
        let code: ApusError.Code =
            if reason.contains("No such file or directory") {
                .notFound
            } else if reason.contains("File exists") || reason.contains("Device or resource busy") {
                .conflict
            } else if reason.contains("Operation not permitted") {
                .permissionDenied
            } else if reason.contains("not supported") {
                .unavailable
            } else {
                .failed
            }
        return ApusError(code, "nftables: \(reason)" + (echo.isEmpty ? "" : " in \"\(echo.prefix(200))\""))
    }
}

extension String {
    /// The place behind the first occurrence of `text`.
    fileprivate func index(behind text: String) -> String.Index? {
        indices.first { self[$0...].hasPrefix(text) }.map { index($0, offsetBy: text.count) }
    }
}

extension NFTables {
    /// A base chain on the forward hook that drops what no rule accepts.
    public struct DroppingChain: Sendable, Hashable {
        /// Family and name, such as `ip filter`.
        public var table: String
        public var chain: String
    }

    /// The forward chains with a policy of drop, such as dockerd and some firewalls leave. An accept in another table does not overrule them.
    public func droppingForwardChains() throws(ApusError) -> [DroppingChain] {
        Self.droppingForwardChains(inListing: try run("list chains"))
    }

    static func droppingForwardChains(inListing listing: String) -> [DroppingChain] {
        var table = ""
        var chain = ""
        var found: [DroppingChain] = []
        for line in listing.split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" || $0 == ";" }).map(String.init)
            if words.first == "table", words.count >= 3 {
                table = words[1] + " " + words[2]
            } else if words.first == "chain", words.count >= 2 {
                chain = words[1]
            } else if let hook = words.firstIndex(of: "hook"), words.indices.contains(hook + 1), words[hook + 1] == "forward",
                let policy = words.firstIndex(of: "policy"), words.indices.contains(policy + 1), words[policy + 1] == "drop",
                !table.hasPrefix("bridge "), !table.hasPrefix("netdev ")
            {
                found.append(DroppingChain(table: table, chain: chain))
            }
        }
        return found
    }
}
