import Agent
import Coding
import Orchestration
import PluginAPI

/// The body of `POST /networks/create`.
struct NetworkCreateBody: Sendable {
    var name = ""
    /// Empty: the default one.
    var driver = ""
    /// `local`, `swarm`, or empty: what the driver makes.
    var scope = ""
    var spec = NetworkSpec()
    /// Auxiliary addresses, by name.
    var reserved: [String: String] = [:]

    /// The driver in words of the plugins.
    var driverName: String { driver.isEmpty ? (spec.ingress || scope == "swarm" ? "overlay" : "bridge") : driver }

    /// - Throws: `invalidArgument` for a field of a wrong type or one that is not known; `unimplemented` for what Apus does not do.
    init(_ json: JSONValue) throws(ApusError) {
        var reader = try JSONReader(json, path: "")
        name = try reader.string("Name")
        driver = try reader.string("Driver")
        scope = try reader.string("Scope")
        guard ["", "local", "swarm"].contains(scope) else {
            throw ApusError(.invalidArgument, "Scope: \"\(scope.prefix(100))\" is neither local nor swarm")
        }
        reader.ignored("CheckDuplicate")
        spec.isInternal = try reader.bool("Internal")
        spec.attachable = try reader.bool("Attachable")
        spec.ingress = try reader.bool("Ingress")
        spec.ipv6 = try reader.bool("EnableIPv6")
        spec.labels = try reader.map("Labels")
        let options = try reader.map("Options")
        for field in ["ConfigOnly"] { try reader.unsupported(field) }
        try reader.unsupported("EnableIPv4", except: [true])
        try reader.unsupported("ConfigFrom", except: [["Network": ""]])
        if let ipam = reader.value("IPAM") { try readPools(ipam) }
        try reader.finish()
        spec.name = name
        var state = NetworkDriverState()
        state.name = driverName
        state.options = options
        spec.driver = state
    }

    private mutating func readPools(_ json: JSONValue) throws(ApusError) {
        var settings = try JSONReader(json, path: "IPAM")
        var ipam = IPAMConfig()
        let driver = try settings.string("Driver")
        // The default one is what there is when nothing is said.
        ipam.driver = driver == "default" ? "" : driver
        ipam.options = try settings.map("Options")
        if let list = settings.value("Config") {
            guard let array = list.array else { throw settings.wrong("Config", "an array") }
            for (index, element) in array.enumerated() {
                var reader = try JSONReader(element, path: "IPAM.Config[\(index)]")
                var pool = IPAMPool()
                pool.subnet = try reader.string("Subnet")
                pool.range = try reader.string("IPRange")
                pool.gateway = try reader.string("Gateway")
                reserved.merge(try reader.map("AuxiliaryAddresses")) { _, new in new }
                reserved.merge(try reader.map("AuxAddress")) { _, new in new }
                try reader.finish()
                ipam.configs.append(pool)
            }
        }
        try settings.finish()
        spec.ipam = ipam
    }

    /// A network of this node.
    /// - Throws: `unimplemented` for what only networks of the swarm have.
    func nodeRequest() throws(ApusError) -> NodeNetworkRequest {
        guard scope != "swarm" else {
            throw ApusError(.unimplemented, "networks of the swarm that are made with the driver \(driverName) are not in this version of Apus")
        }
        for (field, isWanted) in [("Attachable", spec.attachable), ("Ingress", spec.ingress), ("EnableIPv6", spec.ipv6)] where isWanted {
            throw ApusError(.unimplemented, "\(field) for a network of the driver \(driverName) is not in this version of Apus")
        }
        var request = NodeNetworkRequest(name: name)
        request.driver = driver
        request.isInternal = spec.isInternal
        request.labels = spec.labels
        request.options = spec.driver?.options ?? [:]
        guard let ipam = spec.ipam else { return request }
        guard ["", "default"].contains(ipam.driver), ipam.options.isEmpty else {
            throw ApusError(.unimplemented, "another IPAM driver than default, and options of it, are not in this version of Apus")
        }
        guard reserved.isEmpty else { throw ApusError(.unimplemented, "auxiliary addresses of a local network are not in this version of Apus") }
        guard ipam.configs.count <= 1 else { throw ApusError(.unimplemented, "more than one subnet for a network is not in this version of Apus") }
        guard let pool = ipam.configs.first else { return request }
        guard pool.subnet.isEmpty || IPPrefix(pool.subnet) != nil else { throw ApusError(.invalidArgument, "invalid subnet \(pool.subnet)") }
        guard pool.gateway.isEmpty || IPAddress(pool.gateway) != nil else { throw ApusError(.invalidArgument, "invalid gateway \(pool.gateway)") }
        guard pool.range.isEmpty else { throw ApusError(.unimplemented, "an address range inside of the subnet is not in this version of Apus") }
        request.subnet = IPPrefix(pool.subnet)
        request.gateway = IPAddress(pool.gateway)
        return request
    }
}
