/// Concurrency's `Task`, whose name the API object takes.
public typealias ConcurrentTask = _Concurrency.Task

/// What a plugin is for. One protocol per role: `Scheduler`, `CertificateAuthority`, `NetworkDriver`, `LoadBalancer`, `Runtime`.
public enum PluginRole: String, Sendable, Hashable, CaseIterable {
    case scheduler
    case certificateAuthority = "ca"
    case network
    case balancer
    case runtime

    /// The number in a plugin's record.
    public var number: UInt16 {
        switch self {
        case .scheduler: 1
        case .certificateAuthority: 2
        case .network: 3
        case .balancer: 4
        case .runtime: 5
        }
    }
}

/// The version of this API. A plugin must have the same major, and a minor no newer than the host's.
public enum APIVersion {
    /// Plugins of another one are refused.
    public static let major: UInt16 = 0
    /// Plugins of a newer one are refused.
    public static let minor: UInt16 = 1
}

/// What every plugin is; the role's protocol adds what it does.
public protocol Plugin: AnyObject, Sendable {
    /// Ends what the plugin runs. Called once, when the engine stops or another plugin takes its place; no other call follows.
    func shutDown() async
}

extension Plugin {
    /// Does nothing.
    public func shutDown() async {}
}

/// What the host hands to a plugin when it makes it.
public protocol HostServices: Sendable {
    /// The engine's version, for messages.
    var engineVersion: String { get }
    /// `--plugin-opt role/name:key=value`, or empty.
    var configuration: [String: String] { get }
    /// A folder of the plugin's own that survives restarts; it exists, and root alone may read it.
    var stateDirectory: String { get }
    /// A folder of the plugin's own on a tmpfs, gone after a reboot; it exists, and root alone may read it.
    var runDirectory: String { get }
    /// One line into the engine's log, marked with the plugin's name.
    func log(_ level: LogLevel, _ message: String)
    /// Adds to a counter of the engine's metrics, named `apus_plugin_<role>_<name>_<counter>`.
    func count(_ counter: String, by amount: Int)
}

/// How much a log line matters.
public enum LogLevel: String, Sendable, Hashable, CaseIterable, Comparable {
    case debug, info, warning, error

    public static func < (left: LogLevel, right: LogLevel) -> Bool {
        (allCases.firstIndex(of: left) ?? 0) < (allCases.firstIndex(of: right) ?? 0)
    }
}

/// What a plugin's entry point returns: the way to make the plugin.
///
/// The entry point is a C function, `apus_plugin_entry`, that gets the host's `PluginAPI` identity and returns a retained
/// factory, or null when the identity is not its own: then this library is linked twice, and no cast would work.
///
/// ```swift
/// @c(apus_plugin_entry)
/// public func entry(_ identity: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
///     PluginFactory.entry(identity) { host in MyScheduler(host: host) }
/// }
/// ```
public final class PluginFactory: Sendable {
    private let make: @Sendable (any HostServices) throws(ApusError) -> any Plugin

    /// - Parameter make: Makes the plugin, once, when it is enabled. What it throws is shown in `apus plugin ls`.
    public init(_ make: @escaping @Sendable (any HostServices) throws(ApusError) -> any Plugin) { self.make = make }

    /// Makes the plugin. What it throws is shown to the user as the reason why the plugin is not enabled.
    public func makePlugin(host: any HostServices) throws(ApusError) -> any Plugin { try make(host) }

    /// The address that tells one loaded copy of this library from another.
    public static var identity: UnsafeRawPointer { unsafeBitCast(PluginFactory.self as AnyClass, to: UnsafeRawPointer.self) }

    /// The body of a plugin's entry point.
    public static func entry(
        _ hostIdentity: UnsafeRawPointer, make: @escaping @Sendable (any HostServices) throws(ApusError) -> any Plugin
    ) -> UnsafeMutableRawPointer? {
        guard hostIdentity == identity else { return nil }
        return Unmanaged.passRetained(PluginFactory(make)).toOpaque()
    }
}
