import COpenSSL
import PluginAPI

/// The calling thread's queue of OpenSSL errors.
enum OpenSSLQueue {
    /// An error with what OpenSSL says about it, oldest reason first; empties the queue.
    static func error(_ what: String, _ code: ApusError.Code = .failed) -> ApusError {
        var reasons: [String] = []
        while true {
            let number = ERR_get_error()
            guard number != 0 else { break }
            if let reason = ERR_reason_error_string(number) {
                reasons.append(String(cString: reason))
            } else {
                reasons.append("error \(number)")
            }
        }
        return ApusError(code, reasons.isEmpty ? what : "\(what): \(reasons.joined(separator: ", "))")
    }
}
