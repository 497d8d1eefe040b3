import GRPCCore

/// What a caller writes to.
struct ClientCall: ClosableRPCWriterProtocol {
    let stream: CallStream
    let maximumMessageBytes: Int

    func write(_ element: RPCRequestPart<[UInt8]>) async throws {
        switch element {
        case .metadata(let metadata): try stream.write(head: metadata)
        case .message(let bytes): try await stream.write(message: bytes, maximum: maximumMessageBytes)
        }
    }

    func write(contentsOf elements: some Sequence<RPCRequestPart<[UInt8]>>) async throws {
        for element in elements { try await write(element) }
    }

    func finish() async { stream.end(.half) }

    func finish(throwing error: any Error) async {
        stream.endInbound(error as? RPCError ?? RPCError(code: .cancelled, message: "the request could not be written: \(error)"))
        stream.connection.post(.cancel(stream))
    }
}

/// What a caller reads.
struct ResponseParts: AsyncSequence, Sendable {
    typealias Element = RPCResponsePart<[UInt8]>
    typealias Failure = any Error
    let stream: CallStream

    struct AsyncIterator: AsyncIteratorProtocol {
        let stream: CallStream

        mutating func next(isolation actor: isolated (any Actor)?) async throws(any Error) -> RPCResponsePart<[UInt8]>? {
            switch try await stream.next(isolation: actor) {
            case .metadata(let metadata)?: .metadata(metadata)
            case .message(let bytes)?: .message(bytes)
            case .status(let status, let metadata)?: .status(status, metadata)
            case nil: nil
            }
        }

        mutating func next() async throws -> RPCResponsePart<[UInt8]>? { try await next(isolation: nil) }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(stream: stream) }
}
