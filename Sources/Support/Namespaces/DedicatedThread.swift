import Glibc
import PluginAPI
import Synchronization

/// Threads for calls that block, so that they never hold one of the cooperative pool.
public enum DedicatedThread {
    /// Runs `body` on a new thread and waits for it without blocking the caller's.
    public static func run<Value: Sendable>(_ body: @escaping @Sendable () throws(ApusError) -> Value) async throws(ApusError) -> Value {
        let result: Result<Value, ApusError> = await withCheckedContinuation { continuation in
            do throws(ApusError) {
                let thread = try start { continuation.resume(returning: outcome(body)) }
                pthread_detach(thread)
            } catch {
                continuation.resume(returning: .failure(error))
            }
        }
        return try result.get()
    }

    /// Runs `body` on a new thread and blocks the caller until it has ended.
    public static func runBlocking<Value: Sendable>(_ body: @Sendable () throws(ApusError) -> Value) throws(ApusError) -> Value {
        let answer = Mutex<Result<Value, ApusError>?>(nil)
        // The thread is joined below, before the borrowed values can go away.
        try withoutActuallyEscaping(body) { (body) throws(ApusError) in
            let thread = try withUnsafePointer(to: answer) { (answer) throws(ApusError) -> pthread_t in
                nonisolated(unsafe) let answer = answer
                return try start { answer.pointee.withLock { $0 = outcome(body) } }
            }
            pthread_join(thread, nil)
        }
        guard let result = answer.withLock({ $0 }) else { throw ApusError(.failed, "a thread ended without an answer") }
        return try result.get()
    }

    /// Starts a thread that runs `body`; the caller detaches or joins it.
    static func start(_ body: @escaping @Sendable () -> Void) throws(ApusError) -> pthread_t {
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Body(body))
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().body()
                return nil
            }, box.toOpaque())
        guard code == 0 else {
            box.release()
            throw .system("cannot start a thread", code)
        }
        return thread
    }

    private static func outcome<Value>(_ body: () throws(ApusError) -> Value) -> Result<Value, ApusError> {
        do throws(ApusError) { return .success(try body()) } catch { return .failure(error) }
    }

    private final class Body: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}
