import ArgumentParser
import Coding
import PluginAPI

struct NetworkCreateCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Make a network.",
        discussion: "With the driver overlay it is a network of the swarm, for services on all nodes; with bridge it is this node's own.")

    @Option(name: [.customShort("d"), .long], help: "What makes it, such as bridge or overlay (default: bridge).") var driver = ""
    @Option(help: ArgumentHelp("Subnet, one of each family at most.", valueName: "CIDR")) var subnet: [String] = []
    @Option(help: ArgumentHelp("Gateway of a subnet (default: its first address).", valueName: "address")) var gateway: [String] = []
    @Option(help: ArgumentHelp("Part of a subnet from which addresses are given.", valueName: "CIDR")) var ipRange: [String] = []
    @Option(help: ArgumentHelp("Address that is never given, with a name for what has it.", valueName: "name=address")) var auxAddress: [String] = []
    @Option(name: [.customShort("o"), .long], help: ArgumentHelp("Option of the driver, such as encrypted.", valueName: "key[=value]"))
    var opt: [String] = []
    @Option(help: ArgumentHelp("Label.", valueName: "key=value")) var label: [String] = []
    @Flag(help: "Let containers join that are no tasks of services.") var attachable = false
    @Flag(name: .customLong("internal"), help: "Without a way out.") var isInternal = false
    @Flag(help: "Make it the network through which all nodes answer for published ports.") var ingress = false
    @Flag(name: .customLong("ipv6"), help: "With IPv6 beside IPv4.") var ipv6 = false
    @Option(help: "local or swarm (default: what the driver makes).") var scope = ""
    @Option(help: .hidden) var ipamDriver = "default"
    @Option(help: .hidden) var ipamOpt: [String] = []
    @Flag(help: .hidden) var configOnly = false
    @Option(help: .hidden) var configFrom = ""
    @Argument(help: "Name.") var name: String

    func body() throws(ApusError) -> JSONValue {
        guard ["", "local", "swarm"].contains(scope) else { throw ApusError(.invalidArgument, "--scope \(scope): it is one of local, swarm") }
        var ipam: JSONValue = ["Driver": .string(ipamDriver), "Options": JSONValue(try KeyValue.map(ipamOpt, flag: "--ipam-opt"))]
        ipam["Config"] = .array(try pools())
        var body: JSONValue = [
            "Name": .string(name), "CheckDuplicate": true, "Driver": .string(driver.isEmpty && ingress ? "overlay" : driver.isEmpty ? "bridge" : driver),
            "EnableIPv6": .bool(ipv6), "IPAM": ipam, "Internal": .bool(isInternal), "Attachable": .bool(attachable), "Ingress": .bool(ingress),
            "Options": JSONValue(try KeyValue.map(opt, flag: "--opt")), "Labels": JSONValue(try KeyValue.map(label, flag: "--label")),
        ]
        if !scope.isEmpty { body["Scope"] = .string(scope) }
        if configOnly { body["ConfigOnly"] = true }
        if !configFrom.isEmpty { body["ConfigFrom"] = ["Network": .string(configFrom)] }
        return body
    }

    /// The subnets, each with what lies in it.
    private func pools() throws(ApusError) -> [JSONValue] {
        var pools: [(subnet: IPPrefix, json: JSONValue)] = []
        for text in subnet {
            guard let prefix = IPPrefix(text) else {
                throw ApusError(.invalidArgument, "--subnet \(text): write an address with the length of its prefix, such as 10.1.0.0/24 or fd00:1::/64")
            }
            guard !pools.contains(where: { $0.subnet.overlaps(prefix) }) else { throw ApusError(.invalidArgument, "--subnet \(text): two subnets overlap") }
            pools.append((prefix, ["Subnet": .string(text)]))
        }
        func place(_ value: JSONValue, _ address: IPAddress, _ flag: String, _ text: String, at field: String) throws(ApusError) {
            guard let index = pools.firstIndex(where: { $0.subnet.contains(address) }) else {
                throw ApusError(.invalidArgument, "\(flag) \(text): no --subnet has this address")
            }
            guard pools[index].json[field] == nil else {
                throw ApusError(.invalidArgument, "\(flag) \(text): the subnet \(pools[index].subnet) has one already")
            }
            pools[index].json[field] = value
        }
        for text in gateway {
            guard let address = IPAddress(text) else { throw ApusError(.invalidArgument, "--gateway \(text): it is an address without a length") }
            try place(.string(text), address, "--gateway", text, at: "Gateway")
        }
        for text in ipRange {
            guard let range = IPPrefix(text) else { throw ApusError(.invalidArgument, "--ip-range \(text): write it like 10.1.0.128/25") }
            try place(.string(text), range.address, "--ip-range", text, at: "IPRange")
        }
        var auxiliary: [Int: [String: String]] = [:]
        for (key, text) in try KeyValue.map(auxAddress, flag: "--aux-address").sorted(by: { $0.key < $1.key }) {
            guard let address = IPAddress(text), let index = pools.firstIndex(where: { $0.subnet.contains(address) }) else {
                throw ApusError(.invalidArgument, "--aux-address \(key)=\(text): it is not an address in one of the subnets")
            }
            auxiliary[index, default: [:]][key] = text
        }
        for (index, addresses) in auxiliary { pools[index].json["AuxiliaryAddresses"] = JSONValue(addresses) }
        return pools.map(\.json)
    }

    func run(with context: CommandContext) async throws {
        let answer = try await context.client.post("/networks/create", body: try body())
        if let warning = answer["Warning"]?.string, !warning.isEmpty { context.console.errorLine("apus: warning: \(warning)") }
        context.console.line(answer["Id"]?.string ?? name)
    }
}
