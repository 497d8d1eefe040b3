import Coding
import PluginAPI
import Raft

/// The state in Raft's snapshots: pieces of objects, each a length of four bytes, little-endian, and an `ObjectRecord`.
/// The first object of all is a `SnapshotHead`.
struct StoreSnapshotSource: SnapshotSource {
    static let formatVersion: UInt64 = 1
    private static let chunkSize = 1 << 20

    let snapshot: StoreSnapshot

    func write(_ sink: ([UInt8]) throws(ApusError) -> Void) throws(ApusError) {
        var chunk: [UInt8] = []
        func add(_ bytes: [UInt8]) throws(ApusError) {
            if !chunk.isEmpty, chunk.count + bytes.count + 4 > Self.chunkSize {
                try sink(chunk)
                chunk = []
            }
            withUnsafeBytes(of: UInt32(clamping: bytes.count).littleEndian) { chunk.append(contentsOf: $0) }
            chunk.append(contentsOf: bytes)
        }
        try add(ProtobufFields.encode(SnapshotHead(format: Self.formatVersion, version: snapshot.version)))
        try snapshot.forEachObject { object throws(ApusError) in try add(ProtobufFields.encode(ObjectRecord(object))) }
        try sink(chunk)
    }
}

struct SnapshotHead: FieldCoded {
    var format: UInt64 = 0
    var version = Version()

    init() {}

    init(format: UInt64, version: Version) {
        self.format = format
        self.version = version
    }

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Format", &format)
        try coder.field(2, "Version", &version)
    }
}

extension StoreSnapshot {
    /// Reads what `StoreSnapshotSource` wrote.
    init(decoding chunks: [[UInt8]]) throws(ApusError) {
        self.init()
        var isFirst = true
        for chunk in chunks {
            var offset = 0
            while offset < chunk.count {
                guard chunk.count - offset >= 4 else { throw ApusError(.corrupt, "a snapshot ends inside of a length") }
                let length = Int(chunk.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) })
                guard chunk.count - offset - 4 >= length else { throw ApusError(.corrupt, "a snapshot ends inside of an object") }
                let bytes = chunk[offset + 4..<offset + 4 + length]
                offset += 4 + length
                if isFirst {
                    let head = try ProtobufFields.decode(SnapshotHead.self, from: bytes)
                    guard head.format == StoreSnapshotSource.formatVersion else {
                        throw ApusError(
                            .failed, "the state has format \(head.format), and this version of Apus reads format \(StoreSnapshotSource.formatVersion)"
                        )
                    }
                    version = head.version
                    isFirst = false
                } else {
                    guard let object = try ProtobufFields.decode(ObjectRecord.self, from: bytes).object else {
                        throw ApusError(.corrupt, "a snapshot holds an object of an unknown kind")
                    }
                    put(object)
                }
            }
        }
        guard !isFirst else { throw ApusError(.corrupt, "a snapshot is empty") }
    }
}
