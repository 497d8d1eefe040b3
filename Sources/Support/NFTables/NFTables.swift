import CNFTables
import Glibc
import PluginAPI
import Synchronization

/// The nftables of one network namespace, by libnftables.
///
/// A context keeps its netlink socket: closing one after something was deleted waits for the kernel's clean-up (10 ms or more), so it pays
/// to keep a context for as long as the namespace is used. All calls must come from threads that are in the namespace in which the context was
/// made, because libnftables opens its socket again after some errors.
public final class NFTables: Sendable {
    private struct Context: ~Copyable {
        nonisolated(unsafe) let pointer: OpaquePointer

        deinit { nft_ctx_free(pointer) }
    }

    private let context: Mutex<Context>

    /// Opens the nftables of the calling thread's namespace.
    /// - Throws: `unavailable` when libnftables gives no context.
    public init() throws(ApusError) {
        guard let pointer = nft_ctx_new(UInt32(NFT_CTX_DEFAULT)) else {
            throw ApusError(.unavailable, "libnftables gives no context; is this process root, and does the kernel have nf_tables?")
        }
        guard nft_ctx_buffer_output(pointer) == 0, nft_ctx_buffer_error(pointer) == 0 else {
            nft_ctx_free(pointer)
            throw ApusError(.failed, "libnftables cannot buffer its output: out of memory")
        }
        context = Mutex(Context(pointer: pointer))
    }

    /// Runs commands in the language of nft(8) as one transaction: all of them are in force afterwards, or none.
    ///
    /// - Returns: what `list` commands print.
    /// - Throws: `notFound`, `conflict`, `permissionDenied` or `unavailable` by the kernel's reason, else `failed`; the message has what libnftables says first.
    @discardableResult
    public func run(_ commands: String, json: Bool = false) throws(ApusError) -> String {
        let result: Result<String, ApusError> = context.withLock { context in
            nft_ctx_output_set_flags(context.pointer, json ? UInt32(NFT_CTX_OUTPUT_JSON) : 0)
            let code = nft_run_cmd_from_buffer(context.pointer, commands)
            // Reading a buffer empties it: both must be read, or the next call would give them again.
            let output = nft_ctx_get_output_buffer(context.pointer).map { String(cString: $0) } ?? ""
            let complaint = nft_ctx_get_error_buffer(context.pointer).map { String(cString: $0) } ?? ""
            return code == 0 ? .success(output) : .failure(Self.error(complaint))
        }
        return try result.get()
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
