import CCurl

/// A worker's multi handle, which keeps connections open from one transfer to the next.
final class TransferLoop {
    private let multi: UnsafeMutableRawPointer?

    init() {
        multi = curl_multi_init()
        if let multi { _ = apus_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, 4) }
    }

    deinit {
        if let multi { curl_multi_cleanup(multi) }
    }

    /// Runs one transfer to its end on the calling thread.
    func run(_ transfer: Transfer) -> Result<HTTPHead, HTTPFailure> {
        guard let multi, let easy = curl_easy_init() else { return .failure(HTTPFailure(.other, "libcurl has no memory")) }
        defer { curl_easy_cleanup(easy) }
        let code = transfer.configure(easy)
        defer { transfer.freeConfiguration() }
        guard code == CURLE_OK else { return .failure(transfer.failure(code)) }
        guard transfer.begin(multi) else { return .failure(transfer.failure(CURLE_ABORTED_BY_CALLBACK)) }
        defer { transfer.end() }
        guard curl_multi_add_handle(multi, easy) == CURLM_OK else { return .failure(HTTPFailure(.other, "libcurl refused the transfer")) }
        defer { curl_multi_remove_handle(multi, easy) }
        while true {
            var running: Int32 = 0
            guard curl_multi_perform(multi, &running) == CURLM_OK else { return .failure(HTTPFailure(.other, "libcurl failed")) }
            let result = apus_curl_multi_result(multi)
            if result >= 0 { return transfer.finish(CURLcode(UInt32(result)), easy) }
            if transfer.isCancelled { return .failure(transfer.failure(CURLE_ABORTED_BY_CALLBACK)) }
            // A cancellation wakes it, and curl itself shortens the time to its next timeout.
            _ = curl_multi_poll(multi, nil, 0, 60_000, nil)
            if transfer.isCancelled { return .failure(transfer.failure(CURLE_ABORTED_BY_CALLBACK)) }
        }
    }
}
