import Namespaces
import NetworkBridge
import PluginAPI

/// A network of a test.
func testNetwork(_ name: String, _ gateway: String, options: [String: String] = [:], isInternal: Bool = false) throws -> LocalNetwork {
    guard let gateway = IPPrefix(gateway) else { throw ApusError(.invalidArgument, gateway) }
    var network = LocalNetwork(id: ID.random(), name: name, gateway: gateway)
    network.options = options
    network.isInternal = isInternal
    return network
}

extension Laboratory {
    /// A container in a network: a namespace with eth0.
    @discardableResult
    func attach(_ name: String, _ address: String, to network: LocalNetwork, by driver: NetworkBridge) async throws -> (AttachRequest, AttachAnswer) {
        guard let address = IPPrefix(address) else { throw ApusError(.invalidArgument, address) }
        let request = AttachRequest(
            network: network, containerID: ID.randomContainer(), sandboxPath: try makeNamespace(name), interfaceName: "eth0",
            address: address, macAddress: MACAddress(containerWith: address.address), isDefaultRoute: true)
        return (request, try await driver.attach(request))
    }
}
