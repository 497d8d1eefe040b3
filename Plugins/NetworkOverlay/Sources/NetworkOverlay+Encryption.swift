import PluginAPI

extension NetworkOverlay {
    /// - Throws: `unavailable` with what is missing.
    func probeEncryption() async throws(ApusError) {
        throw ApusError(.unavailable, "encrypted overlay networks are not in this version of Apus")
    }

    /// Sees to it that nothing of an encrypted network can leave or enter in the clear.
    func encrypt(_ plan: OverlayPlan, _ network: LocalNetwork, _ underlay: IPAddress) throws(ApusError) {
        guard plan.isEncrypted else { return }
        throw ApusError(.unavailable, "encrypted overlay networks are not in this version of Apus")
    }

    /// Agrees on keys with the nodes of a network's peers.
    func encrypt(_ plan: OverlayPlan, _ request: PeersRequest) throws(ApusError) {}

    func forgetEncryption(of plan: OverlayPlan) throws(ApusError) {}
}
