import Agent
import Coding
import Events
import PluginAPI

/// `/volumes`: named volumes of this node.
struct VolumeRoutes: Sendable {
    let runtime: any Runtime
    let events: EventHub

    func add(to router: inout Router) {
        router.add("GET", "/volumes") { request throws(ApusError) in
            let filters = try Filters(request.text("filters"), known: ["dangling", "driver", "label", "name"])
            if !filters["dangling"].isEmpty { throw ApusError(.unimplemented, "the volume filter \"dangling\" is not in this version of Apus") }
            let volumes = try await runtime.volumes().filter {
                filters.name("name", $0.name) && filters.exact("driver", $0.driver) && filters.labels("label", $0.labels)
            }
            return .json(["Volumes": .array(volumes.sorted { $0.name < $1.name }.map { JSONFields.encode($0) }), "Warnings": []])
        }
        router.add("POST", "/volumes/create") { request throws(ApusError) in
            var reader = try JSONReader(request.json(), path: "")
            var volume = Volume()
            volume.name = try reader.string("Name")
            volume.driver = try reader.string("Driver")
            volume.labels = try reader.map("Labels")
            volume.options = try reader.map("DriverOpts")
            try reader.unsupported("ClusterVolumeSpec")
            try reader.finish()
            if volume.driver.isEmpty { volume.driver = "local" }
            guard volume.driver == "local" else { throw ApusError(.notFound, "volume driver \"\(volume.driver)\" not found; \"local\" is there") }
            guard volume.options.isEmpty else { throw ApusError(.unimplemented, "options of the local volume driver are not in this version of Apus") }
            if volume.name.isEmpty {
                volume.name = ID.randomContainer().text
                volume.isAnonymous = true
            }
            let created = try await runtime.createVolume(volume)
            publish("create", created.name)
            return .object(created, status: 201)
        }
        router.missing("POST", "/volumes/prune", "pruning volumes")
        router.add("GET", "/volumes/{name}") { request throws(ApusError) in
            let name = request.parameter("name")
            guard let volume = try await runtime.volumes().first(where: { $0.name == name }) else {
                throw ApusError(.notFound, "get \(name): no such volume")
            }
            return .object(volume)
        }
        router.missing("PUT", "/volumes/{name}", "cluster volumes")
        router.add("DELETE", "/volumes/{name}") { request throws(ApusError) in
            do throws(ApusError) {
                try await runtime.removeVolume(name: request.parameter("name"))
            } catch {
                if error.code == .notFound, request.flag("force") { return .empty(204) }
                throw error
            }
            publish("destroy", request.parameter("name"))
            return .empty(204)
        }
    }

    private func publish(_ action: String, _ name: String) {
        events.publish(EngineEvent(type: "volume", action: action, actorID: name, attributes: ["driver": "local"], time: .now))
    }
}

/// `/networks`: the networks of this node.
struct NetworkRoutes: Sendable {
    let containers: ContainerEngine

    func add(to router: inout Router) {
        router.add("GET", "/networks") { request throws(ApusError) in
            let filters = try Filters(request.text("filters"), known: ["dangling", "driver", "id", "label", "name", "scope", "type"])
            if !filters["dangling"].isEmpty { throw ApusError(.unimplemented, "the network filter \"dangling\" is not in this version of Apus") }
            let networks = containers.networks().filter { network in
                filters.name("name", network.name) && filters.prefix("id", network.id.text) && filters.exact("driver", network.driver)
                    && filters.labels("label", network.labels) && filters.any("scope") { $0 == "local" }
                    && filters.any("type") { ($0 == "builtin") == network.isPredefined }
            }
            return .json(.array(networks.map { json($0, withContainers: false) }))
        }
        router.add("POST", "/networks/create") { request throws(ApusError) in try await create(request) }
        router.missing("POST", "/networks/prune", "pruning networks")
        router.missing("POST", "/networks/{id}/connect", "connecting a running container to a network")
        router.missing("POST", "/networks/{id}/disconnect", "disconnecting a running container from a network")
        router.add("GET", "/networks/{id}") { request throws(ApusError) in
            .json(json(try containers.network(request.parameter("id")), withContainers: true))
        }
        router.add("DELETE", "/networks/{id}") { request throws(ApusError) in
            try await containers.removeNetwork(request.parameter("id"))
            return .empty(204)
        }
    }

    private func json(_ network: NodeNetwork, withContainers: Bool) -> JSONValue {
        var members = JSONObject()
        if withContainers {
            for container in containers.list() where container.state.phase == .running {
                for endpoint in container.configuration.endpoints where endpoint.networkID == network.id {
                    members[container.id.text] = [
                        "Name": .string(container.name), "EndpointID": .string(container.id.text), "MacAddress": .string(endpoint.macAddress),
                        "IPv4Address": .string(endpoint.address), "IPv6Address": "",
                    ]
                }
            }
        }
        let pools: [JSONValue] =
            network.gatewayPrefix.map {
                [["Subnet": .string($0.network.description), "Gateway": .string($0.address.description)]]
            } ?? []
        return [
            "Name": .string(network.name), "Id": .string(network.id.text), "Created": .string(network.createdAt.description), "Scope": "local",
            "Driver": .string(network.driver), "EnableIPv6": false, "IPAM": ["Driver": "default", "Options": .null, "Config": .array(pools)],
            "Internal": .bool(network.isInternal), "Attachable": false, "Ingress": false, "ConfigFrom": ["Network": ""], "ConfigOnly": false,
            "Containers": .object(members), "Options": JSONValue(network.options), "Labels": JSONValue(network.labels),
        ]
    }

    private func create(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        var reader = try JSONReader(request.json(), path: "")
        var wanted = NodeNetworkRequest(name: try reader.string("Name"))
        reader.ignored("CheckDuplicate")
        wanted.driver = try reader.string("Driver")
        wanted.isInternal = try reader.bool("Internal")
        wanted.labels = try reader.map("Labels")
        wanted.options = try reader.map("Options")
        for name in ["Attachable", "Ingress", "ConfigOnly", "EnableIPv6"] { try reader.unsupported(name) }
        try reader.unsupported("EnableIPv4", except: [true])
        try reader.unsupported("ConfigFrom", except: [["Network": ""]])
        guard ["", "local"].contains(try reader.string("Scope")) else {
            throw ApusError(.unimplemented, "networks of the swarm are not in this version of Apus")
        }
        guard wanted.driver != "overlay" else { throw ApusError(.unimplemented, "overlay networks are not in this version of Apus") }
        if let ipam = reader.value("IPAM") {
            var settings = try JSONReader(ipam, path: "IPAM")
            try settings.unsupported("Driver", except: ["default"])
            try settings.unsupported("Options")
            let pools = try settings.objects("Config", IPAMPool.self)
            try settings.finish()
            guard pools.count <= 1 else { throw ApusError(.unimplemented, "more than one subnet for a network is not in this version of Apus") }
            if let pool = pools.first {
                guard pool.subnet.isEmpty || IPPrefix(pool.subnet) != nil else { throw ApusError(.invalidArgument, "invalid subnet \(pool.subnet)") }
                guard pool.gateway.isEmpty || IPAddress(pool.gateway) != nil else { throw ApusError(.invalidArgument, "invalid gateway \(pool.gateway)") }
                guard pool.range.isEmpty else { throw ApusError(.unimplemented, "an address range inside of the subnet is not in this version of Apus") }
                wanted.subnet = IPPrefix(pool.subnet)
                wanted.gateway = IPAddress(pool.gateway)
            }
        }
        try reader.finish()
        let network = try await containers.createNetwork(wanted)
        return .json(["Id": .string(network.id.text), "Warning": ""], status: 201)
    }
}
