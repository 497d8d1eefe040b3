public import PluginAPI

/// The fields of an HTTP message in their order; names are compared without regard to case.
public struct HTTPHeaders: Sendable, Hashable, ExpressibleByDictionaryLiteral {
    /// One field.
    public struct Field: Sendable, Hashable {
        public var name: String
        public var value: String

        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    public var fields: [Field]

    public init(_ fields: [Field] = []) { self.fields = fields }

    public init(dictionaryLiteral elements: (String, String)...) {
        fields = elements.map { Field($0.0, $0.1) }
    }

    /// The first value of a field. Setting replaces all of that name; `nil` removes them.
    public subscript(_ name: String) -> String? {
        get {
            let wanted = name.lowercased()
            return fields.first { $0.name.lowercased() == wanted }?.value
        }
        set {
            let wanted = name.lowercased()
            fields.removeAll { $0.name.lowercased() == wanted }
            if let newValue { fields.append(Field(name, newValue)) }
        }
    }

    /// All values of a field, in order.
    public func all(_ name: String) -> [String] {
        let wanted = name.lowercased()
        return fields.filter { $0.name.lowercased() == wanted }.map(\.value)
    }
}

/// What a request sends as its body.
public enum HTTPBody: Sendable, Hashable {
    case none
    case bytes([UInt8])
    /// Read from a descriptor's place to its end and never closed; without a length it is sent in chunks.
    case descriptor(Int32, length: Int64? = nil)
}

/// How a TLS connection is made and checked.
public struct HTTPTLSOptions: Sendable, Hashable {
    /// A PEM file of trusted certificates in place of the system's.
    public var authorityFile: String?
    /// A PEM file that identifies this client.
    public var certificateFile: String?
    /// The key of `certificateFile`, PEM.
    public var keyFile: String?
    /// Accepts any certificate.
    public var skipsVerification = false

    public init() {}
}

/// One request.
public struct HTTPRequest: Sendable, Hashable {
    public var method: String
    /// `http://` or `https://`. With a unix socket the host is of no meaning: `http://apus/v1.50/info`.
    public var url: String
    public var headers: HTTPHeaders
    public var body: HTTPBody
    /// The path of a socket to connect to in place of the host's address.
    public var unixSocket: String?
    /// Until a connection stands, TLS included.
    public var connectTimeout: Duration = .seconds(10)
    /// For the whole transfer; `nil`: no end, as streams need it.
    public var timeout: Duration?
    /// How long nothing may arrive before the transfer fails; `nil`: for ever.
    public var stallTimeout: Duration?
    /// How many redirects are followed; 0 hands them to the caller. A redirect never leads from https to http, and `Authorization` never goes to another host.
    public var redirectLimit = 0
    public var tls = HTTPTLSOptions()

    public init(_ method: String = "GET", _ url: String, headers: HTTPHeaders = [:], body: HTTPBody = .none, unixSocket: String? = nil) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.unixSocket = unixSocket
    }
}

/// The beginning of an answer.
public struct HTTPHead: Sendable, Hashable {
    public var status: Int
    public var headers: HTTPHeaders
    /// Where the answer came from after redirects.
    public var url: String

    public init(status: Int, headers: HTTPHeaders = [:], url: String = "") {
        self.status = status
        self.headers = headers
        self.url = url
    }

    public var isSuccess: Bool { (200..<300).contains(status) }
}

/// A whole answer.
public struct HTTPResponse: Sendable, Hashable {
    public var head: HTTPHead
    public var body: [UInt8]

    public init(head: HTTPHead, body: [UInt8] = []) {
        self.head = head
        self.body = body
    }

    public var status: Int { head.status }
    public var headers: HTTPHeaders { head.headers }
    public var text: String { String(decoding: body, as: UTF8.self) }
}

/// Why a transfer did not come to its end. An answer with a status of 400 or more is an answer, not a failure.
public struct HTTPFailure: Error, Sendable, Hashable, CustomStringConvertible {
    /// Where it failed.
    public enum Kind: Sendable, Hashable {
        /// The URL or an option is wrong.
        case invalidRequest
        /// The name has no address.
        case unresolved
        /// Nobody listens there, or the socket does not exist.
        case unreachable
        /// The other side speaks no TLS, or shows a certificate that is not trusted.
        case tls
        case timedOut
        /// The connection ended before the answer did.
        case interrupted
        case tooManyRedirects
        /// The answer is no HTTP.
        case malformedAnswer
        case cancelled
        /// `onHead` or `onChunk` threw.
        case refused(ApusError)
        case other
    }

    public var kind: Kind
    public var message: String

    public init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    public var description: String { message }

    /// The same with an error code.
    public var error: ApusError {
        switch kind {
        case .refused(let error): error
        case .invalidRequest: ApusError(.invalidArgument, message)
        case .unresolved, .unreachable, .interrupted: ApusError(.unavailable, message)
        case .timedOut: ApusError(.timedOut, message)
        case .cancelled: ApusError(.cancelled, message)
        case .malformedAnswer: ApusError(.corrupt, message)
        case .tls, .tooManyRedirects, .other: ApusError(.failed, message)
        }
    }
}
