import Glibc
import PluginAPI
import Processes

/// Blocking work on a thread of its own, with its error.
func onBlockingThread<Value: Sendable>(_ body: @escaping @Sendable () throws(ApusError) -> Value) async throws(ApusError) -> Value {
    let result: Result<Value, ApusError> = await onThread(named: "apus-images") {
        do throws(ApusError) {
            return .success(try body())
        } catch {
            return .failure(error)
        }
    }
    return try result.get()
}

enum FilePresence {
    static func isReadable(_ path: String) -> Bool { access(path, R_OK) == 0 }
}
