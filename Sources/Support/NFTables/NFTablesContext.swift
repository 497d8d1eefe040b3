import CNFTables
import PluginAPI

/// A context of libnftables: a netlink socket and buffers. Used on the thread of ``NFTablesThread`` alone.
struct NFTablesContext: Sendable {
    nonisolated(unsafe) private let pointer: OpaquePointer

    /// - Throws: `unavailable` when libnftables gives none.
    init() throws(ApusError) {
        guard let pointer = nft_ctx_new(UInt32(NFT_CTX_DEFAULT)) else {
            throw ApusError(.unavailable, "libnftables gives no context; is this process root, and does the kernel have nf_tables?")
        }
        guard nft_ctx_buffer_output(pointer) == 0, nft_ctx_buffer_error(pointer) == 0 else {
            nft_ctx_free(pointer)
            throw ApusError(.failed, "libnftables cannot buffer its output: out of memory")
        }
        self.pointer = pointer
    }

    /// The last use.
    func free() { nft_ctx_free(pointer) }

    /// As ``NFTables/run(_:json:)``.
    func run(_ commands: String, json: Bool) throws(ApusError) -> String {
        nft_ctx_output_set_flags(pointer, json ? UInt32(NFT_CTX_OUTPUT_JSON) : 0)
        let code = nft_run_cmd_from_buffer(pointer, commands)
        // Reading a buffer empties it: both must be read, or the next call would give them again.
        let output = nft_ctx_get_output_buffer(pointer).map { String(cString: $0) } ?? ""
        let complaint = nft_ctx_get_error_buffer(pointer).map { String(cString: $0) } ?? ""
        guard code == 0 else { throw NFTables.error(complaint) }
        return output
    }
}
