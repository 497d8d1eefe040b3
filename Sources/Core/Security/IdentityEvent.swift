public import PluginAPI

/// Something that happened to a node's identity or to the swarm's root, for `events` and the log.
public struct IdentityEvent: Sendable, Hashable {
    /// The action of the event.
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

extension IdentityEvent {
    /// Whether it can be seen from the store's objects, on every manager.
    public var isOnRecord: Bool {
        switch kind {
        case .issued, .renewed, .healed, .nodeAccepted, .rotationStarted, .rotationFinished: true
        case .joinRequested, .joinWaiting, .refused, .alarm: false
        }
    }

    /// What a change of a node's object tells of its identity.
    public static func events(of new: Node, from old: Node?, time: Timestamp) -> [IdentityEvent] {
        var events: [IdentityEvent] = []
        let record = new.certificate
        if record.state == .issued, !record.serial.isEmpty, record.serial != old?.certificate.serial {
            let kind: Kind =
                switch record.occasion {
                case "renewal": .renewed
                case "expired-renewal", "self-signed": .healed
                default: .issued
                }
            var event = IdentityEvent(kind, time: time)
            event.nodeID = new.id
            event.role = record.role
            event.serial = record.serial
            event.expiresAt = record.expiresAt
            event.address = record.requestedBy
            events.append(event)
        }
        if let old, old.certificate.membership == .pending, record.membership == .accepted {
            var event = IdentityEvent(.nodeAccepted, time: time)
            event.nodeID = new.id
            events.append(event)
        }
        return events
    }

    /// What a change of the cluster tells of its root.
    public static func events(of new: Cluster, from old: Cluster, time: Timestamp) -> [IdentityEvent] {
        var events: [IdentityEvent] = []
        if let rotation = new.rootRotation, rotation.root.digest != old.rootRotation?.root.digest {
            var event = IdentityEvent(.rotationStarted, time: time)
            event.reason = "root \(rotation.root.digest)"
            events.append(event)
        }
        if old.rootRotation != nil, new.rootRotation == nil {
            var event = IdentityEvent(.rotationFinished, time: time)
            event.reason = "root \(new.root.digest)"
            events.append(event)
        }
        return events
    }
}
