import PluginAPI

/// What is known in a sandbox. Pure: the same question has the same answer as long as the state is the same.
enum NameLookup {
    enum Result: Hashable {
        case answer(Response.Content)
        /// The name is known not to exist.
        case missing
        /// It is somebody else's business.
        case unknown
    }

    static func resolve(_ question: Question, in sandbox: SandboxNames, _ networks: [ID: NetworkNames]) -> Result {
        guard question.networkClass == internetClass, let key = question.name.key, !key.isEmpty else { return .unknown }
        if let address = ReverseName.address(key) { return resolve(address, type: question.type, in: sandbox, networks) }
        guard let addresses = addresses(key, in: sandbox, networks) else { return .unknown }
        // A name without an address of the family is known all the same: musl takes a failure of one family for one of both.
        let wanted: [IPAddress] =
            switch question.type {
            case RecordType.address: addresses.filter(\.isIPv4)
            case RecordType.address6: addresses.filter { !$0.isIPv4 }
            default: []
            }
        return .answer(wanted.isEmpty ? .empty : .addresses(wanted))
    }

    /// `nil` when the name is not known.
    private static func addresses(_ key: String, in sandbox: SandboxNames, _ networks: [ID: NetworkNames]) -> [IPAddress]? {
        if let own = sandbox.ownNames[key] { return own }
        for id in sandbox.networks {
            if let found = networks[id]?.names[key] { return found }
        }
        for id in sandbox.networks {
            guard let network = networks[id], !network.name.isEmpty else { continue }
            let ending = "." + network.name.lowercased()
            guard key.utf8.count > ending.utf8.count, key.hasSuffix(ending) else { continue }
            if let found = network.names[String(key.dropLast(ending.count))] { return found }
        }
        return nil
    }

    private static func resolve(_ address: IPAddress, type: UInt16, in sandbox: SandboxNames, _ networks: [ID: NetworkNames]) -> Result {
        for id in sandbox.networks {
            guard let text = networks[id]?.pointers[address], let name = DomainName(text) else { continue }
            return .answer(type == RecordType.pointer ? .pointer(name) : .empty)
        }
        let isWithin = sandbox.networks.contains { networks[$0]?.subnets.contains { $0.contains(address) } ?? false }
        return isWithin ? .missing : .unknown
    }
}

/// The names under which addresses have names (RFC 1035, 3.5 and RFC 3596, 2.5).
enum ReverseName {
    /// The address that a name in lower case stands for; `nil` for all others.
    static func address(_ key: String) -> IPAddress? {
        if let labels = labels(key, before: ".in-addr.arpa") {
            return labels.count == 4 ? IPAddress(labels.reversed().joined(separator: ".")) : nil
        }
        guard let labels = labels(key, before: ".ip6.arpa"), labels.count == 32 else { return nil }
        var bytes: [UInt8] = []
        var upper: UInt8?
        for label in labels.reversed() {
            guard label.utf8.count == 1, let digit = UInt8(label, radix: 16) else { return nil }
            if let high = upper {
                bytes.append(high << 4 | digit)
                upper = nil
            } else {
                upper = digit
            }
        }
        return IPAddress(bytes: bytes)
    }

    private static func labels(_ key: String, before ending: String) -> [Substring]? {
        key.hasSuffix(ending) ? key.dropLast(ending.count).split(separator: ".", omittingEmptySubsequences: false) : nil
    }
}
