import GRPCCore

/// What the transport itself reads of a block of headers, and the metadata that is left.
struct IncomingHeaders {
    var metadata = Metadata()
    var method = ""
    var path = ""
    var httpStatus = 0
    var contentType = ""
    var encoding = ""
    var status: Int?
    var message = ""
    /// Names, values and 32 bytes a field (RFC 9113, section 6.5.2).
    var size = 0
    /// A `-bin` value that is not Base64.
    var malformed: String?

    mutating func add(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) {
        let text = String(decoding: value, as: UTF8.self)
        let key = String(decoding: name, as: UTF8.self)
        switch key {
        case ":method": method = text
        case ":path": path = text
        case ":status": httpStatus = Int(text) ?? 0
        case "content-type": contentType = text
        case "grpc-encoding": encoding = text
        case "grpc-status": status = Int(text)
        case "grpc-message": message = MetadataCoding.decodeMessage(text)
        case ":scheme", ":authority", "te", "grpc-accept-encoding": break
        case "grpc-timeout": if MetadataCoding.isUsefulTimeout(text) { metadata.addString(text, forKey: key) }
        default:
            if !MetadataCoding.add(name: key, value: text, to: &metadata) { malformed = key }
        }
    }

    var isGRPC: Bool {
        contentType == "application/grpc" || contentType.hasPrefix("application/grpc+") || contentType.hasPrefix("application/grpc;")
    }

    /// The method that a path names: `/package.Service/Method`.
    var descriptor: MethodDescriptor? {
        guard path.utf8.first == UInt8(ascii: "/"), let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash != path.startIndex else {
            return nil
        }
        let service = path[path.index(after: path.startIndex)..<slash]
        let method = path[path.index(after: slash)...]
        guard !service.isEmpty, !method.isEmpty else { return nil }
        return MethodDescriptor(fullyQualifiedService: String(service), method: String(method))
    }

    /// The status that trailers give, or that the HTTP status stands for.
    var outcome: Status {
        if let status {
            guard let code = Status.Code(rawValue: status) else { return Status(code: .unknown, message: "status \(status): \(message)") }
            return Status(code: code, message: message)
        }
        if httpStatus != 0, httpStatus != 200 { return Status(httpStatusCode: httpStatus) }
        return Status(code: .unknown, message: "the peer ended the call without a status")
    }
}

/// Blocks of headers to send.
enum OutgoingHeaders {
    /// - Throws: `invalidArgument` for metadata that cannot stand in a header.
    static func request(_ descriptor: MethodDescriptor, authority: String, isSecure: Bool, _ metadata: Metadata) throws(RPCError) -> HeaderBlock {
        var block = HeaderBlock()
        block.add(":method", "POST")
        block.add(":scheme", isSecure ? "https" : "http")
        block.add(":path", "/\(descriptor.service.fullyQualifiedService)/\(descriptor.method)")
        block.add(":authority", authority)
        block.add("content-type", "application/grpc")
        block.add("te", "trailers")
        block.add("grpc-accept-encoding", "identity")
        if let key = MetadataCoding.add(metadata, to: &block) {
            throw RPCError(
                code: .invalidArgument, message: "the metadata \"\(key)\" cannot stand in a header: use printable ASCII, or a key that ends in -bin")
        }
        return block
    }

    /// Metadata that cannot stand in a header is left out.
    static func response(_ metadata: Metadata) -> HeaderBlock {
        var block = HeaderBlock()
        block.add(":status", "200")
        block.add("content-type", "application/grpc")
        block.add("grpc-accept-encoding", "identity")
        _ = MetadataCoding.add(metadata, to: &block)
        return block
    }

    static func trailers(_ status: Status, _ metadata: Metadata) -> HeaderBlock {
        var block = HeaderBlock()
        add(status, metadata, to: &block)
        return block
    }

    static func statusOnly(_ status: Status, _ metadata: Metadata) -> HeaderBlock {
        var block = response([:])
        add(status, metadata, to: &block)
        return block
    }

    /// An answer to what is not gRPC.
    static func http(_ code: Int) -> HeaderBlock {
        var block = HeaderBlock()
        block.add(":status", String(code))
        return block
    }

    private static func add(_ status: Status, _ metadata: Metadata, to block: inout HeaderBlock) {
        block.add("grpc-status", String(status.code.rawValue))
        // Longer would not fit the peer's bound on headers.
        if !status.message.isEmpty { block.add("grpc-message", MetadataCoding.encodeMessage(String(status.message.prefix(2_000)))) }
        _ = MetadataCoding.add(metadata, to: &block)
    }
}
