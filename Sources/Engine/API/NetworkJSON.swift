import Agent
import Allocation
import Coding
import Orchestration
import PluginAPI
import Store

/// Networks as the Engine API shows them.
enum NetworkJSON {
    /// A network of this node.
    /// - Parameter members: the node's containers, for those in the network.
    static func local(_ network: NodeNetwork, members: [ContainerDetails] = []) -> JSONValue {
        let pools: [JSONValue] =
            network.gatewayPrefix.map {
                [["Subnet": .string($0.network.description), "Gateway": .string($0.address.description)]]
            } ?? []
        return [
            "Name": .string(network.name), "Id": .string(network.id.text), "Created": .string(network.createdAt.description), "Scope": "local",
            "Driver": .string(network.driver), "EnableIPv4": true, "EnableIPv6": false,
            "IPAM": ["Driver": "default", "Options": .null, "Config": .array(pools)],
            "Internal": .bool(network.isInternal), "Attachable": false, "Ingress": false, "ConfigFrom": ["Network": ""], "ConfigOnly": false,
            "Containers": .object(containers(members, in: network.id)), "Options": JSONValue(network.options), "Labels": JSONValue(network.labels),
        ]
    }

    /// A network of the swarm.
    /// - Parameters:
    ///   - snapshot: for the nodes and services in it; without one they are left out.
    ///   - members: the node's containers, for those in the network.
    ///   - isVerbose: whether the services are shown.
    static func swarm(
        _ network: Network, in snapshot: StoreSnapshot? = nil, members: [ContainerDetails] = [], isVerbose: Bool = false
    ) -> JSONValue {
        let reserved = network.reservedAddresses
        let pools: [JSONValue] = (network.ipam?.configs ?? []).map { pool in
            var json: JSONValue = ["Subnet": .string(pool.subnet), "Gateway": .string(pool.gateway)]
            if !pool.range.isEmpty { json["IPRange"] = .string(pool.range) }
            let inside = reserved.filter { entry in
                IPPrefix(pool.subnet).map { subnet in IPAddress(entry.value).map { subnet.contains($0) } ?? false } ?? false
            }
            if !inside.isEmpty { json["AuxiliaryAddresses"] = JSONValue(inside) }
            return json
        }
        var json: JSONValue = [
            "Name": .string(network.spec.name), "Id": .string(network.id.text), "Created": .string(network.createdAt.description), "Scope": "swarm",
            "Driver": .string(network.driverName), "EnableIPv4": true, "EnableIPv6": .bool(network.spec.ipv6),
            "IPAM": ["Driver": "default", "Options": .null, "Config": .array(pools)],
            "Internal": .bool(network.spec.isInternal), "Attachable": .bool(network.spec.attachable), "Ingress": .bool(network.spec.ingress),
            "ConfigFrom": ["Network": ""], "ConfigOnly": false, "Containers": .null, "Options": JSONValue(network.driver.options),
            "Labels": JSONValue(network.spec.labels),
        ]
        guard let snapshot else { return json }
        json["Containers"] = .object(containers(members, in: network.id))
        let tasks = snapshot.tasks.values.filter { task in
            task.holdsAddresses && task.networks.contains { $0.network.id == network.id && !$0.addresses.isEmpty }
        }
        let nodes = Set(tasks.map(\.nodeID)).compactMap { snapshot.nodes[$0] }.sorted { $0.description.hostname < $1.description.hostname }
        json["Peers"] = .array(nodes.map { ["Name": .string($0.description.hostname), "IP": .string($0.dataPathAddress)] })
        if isVerbose { json["Services"] = .object(services(of: network, tasks.sorted { ($0.slot, $0.id) < ($1.slot, $1.id) }, snapshot)) }
        return json
    }

    private static func containers(_ members: [ContainerDetails], in network: ID) -> JSONObject {
        var object = JSONObject()
        for container in members where container.state.phase == .running {
            for endpoint in container.configuration.endpoints where endpoint.networkID == network {
                object[container.id.text] = [
                    "Name": .string(container.name), "EndpointID": .string(container.id.text), "MacAddress": .string(endpoint.macAddress),
                    "IPv4Address": .string(endpoint.address), "IPv6Address": .string(endpoint.addressV6),
                ]
            }
        }
        return object
    }

    private static func services(of network: Network, _ tasks: [Task], _ snapshot: StoreSnapshot) -> JSONObject {
        var object = JSONObject()
        for (id, tasks) in Dictionary(grouping: tasks, by: \.serviceID).sorted(by: { $0.key < $1.key }) {
            guard let service = snapshot.services[id] else { continue }
            let virtual = service.endpoint.virtualIPs.first { $0.networkID == network.id }
            let ports = service.endpoint.ports.map { port in
                JSONValue.string("Target: \(port.targetPort), Publish: \(port.publishedPort)")
            }
            object[service.spec.name] = [
                "VIP": .string(virtual.flatMap { IPPrefix($0.address) }?.address.description ?? ""), "Ports": .array(network.spec.ingress ? ports : []),
                "LocalLBIndex": 0, "Tasks": .array(tasks.map { task($0, in: network.id, snapshot) }),
            ]
        }
        return object
    }

    private static func task(_ task: Task, in network: ID, _ snapshot: StoreSnapshot) -> JSONValue {
        let address = task.networks.first { $0.network.id == network }?.addresses.first.flatMap { IPPrefix($0) }?.address
        return [
            "Name": .string(task.name), "EndpointID": .string(task.status.container?.containerID.text ?? ""),
            "EndpointIP": .string(address?.description ?? ""),
            "Info": ["Host IP": .string(snapshot.nodes[task.nodeID]?.dataPathAddress ?? "")],
        ]
    }
}

extension Node {
    /// Where VXLAN reaches it.
    fileprivate var dataPathAddress: String {
        description.dataPathAddress.isEmpty ? status.address : description.dataPathAddress
    }
}
