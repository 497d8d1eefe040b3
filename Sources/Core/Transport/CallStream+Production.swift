import GRPCCore
import NIOCore
import Synchronization

/// How the event loop takes what a call has to send.
extension CallStream {
    /// What the connection is to do for a call that was written to.
    enum Errand {
        /// Send the headers, then what follows.
        case begin(Metadata)
        /// The whole answer is a status.
        case statusOnly(Status, Metadata)
        /// More can be sent.
        case resume
        case nothing
    }

    func errand() -> Errand {
        shared.withLock { shared in
            shared.isScheduled = false
            guard shared.failure == nil else { return .nothing }
            if let head = shared.head {
                shared.head = nil
                hasAnswered = true
                return .begin(head)
            }
            if !hasAnswered {
                hasAnswered = true
                if case .trailers(let status, let metadata)? = shared.outboundEnd { return .statusOnly(status, metadata) }
                return .begin([:])
            }
            return .resume
        }
    }

    /// Fills a frame with messages, their prefixes before them, and wakes writers when there is room again.
    func produce(into buffer: UnsafeMutableRawBufferPointer) -> HTTP2Production {
        let (production, ready) = shared.withLock { shared -> (HTTP2Production, [Waiter]) in
            let count = Self.fill(buffer, &shared)
            shared.unsentBytes -= count
            var ready: [Waiter] = []
            if !shared.writers.isEmpty, shared.unsentBytes <= maximumUnsentBytes {
                ready = shared.writers
                shared.writers = []
            }
            guard shared.messages.isEmpty else { return (.bytes(count), ready) }
            switch shared.outboundEnd {
            case .half?:
                shared.isOutboundSent = true
                return (.last(count), ready)
            case .trailers(let status, let metadata)?:
                shared.isOutboundSent = true
                return (.trailers(count, OutgoingHeaders.trailers(status, metadata)), ready)
            case nil: return (count > 0 ? .bytes(count) : .wait, ready)
            }
        }
        for writer in ready { writer.continuation.resume() }
        return production
    }

    private static func fill(_ buffer: UnsafeMutableRawBufferPointer, _ shared: inout Shared) -> Int {
        var position = 0
        while position < buffer.count, let message = shared.messages.first {
            if shared.sentOfFirst < MessageFraming.prefixLength {
                let prefix = MessageFraming.prefix(length: message.count)
                while shared.sentOfFirst < MessageFraming.prefixLength, position < buffer.count {
                    buffer[position] = prefix[shared.sentOfFirst]
                    position += 1
                    shared.sentOfFirst += 1
                }
                guard shared.sentOfFirst == MessageFraming.prefixLength else { break }
            }
            let offset = shared.sentOfFirst - MessageFraming.prefixLength
            let count = min(message.count - offset, buffer.count - position)
            if count > 0 {
                message.withUnsafeBytes { bytes in
                    UnsafeMutableRawBufferPointer(rebasing: buffer[position..<position + count])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count]))
                }
                position += count
                shared.sentOfFirst += count
            }
            guard shared.sentOfFirst == message.count + MessageFraming.prefixLength else { break }
            shared.messages.removeFirst()
            shared.sentOfFirst = 0
        }
        return position
    }
}
