public import PluginAPI

/// A part of a snapshot on its way to another member.
public struct SnapshotChunk: Sendable, Hashable {
    /// Bytes of one chunk at most: 1 MiB.
    public static let sizeLimit = 1 << 20

    /// At most `sizeLimit`.
    public var bytes: [UInt8]
    /// Whether the state machine's piece is complete with this: the other side gets the pieces as they were written.
    public var endsPiece: Bool

    public init(bytes: [UInt8], endsPiece: Bool) {
        self.bytes = bytes
        self.endsPiece = endsPiece
    }
}

/// The content of a durable snapshot, read from disk chunk by chunk as it is asked for. It can be iterated once.
public struct SnapshotChunks: AsyncSequence, Sendable {
    /// Chunks, in order.
    public typealias Element = SnapshotChunk
    /// `failed` or `corrupt` when the file cannot be read.
    public typealias Failure = ApusError

    private let source: SnapshotChunkSource

    init(_ reader: SnapshotFileReader) { source = SnapshotChunkSource(reader) }

    /// To be called once.
    public func makeAsyncIterator() -> Iterator { Iterator(source: source) }

    /// Reads the file on a thread of its own.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let source: SnapshotChunkSource
        private var worker: Worker.Owner?

        fileprivate init(source: SnapshotChunkSource) { self.source = source }

        /// The next chunk, `nil` at the end.
        /// - Throws: `corrupt` when the file is damaged.
        public mutating func next(isolation actor: isolated (any Actor)? = #isolation) async throws(ApusError) -> SnapshotChunk? {
            let worker: Worker.Owner
            if let existing = self.worker { worker = existing } else { worker = try Worker.Owner("raft-send") }
            self.worker = worker
            let source = source
            return try await worker.run { () throws(ApusError) -> SnapshotChunk? in try source.next() }
        }
    }
}

/// Cuts pieces into chunks. Used by one thread at a time: the one that makes it, then the iterator's worker.
private final class SnapshotChunkSource: @unchecked Sendable {
    private let reader: SnapshotFileReader
    private var piece: [UInt8] = []
    private var offset = 0

    init(_ reader: SnapshotFileReader) { self.reader = reader }

    func next() throws(ApusError) -> SnapshotChunk? {
        if offset >= piece.count {
            guard let next = try reader.nextPiece() else { return nil }
            piece = next
            offset = 0
        }
        let end = Swift.min(piece.count, offset + SnapshotChunk.sizeLimit)
        defer { offset = end }
        return SnapshotChunk(bytes: Array(piece[offset..<end]), endsPiece: end == piece.count)
    }
}
