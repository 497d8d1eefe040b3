import OpenSSL
public import PluginAPI

/// What a rotation of the root needs next.
public struct RootRotationPlan: Sendable, Hashable {
    /// Nodes to tell now that they are to renew.
    public var tell: [ID] = []
    /// Nodes that are not there yet, with what they lack, sorted by id: what `swarm ca` shows while it waits.
    public var waiting: [ID: String] = [:]
    /// Every node has a certificate of the new root and trusts it: the old one can go.
    public var isComplete = false

    public init() {}
}

/// Decides which nodes renew while the root is rotated: a few at a time, so that ten thousand do not ask at once, and until the last has done it.
public enum RootRotationPlanner {
    /// Nodes that are told and have not renewed yet, at most.
    public static let limit = 30

    /// - Parameter nodes: All of the swarm. One is done when what it says of itself (`description.tls`) names the new root as its issuer and among
    ///   its roots. Nodes without a certificate do not count: they get one of the new root. Those that are down do: without the old root they could
    ///   not come back; `node rm` lets go of them.
    public static func plan(rotation: RootRotation, nodes: [Node]) throws(ApusError) -> RootRotationPlan {
        let root = try Certificate(pem: rotation.root.certificate)
        let issuer = try root.publicKey()
        let issuerDigest = try root.publicKeyDigest()
        let text = rotation.root.certificate.filter { !$0.isWhitespace }
        var plan = RootRotationPlan()
        var underWay = 0
        var candidates: [ID] = []
        // Of ten thousand nodes most say one of two texts.
        var trusts: [String: Bool] = [:]
        for node in nodes.sorted(by: { $0.id < $1.id }) {
            let record = node.certificate
            guard record.membership == .accepted, record.state != .none || node.description.tls != nil else { continue }
            // Waiting for its first certificate, which will be of the new root.
            if record.serial.isEmpty, node.description.tls == nil { continue }
            let isIssued = node.description.tls?.issuerPublicKey == issuer
            let bundle = node.description.tls?.trustRoot ?? ""
            let isTrusted = trusts[bundle] ?? bundle.filter { !$0.isWhitespace }.contains(text)
            trusts[bundle] = isTrusted
            if isIssued, isTrusted { continue }
            let isReachable = node.status.state != .down && node.status.state != .disconnected
            plan.waiting[node.id] =
                !isReachable
                ? "it is \(node.status.state.rawValue); it renews when it is back, or \"apus node rm\" lets go of it"
                : isIssued ? "it does not trust the new root yet" : "it has not renewed its certificate yet"
            guard isReachable else { continue }
            switch record.state {
            case .renew, .pending: underWay += 1
            case .issued where record.issuerKeyDigest == issuerDigest && isTrusted:
                // It has been issued, and the node has not said so yet.
                underWay += 1
            default: candidates.append(node.id)
            }
        }
        plan.tell = Array(candidates.prefix(max(0, limit - underWay)))
        plan.isComplete = plan.waiting.isEmpty
        return plan
    }
}
