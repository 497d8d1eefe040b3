import CCurl
import Glibc
import PluginAPI
import Synchronization

/// One request on its way: the options of its easy handle and what curl's callbacks gather.
///
/// Everything but `control` belongs to the thread that runs the transfer.
final class Transfer: @unchecked Sendable {
    private struct Control: @unchecked Sendable {
        var isCancelled = false
        var hasBegun = false
        /// The loop that runs it, to be woken.
        var multi: UnsafeMutableRawPointer?
    }

    private let request: HTTPRequest
    private let userAgent: String
    private let onHead: @Sendable (HTTPHead) throws(ApusError) -> Void
    private let onChunk: @Sendable ([UInt8]) throws(ApusError) -> Void
    private let control = Mutex(Control())

    private var head = HTTPHead(status: 0)
    private var headerBytes = 0
    private var hasHead = false
    private var refusal: ApusError?
    private var bodyOffset = 0
    private var lists: [UnsafeMutablePointer<curl_slist>] = []
    private let errorText: UnsafeMutablePointer<CChar>
    private var easy: UnsafeMutableRawPointer?

    private static let headerLimit = 256 << 10
    private static let bufferSize = 256 << 10

    init(
        request: HTTPRequest, userAgent: String, onHead: @escaping @Sendable (HTTPHead) throws(ApusError) -> Void,
        onChunk: @escaping @Sendable ([UInt8]) throws(ApusError) -> Void
    ) {
        self.request = request
        self.userAgent = userAgent
        self.onHead = onHead
        self.onChunk = onChunk
        errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    }

    deinit { errorText.deallocate() }

    // MARK: Cancellation

    var isCancelled: Bool { control.withLock { $0.isCancelled } }

    /// False when no thread has begun it yet, so that none will tell the caller.
    func cancel() -> Bool {
        control.withLock { control in
            control.isCancelled = true
            if let multi = control.multi { curl_multi_wakeup(multi) }
            return control.hasBegun
        }
    }

    /// False when it was cancelled before it began.
    func begin(_ multi: UnsafeMutableRawPointer) -> Bool {
        nonisolated(unsafe) let multi = multi
        return control.withLock { control in
            guard !control.isCancelled else { return false }
            control.hasBegun = true
            control.multi = multi
            return true
        }
    }

    func end() { control.withLock { $0.multi = nil } }

    // MARK: Options

    func freeConfiguration() {
        for list in lists { curl_slist_free_all(list) }
        lists = []
        easy = nil
    }

    func configure(_ easy: UnsafeMutableRawPointer) -> CURLcode {
        self.easy = easy
        var options = EasyOptions(easy: easy)
        options.set(CURLOPT_ERRORBUFFER, pointer: UnsafeMutableRawPointer(errorText))
        options.set(CURLOPT_NOSIGNAL, 1)
        options.set(CURLOPT_QUICK_EXIT, 1)
        options.set(CURLOPT_URL, request.url)
        options.set(CURLOPT_PROTOCOLS_STR, "http,https")
        options.set(CURLOPT_USERAGENT, userAgent)
        options.set(CURLOPT_BUFFERSIZE, Self.bufferSize)
        options.set(CURLOPT_TCP_KEEPALIVE, 1)
        options.set(CURLOPT_CONNECTTIMEOUT_MS, max(1, request.connectTimeout.milliseconds))
        if let timeout = request.timeout { options.set(CURLOPT_TIMEOUT_MS, max(1, timeout.milliseconds)) }
        if let stall = request.stallTimeout {
            options.set(CURLOPT_LOW_SPEED_LIMIT, 1)
            options.set(CURLOPT_LOW_SPEED_TIME, max(1, (stall.milliseconds + 999) / 1000))
        }
        if let socket = request.unixSocket {
            options.set(CURLOPT_UNIX_SOCKET_PATH, socket)
            options.set(CURLOPT_NOPROXY, "*")
        } else {
            options.set(CURLOPT_NOPROXY, Self.withoutProxy)
        }
        if request.redirectLimit > 0 {
            options.set(CURLOPT_FOLLOWLOCATION, 1)
            options.set(CURLOPT_MAXREDIRS, request.redirectLimit)
            options.set(CURLOPT_REDIR_PROTOCOLS_STR, request.url.lowercased().hasPrefix("https:") ? "https" : "http,https")
        }
        configureTLS(&options)
        configureBody(&options)
        configureHeaders(&options)
        let context = Unmanaged.passUnretained(self).toOpaque()
        options.set(CURLOPT_HEADERDATA, pointer: context)
        options.set(CURLOPT_HEADERFUNCTION) { data, size, count, context in Transfer.from(context)?.received(header: data, size * count) ?? 0 }
        options.set(CURLOPT_WRITEDATA, pointer: context)
        options.set(CURLOPT_WRITEFUNCTION) { data, size, count, context in Transfer.from(context)?.received(data: data, size * count) ?? 0 }
        return options.result
    }

    /// Names that are never asked of a proxy: what is on this machine.
    private static let withoutProxy: String = {
        var names = "localhost,127.0.0.1,::1"
        for variable in ["no_proxy", "NO_PROXY"] {
            if let value = getenv(variable) {
                let text = String(cString: value)
                if !text.isEmpty { names += "," + text }
                break
            }
        }
        return names
    }()

    private func configureTLS(_ options: inout EasyOptions) {
        let tls = request.tls
        if let file = tls.authorityFile {
            options.set(CURLOPT_CAINFO, file)
            // curl would trust the system's folder besides.
            options.set(CURLOPT_CAPATH, "/dev/null")
        }
        if let file = tls.certificateFile { options.set(CURLOPT_SSLCERT, file) }
        if let file = tls.keyFile { options.set(CURLOPT_SSLKEY, file) }
        if tls.skipsVerification {
            options.set(CURLOPT_SSL_VERIFYPEER, 0)
            options.set(CURLOPT_SSL_VERIFYHOST, 0)
        }
    }

    private func configureBody(_ options: inout EasyOptions) {
        switch request.body {
        case .none:
            switch request.method {
            case "HEAD":
                options.set(CURLOPT_NOBODY, 1)
                return
            case "POST", "PUT", "PATCH":
                options.set(CURLOPT_POST, 1)
                options.set(CURLOPT_POSTFIELDSIZE_LARGE, offset: 0)
                options.set(CURLOPT_COPYPOSTFIELDS, "")
            default: break
            }
        case .bytes(let bytes):
            options.set(CURLOPT_UPLOAD, 1)
            options.set(CURLOPT_INFILESIZE_LARGE, offset: Int64(bytes.count))
        case .descriptor(_, let length):
            options.set(CURLOPT_UPLOAD, 1)
            if let length { options.set(CURLOPT_INFILESIZE_LARGE, offset: length) }
        }
        options.set(CURLOPT_CUSTOMREQUEST, request.method)
        options.set(CURLOPT_READDATA, pointer: Unmanaged.passUnretained(self).toOpaque())
        options.set(CURLOPT_READFUNCTION) { data, size, count, context in Transfer.from(context)?.give(data, size * count) ?? Int(CURL_READFUNC_ABORT)
        }
    }

    private func configureHeaders(_ options: inout EasyOptions) {
        var list: UnsafeMutablePointer<curl_slist>?
        var lines = request.headers.fields.map { $0.value.isEmpty ? "\($0.name);" : "\($0.name): \($0.value)" }
        // curl would wait for "100 Continue" first, a second each time with a server that does not know it.
        lines.append("Expect:")
        // And it would call every body a form.
        if request.headers["Content-Type"] == nil { lines.append("Content-Type:") }
        for line in lines {
            if line.utf8.contains(where: { $0 == 13 || $0 == 10 || $0 == 0 }) {
                options.result = CURLE_BAD_FUNCTION_ARGUMENT
                continue
            }
            list = curl_slist_append(list, line) ?? list
        }
        guard let list else { return }
        lists.append(list)
        options.set(CURLOPT_HTTPHEADER, list: list)
    }

    // MARK: Callbacks

    private static func from(_ context: UnsafeMutableRawPointer?) -> Transfer? {
        context.map { Unmanaged<Transfer>.fromOpaque($0).takeUnretainedValue() }
    }

    private func give(_ buffer: UnsafeMutablePointer<CChar>?, _ room: Int) -> Int {
        guard let buffer, !isCancelled else { return Int(CURL_READFUNC_ABORT) }
        switch request.body {
        case .none: return 0
        case .bytes(let bytes):
            let count = min(room, bytes.count - bodyOffset)
            bytes.withUnsafeBytes { source in
                if let start = source.baseAddress, count > 0 { memcpy(buffer, start + bodyOffset, count) }
            }
            bodyOffset += count
            return count
        case .descriptor(let descriptor, _):
            while true {
                let count = read(descriptor, buffer, room)
                if count >= 0 { return count }
                guard errno == EINTR else { break }
            }
            refusal = ApusError(.failed, "the body to send could not be read: \(String(cString: strerror(errno)))")
            return Int(CURL_READFUNC_ABORT)
        }
    }

    /// One line of a head. Heads of redirects and of "100 Continue" come before the one that counts.
    private func received(header data: UnsafeMutablePointer<CChar>?, _ count: Int) -> Int {
        guard let data, !isCancelled else { return 0 }
        headerBytes += count
        guard headerBytes <= Self.headerLimit else {
            refusal = ApusError(.corrupt, "the head of the answer of \(request.url) is larger than \(Self.headerLimit) bytes")
            return 0
        }
        let bytes = UnsafeRawBufferPointer(start: data, count: count)
        var line = Substring(String(decoding: bytes, as: UTF8.self))
        while let last = line.last, last == "\r\n" || last == "\n" || last == "\r" { line.removeLast() }
        if line.isEmpty { return headEnded() ? count : 0 }
        if line.hasPrefix("HTTP/") {
            head = HTTPHead(status: 0)
            hasHead = false
            return count
        }
        // Trailers come after the body, when the head has been handed over.
        if !hasHead, let colon = line.firstIndex(of: ":") {
            let value = line[line.index(after: colon)...].trimmed
            head.headers.fields.append(HTTPHeaders.Field(String(line[..<colon]), value))
        }
        return count
    }

    private func headEnded() -> Bool {
        guard !hasHead, let easy else { return true }
        var status = 0
        _ = apus_curl_get_long(easy, CURLINFO_RESPONSE_CODE, &status)
        if (100..<200).contains(status), status != 101 { return true }
        if request.redirectLimit > 0, (300..<400).contains(status), status != 304, head.headers["Location"] != nil { return true }
        head.status = status
        var url: UnsafePointer<CChar>?
        _ = apus_curl_get_string(easy, CURLINFO_EFFECTIVE_URL, &url)
        head.url = url.map { String(cString: $0) } ?? request.url
        hasHead = true
        do throws(ApusError) {
            try onHead(head)
            return true
        } catch {
            refusal = error
            return false
        }
    }

    private func received(data: UnsafeMutablePointer<CChar>?, _ count: Int) -> Int {
        guard let data, !isCancelled else { return 0 }
        do throws(ApusError) {
            try onChunk(Array(UnsafeRawBufferPointer(start: data, count: count)))
            return count
        } catch {
            refusal = error
            return 0
        }
    }

    // MARK: The end

    func finish(_ code: CURLcode, _ easy: UnsafeMutableRawPointer) -> Result<HTTPHead, HTTPFailure> {
        guard code == CURLE_OK, refusal == nil else { return .failure(failure(code)) }
        guard hasHead else { return .failure(HTTPFailure(.malformedAnswer, "\(request.url) answered without a head")) }
        return .success(head)
    }

    func failure(_ code: CURLcode) -> HTTPFailure {
        if isCancelled { return HTTPFailure(.cancelled, "the request to \(target) was cancelled") }
        if let refusal { return HTTPFailure(.refused(refusal), refusal.message) }
        let written = String(cString: errorText)
        let reason = written.isEmpty ? String(cString: curl_easy_strerror(code)) : written
        // curl uses one code for a scheme that it does not know and for an answer that is no HTTP.
        let isAnswer = code == CURLE_UNSUPPORTED_PROTOCOL && request.url.lowercased().hasPrefix("http")
        return HTTPFailure(isAnswer ? .malformedAnswer : Self.kind(code), "\(target): \(reason)")
    }

    private var target: String { request.unixSocket.map { "unix://\($0)" } ?? request.url }

    private static func kind(_ code: CURLcode) -> HTTPFailure.Kind {
        switch code {
        case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL, CURLE_BAD_FUNCTION_ARGUMENT, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CACERT_BADFILE:
            .invalidRequest
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: .unresolved
        case CURLE_COULDNT_CONNECT: .unreachable
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CIPHER, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS: .tls
        case CURLE_OPERATION_TIMEDOUT: .timedOut
        case CURLE_PARTIAL_FILE, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_GOT_NOTHING, CURLE_HTTP2, CURLE_HTTP2_STREAM: .interrupted
        case CURLE_TOO_MANY_REDIRECTS: .tooManyRedirects
        case CURLE_WEIRD_SERVER_REPLY, CURLE_BAD_CONTENT_ENCODING, CURLE_HTTP_RETURNED_ERROR: .malformedAnswer
        case CURLE_ABORTED_BY_CALLBACK: .cancelled
        default: .other
        }
    }
}

/// Sets options one after the other and keeps the first failure.
struct EasyOptions {
    let easy: UnsafeMutableRawPointer
    var result = CURLE_OK

    private mutating func note(_ code: CURLcode) {
        if result == CURLE_OK { result = code }
    }

    mutating func set(_ option: CURLoption, _ value: Int) { note(apus_curl_set_long(easy, option, value)) }
    mutating func set(_ option: CURLoption, _ value: String) { note(apus_curl_set_string(easy, option, value)) }
    mutating func set(_ option: CURLoption, offset value: Int64) { note(apus_curl_set_offset(easy, option, Int(value))) }
    mutating func set(_ option: CURLoption, pointer value: UnsafeMutableRawPointer) { note(apus_curl_set_pointer(easy, option, value)) }
    mutating func set(_ option: CURLoption, list: UnsafeMutablePointer<curl_slist>) { note(apus_curl_set_list(easy, option, list)) }
    mutating func set(_ option: CURLoption, _ callback: @escaping apus_curl_data_callback) {
        note(apus_curl_set_data_callback(easy, option, callback))
    }
}

extension Duration {
    fileprivate var milliseconds: Int { Int(clamping: nanoseconds / 1_000_000) }
}

extension Substring {
    fileprivate var trimmed: String {
        var rest = self
        while let first = rest.first, first == " " || first == "\t" { rest.removeFirst() }
        while let last = rest.last, last == " " || last == "\t" { rest.removeLast() }
        return String(rest)
    }
}
