import Concurrency
import Logging
import PluginAPI
import PluginHost
import Synchronization

/// The balancer in use, whichever plugin that is at the time of the call.
final class ActiveBalancer: LoadBalancer {
    private let registry: PluginRegistry
    private let logger: Logger
    /// One call at a time, so that never two plugins balance.
    private let gate = AsyncGate()
    /// The one that was called last: what it made is in force.
    private let current = Mutex<(any LoadBalancer)?>(nil)

    init(registry: PluginRegistry, logger: Logger) {
        self.registry = registry
        self.logger = logger
    }

    func probe() async throws(ApusError) { try await registry.balancer().probe() }

    func apply(_ state: BalancerState) async throws(ApusError) {
        await gate.enter()
        defer { gate.leave() }
        let balancer = try await take()
        try await balancer.apply(state)
    }

    /// To be called when another plugin may have the role, before the one that had it ends. Established connections go on by what the kernel
    /// remembers of them; the next `apply` is the other's first.
    func changed() async {
        await gate.enter()
        defer { gate.leave() }
        do throws(ApusError) { _ = try await take() } catch { logger.error("\(error.message)") }
    }

    /// The balancer in use; what another one made, and the ports that it holds, are gone.
    private func take() async throws(ApusError) -> any LoadBalancer {
        let balancer = try registry.balancer()
        let replaced = current.withLock { current in
            defer { current = balancer }
            return current
        }
        if let replaced, replaced !== balancer {
            do throws(ApusError) { try await replaced.apply(BalancerState()) } catch {
                logger.warning("what the replaced balancer made may be left: \(error.message)")
            }
        }
        return balancer
    }
}
