import Allocation
import PluginAPI

/// The checks of a network's spec that need nothing but the spec.
struct NetworkValidation {
    let spec: NetworkSpec
    /// Addresses that are never given away, by name.
    var reserved: [String: String] = [:]

    /// - Throws: `invalidArgument` with the field that is wrong; `unimplemented` for what Apus does not do.
    func check() throws(ApusError) {
        try ServiceValidation.checkName(spec.name)
        try ServiceValidation.checkLabels(spec.labels, of: "network")
        if spec.ingress {
            guard !spec.attachable else { throw ApusError(.invalidArgument, "ingress network cannot be attachable") }
            guard !spec.isInternal else { throw ApusError(.invalidArgument, "ingress network cannot be internal") }
            guard ["", "overlay"].contains(spec.driver?.name ?? "") else {
                throw ApusError(.invalidArgument, "ingress network can only be made with the overlay driver")
            }
        }
        for key in (spec.driver?.options ?? [:]).keys.sorted() where key.isEmpty || ServiceValidation.hasControlCharacters(key) {
            throw ApusError(.invalidArgument, "an option of the driver has no name, or one with control characters")
        }
        try checkPools()
    }

    private func checkPools() throws(ApusError) {
        guard let ipam = spec.ipam else { return try checkReserved([]) }
        guard ["", "default"].contains(ipam.driver) else {
            throw ApusError(.unimplemented, "the IPAM driver \"\(ServiceValidation.printable(ipam.driver))\" is not supported; default is")
        }
        guard ipam.options.isEmpty else { throw ApusError(.unimplemented, "options of the IPAM driver are not supported") }
        var subnets: [IPPrefix] = []
        for pool in ipam.configs {
            guard !pool.subnet.isEmpty else {
                guard pool.gateway.isEmpty, pool.range.isEmpty else {
                    throw ApusError(.invalidArgument, "a gateway or a range needs the subnet that it is in: add --subnet")
                }
                continue
            }
            let subnet = try Self.prefix(pool.subnet, "subnet")
            guard spec.ipv6 || subnet.address.isIPv4 else {
                throw ApusError(.invalidArgument, "the subnet \(subnet) is of IPv6, which the network does not have: add --ipv6")
            }
            guard !subnets.contains(where: { $0.overlaps(subnet) }) else {
                throw ApusError(.invalidArgument, "the subnet \(subnet) overlaps another one of the same network")
            }
            guard !subnets.contains(where: { $0.address.isIPv4 == subnet.address.isIPv4 }) else {
                throw ApusError(.unimplemented, "more than one \(subnet.address.isIPv4 ? "IPv4" : "IPv6") subnet for a network is not supported yet")
            }
            try check(pool, subnet)
            subnets.append(subnet)
        }
        try checkReserved(subnets)
    }

    private func check(_ pool: IPAMPool, _ subnet: IPPrefix) throws(ApusError) {
        let range = pool.range.isEmpty ? nil : try Self.prefix(pool.range, "range")
        var gateway: IPAddress?
        if !pool.gateway.isEmpty {
            gateway = IPAddress(pool.gateway)
            guard gateway != nil else {
                throw ApusError(.invalidArgument, "invalid gateway \"\(ServiceValidation.printable(pool.gateway))\": it is an address without a length")
            }
        }
        _ = try AddressPool(subnet: subnet, gateway: gateway, range: range)
        if spec.ingress, subnet.address.isIPv4, subnet.length < 16 {
            throw ApusError(.invalidArgument, "the subnet \(subnet) is too large for the ingress network: /16 is the largest")
        }
    }

    private func checkReserved(_ subnets: [IPPrefix]) throws(ApusError) {
        for (name, text) in reserved.sorted(by: { $0.key < $1.key }) {
            guard let address = IPAddress(text) else {
                throw ApusError(
                    .invalidArgument, "the auxiliary address \(ServiceValidation.printable(name))=\(ServiceValidation.printable(text)) is not an address")
            }
            guard subnets.contains(where: { $0.contains(address) }) else {
                throw ApusError(.invalidArgument, "the auxiliary address \(ServiceValidation.printable(name))=\(address) is in no subnet of the network")
            }
        }
    }

    private static func prefix(_ text: String, _ what: String) throws(ApusError) -> IPPrefix {
        if let prefix = IPPrefix(text) { return prefix }
        let hint =
            IPAddress(text) == nil
            ? "it is written as an address and a length, such as 10.1.0.0/24"
            : "it needs the length of its prefix, such as \(text)/\(text.contains(":") ? 64 : 24)"
        throw ApusError(.invalidArgument, "invalid \(what) \"\(ServiceValidation.printable(text))\": \(hint)")
    }
}
