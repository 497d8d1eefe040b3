/// What came back from an upstream server.
enum UpstreamAnswer: Hashable {
    /// Not the answer to what was asked: an error of somebody's, or an attempt to deceive.
    case foreign
    /// The server could not do it; another one may. With its code.
    case failure(UInt16)
    /// The server does not want such a question, and says so without repeating it.
    case formatError
    /// Good, bad or empty: what the client is to see.
    case answer(isTruncated: Bool)

    /// Looks at a message that came from the server's address.
    init(_ bytes: [UInt8], id: UInt16, question: Question) {
        var reader = MessageReader(bytes)
        do throws(MalformedMessage) {
            let header = try MessageHeader(&reader)
            guard header.isResponse, header.operation == 0, header.id == id else {
                self = .foreign
                return
            }
            // Some servers do not repeat a question that they cannot read.
            let isRepeated = header.questions == 1
            if isRepeated {
                guard try reader.question().matches(question) else {
                    self = .foreign
                    return
                }
            } else if header.questions != 0 || header.code == ResponseCode.noError || header.code == ResponseCode.nameError {
                self = .foreign
                return
            }
            switch header.code {
            case ResponseCode.serverFailure, ResponseCode.notImplemented, ResponseCode.refused: self = .failure(header.code)
            case ResponseCode.formatError where !isRepeated: self = .formatError
            default: self = isRepeated ? .answer(isTruncated: header.isTruncated) : .failure(header.code)
            }
        } catch {
            self = .foreign
        }
    }
}
