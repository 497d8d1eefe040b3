public import PluginAPI

/// Something that happened to a node's identity or to the swarm's root, for `events` and the log.
public struct IdentityEvent: Sendable, Hashable {
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// A node asked to join.
        case joinRequested = "certificate-request"
        /// A node waits for `node accept`.
        case joinWaiting = "join-waiting"
        case nodeAccepted = "accept"
        case issued = "certificate-issue"
        case renewed = "certificate-renew"
        /// A certificate that had expired was renewed.
        case healed = "certificate-heal"
        case refused = "certificate-refuse"
        /// An expired certificate was shown for a node that is connected: somebody has a copy of its key.
        case alarm = "certificate-alarm"
        case rotationStarted = "ca-rotate-start"
        case rotationFinished = "ca-rotate-finish"
    }

    public var kind: Kind
    /// Empty when no node is meant.
    public var nodeID: ID = ""
    public var role: NodeRole?
    public var serial: String = ""
    public var expiresAt: Timestamp = .never
    /// Who asked.
    public var address: String = ""
    public var reason: String = ""
    public var time: Timestamp

    public init(_ kind: Kind, time: Timestamp) {
        self.kind = kind
        self.time = time
    }

    /// `node` or `swarm`, as the Engine API's events have it.
    public var type: String {
        switch kind {
        case .rotationStarted, .rotationFinished: "swarm"
        default: nodeID.isEmpty ? "swarm" : "node"
        }
    }

    /// What is known, for `Actor.Attributes`.
    public var attributes: [String: String] {
        var attributes: [String: String] = [:]
        if let role { attributes["role"] = role.rawValue }
        if !serial.isEmpty { attributes["serial"] = serial }
        if !expiresAt.isNever { attributes["expires"] = expiresAt.description }
        if !address.isEmpty { attributes["address"] = address }
        if !reason.isEmpty { attributes["reason"] = reason }
        return attributes
    }
}
