public import PluginAPI
import Glibc

/// Where the engine keeps things and how it behaves.
public struct ContainerEngineConfiguration: Sendable {
    /// Survives restarts: `networks.json`, `notes.json`.
    public var stateDirectory: String
    /// On a tmpfs: `netns/`, `endpoints`.
    public var executionRoot: String
    /// The network `bridge` with the gateway's address; `nil`: 172.30.0.1/16, or another when a route of the host overlaps it.
    public var bridgeSubnet: IPPrefix?
    /// The host's, that containers' are made from.
    public var resolverPath = "/etc/resolv.conf"
    public var hostsPath = "/etc/hosts"
    public var routesPath = "/proc/net/route"
    /// Ends of the range from which host ports are chosen.
    public var ephemeralPorts: ClosedRange<UInt16> = 32768...60999
    public var clock = EngineClock.system
    public var sandboxes: any SandboxProvider = PinnedNamespaces()
    /// Whether a program of the host holds a port. Replaced in tests.
    public var isHostPortFree: @Sendable (TransportProtocol, IPAddress?, UInt16) -> Bool = { HostPorts.isFree($0, $1, $2) }
    /// Whether the machine has an address. Replaced in tests.
    public var hasHostAddress: @Sendable (IPAddress) -> Bool = { HostPorts.hasAddress($0) }
    /// The connections that clients have with the network namespace of a process. Replaced in tests.
    public var countConnections: @Sendable (_ process: Int64) async -> Int = {
        await ContainerSockets.countConnections(process: $0)
    }
    /// Whether somebody listens on all these TCP ports in the network namespace of a process. Replaced in tests.
    public var isListening: @Sendable (_ process: Int64, _ ports: Set<UInt16>) async -> Bool = {
        await ContainerSockets.isListening(process: $0, on: $1)
    }

    public init(stateDirectory: String, executionRoot: String) {
        self.stateDirectory = stateDirectory
        self.executionRoot = executionRoot
    }
}

/// Makes and removes pinned network namespaces.
public protocol SandboxProvider: Sendable {
    /// Succeeds when it is there already.
    func create(path: String) async throws(ApusError)
    /// Succeeds when it is gone already.
    func remove(path: String) async throws(ApusError)
}

/// The clock that delays and time stamps come from; tests have one that they move by hand.
public struct EngineClock: Sendable {
    public var now: @Sendable () -> Timestamp
    /// Throws `CancellationError` when the task is cancelled.
    public var sleep: @Sendable (Duration) async throws -> Void

    public init(now: @escaping @Sendable () -> Timestamp, sleep: @escaping @Sendable (Duration) async throws -> Void) {
        self.now = now
        self.sleep = sleep
    }

    /// The machine's.
    public static let system = EngineClock(
        now: {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
        },
        sleep: { try await ConcurrentTask.sleep(for: $0, clock: .continuous) })
}
