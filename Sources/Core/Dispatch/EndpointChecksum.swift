import Coding
import PluginAPI
import Wire

/// The checksum of a table: the sum, modulo 2^64, of a hash of each of its entries, so that it follows the table from change to change and
/// does not depend on an order. `Dispatch.proto` has the definition, which never changes.
///
/// Source: http://www.isthe.com/chongo/tech/comp/fnv/ (FNV-1a), and SplitMix64 (Steele and others, 2014) for the mixing.
enum EndpointChecksum {
    /// What is known of the bytes of an entry.
    struct Digest: Sendable, Hashable {
        var hash: UInt64
        /// Bytes.
        var size: Int
    }

    static func digest<Entry: EndpointEntry>(_ entry: Entry) -> Digest {
        let bytes = ProtobufFields.encode(entry)
        return Digest(hash: hash(EndpointKey(Entry.kind, entry.id).text, bytes), size: bytes.count)
    }

    static func hash(_ key: String, _ bytes: [UInt8]) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func take(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        for byte in key.utf8 { take(byte) }
        take(0)
        for byte in bytes { take(byte) }
        hash = (hash ^ (hash >> 30)) &* 0xbf58_476d_1ce4_e5b9
        hash = (hash ^ (hash >> 27)) &* 0x94d0_49bb_1331_11eb
        return hash ^ (hash >> 31)
    }
}

extension EndpointTable {
    /// Of all entries.
    var checksum: UInt64 {
        func sum(_ entries: some Sequence<some EndpointEntry>) -> UInt64 { entries.reduce(0) { $0 &+ EndpointChecksum.digest($1).hash } }
        return sum(nodes.values) &+ sum(networks.values) &+ sum(services.values) &+ sum(tasks.values)
    }
}
