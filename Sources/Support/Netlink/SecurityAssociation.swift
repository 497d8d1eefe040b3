import CNetlink
import Glibc
import PluginAPI

/// One direction between two machines under one key: ESP in transport mode with AES-128-GCM (RFC 4106).
public struct SecurityAssociation: Sendable, Hashable {
    public var source: IPAddress
    public var destination: IPAddress
    /// By which the receiver finds the key; 256 or more.
    public var spi: UInt32
    /// 16 bytes of key, and 4 bytes that every nonce begins with.
    public var key: [UInt8]

    public init(source: IPAddress, destination: IPAddress, spi: UInt32, key: [UInt8]) {
        self.source = source
        self.destination = destination
        self.spi = spi
        self.key = key
    }
}

/// What is to be done with marked UDP packets to a port: to be sent under a key, or never.
public struct SecurityPolicy: Sendable, Hashable {
    /// Protection, or a refusal.
    public enum Action: Sendable, Hashable {
        /// By the association from the first to the second with this number. Without it nothing is sent.
        case protect(source: IPAddress, destination: IPAddress, spi: UInt32)
        /// To whoever has no policy of its own.
        case block(isIPv4: Bool)
    }
    public var port: UInt16
    public var action: Action

    public init(port: UInt16, action: Action) {
        self.port = port
        self.action = action
    }

    /// Which packets it is for, by which the kernel tells policies apart.
    public struct Packets: Sendable, Hashable {
        var port: UInt16
        var source: IPAddress?
        var destination: IPAddress?
        var isIPv4: Bool
    }

    public var packets: Packets {
        switch action {
        case .protect(let source, let destination, _): Packets(port: port, source: source, destination: destination, isIPv4: source.isIPv4)
        case .block(let isIPv4): Packets(port: port, source: nil, destination: nil, isIPv4: isIPv4)
        }
    }

    public var isBlock: Bool { if case .block = action { true } else { false } }
}

/// The associations and policies for outgoing packets of a namespace that carry one mark. Those of other programs are neither seen nor touched.
///
/// It is used by one thread at a time.
public final class SecurityTable {
    private let channel: NetlinkChannel
    /// Of packets, and of what belongs to this table.
    private let mark: UInt32

    /// An association that is in force.
    public struct Present: Sendable, Hashable {
        public var association: SecurityAssociation
        /// That went by it.
        public var packets: UInt64
    }

    /// In the calling thread's namespace.
    /// - Throws: `unavailable` when the kernel has no IPsec.
    public init(mark: UInt32) throws(ApusError) {
        channel = try NetlinkChannel(NETLINK_XFRM)
        self.mark = mark
    }

    /// Whether the kernel can do what an association needs, found by making one that nobody uses.
    /// - Throws: `unavailable` naming what is missing.
    public func probe(isIPv4: Bool) throws(ApusError) {
        // Addresses for documentation, which no packet has.
        let texts = isIPv4 ? ("192.0.2.1", "192.0.2.2") : ("2001:db8::1", "2001:db8::2")
        guard let source = IPAddress(texts.0), let destination = IPAddress(texts.1) else { return }
        let trial = SecurityAssociation(
            source: source, destination: destination, spi: UInt32.random(in: 0x100...UInt32.max), key: (0..<20).map { _ in UInt8.random(in: 0...255) })
        let answers = try channel.send([message(adding: trial), message(removing: trial)])
        guard let number = answers[0] else { return }
        let kernel = isIPv4 ? "esp4 (CONFIG_INET_ESP)" : "esp6 (CONFIG_INET6_ESP)"
        throw ApusError(
            number == EPERM ? .permissionDenied : .unavailable,
            "this kernel cannot encrypt: it needs \(kernel) and AES-GCM with seqiv (CONFIG_CRYPTO_GCM, CONFIG_CRYPTO_SEQIV): \(String(cString: strerror(number)))"
        )
    }

    /// The associations in force.
    public func associations() throws(ApusError) -> [Present] {
        var found: [Present] = []
        for body in try channel.dump(NetlinkMessage(XFRM_MSG_GETSA)) {
            guard let info = body.structure(xfrm_usersa_info.self), info.reqid == mark, info.id.proto == UInt8(IPPROTO_ESP) else { continue }
            let attributes = NetlinkAttributes(body.dropFirst(MemoryLayout<xfrm_usersa_info>.size))
            let isIPv4 = info.family == UInt16(AF_INET)
            guard let source = IPAddress(info.saddr, isIPv4: isIPv4), let destination = IPAddress(info.id.daddr, isIPv4: isIPv4),
                let algorithm = attributes[Int(XFRMA_ALG_AEAD.rawValue)]
            else { continue }
            found.append(
                Present(
                    association: SecurityAssociation(
                        source: source, destination: destination, spi: UInt32(bigEndian: info.id.spi),
                        key: Array(algorithm.dropFirst(MemoryLayout<xfrm_algo_aead>.size))),
                    packets: info.curlft.packets))
        }
        return found
    }

    /// The policies in force.
    public func policies() throws(ApusError) -> [SecurityPolicy] {
        var found: [SecurityPolicy] = []
        for body in try channel.dump(NetlinkMessage(XFRM_MSG_GETPOLICY)) {
            guard let info = body.structure(xfrm_userpolicy_info.self), Int(info.dir) == Int(XFRM_POLICY_OUT) else { continue }
            let attributes = NetlinkAttributes(body.dropFirst(MemoryLayout<xfrm_userpolicy_info>.size))
            guard attributes[Int(XFRMA_MARK.rawValue)]?.number(at: 0, as: UInt32.self) == mark else { continue }
            let isIPv4 = info.sel.family == UInt16(AF_INET)
            let port = UInt16(bigEndian: info.sel.dport)
            if info.action == UInt8(XFRM_POLICY_BLOCK) {
                found.append(SecurityPolicy(port: port, action: .block(isIPv4: isIPv4)))
            } else if let template = attributes[Int(XFRMA_TMPL.rawValue)]?.structure(xfrm_user_tmpl.self),
                let source = IPAddress(info.sel.saddr, isIPv4: isIPv4), let destination = IPAddress(info.sel.daddr, isIPv4: isIPv4)
            {
                found.append(
                    SecurityPolicy(port: port, action: .protect(source: source, destination: destination, spi: UInt32(bigEndian: template.id.spi))))
            }
        }
        return found
    }

    /// All at once; one that is there already is an error.
    public func add(_ associations: [SecurityAssociation]) throws(ApusError) {
        try send(associations.map(message(adding:)), "add \(associations.count) security association(s)")
    }

    /// Those that are gone already are no error.
    public func remove(_ associations: [SecurityAssociation]) throws(ApusError) {
        try send(associations.map(message(removing:)), "remove \(associations.count) security association(s)", isRemoval: true)
    }

    /// Adds policies, each in place of the one for the same packets, with nothing between.
    public func set(_ policies: [SecurityPolicy]) throws(ApusError) {
        try send(policies.map(message(setting:)), "set \(policies.count) security policies")
    }

    /// Those that are gone already are no error.
    public func remove(_ policies: [SecurityPolicy]) throws(ApusError) {
        try send(policies.map(message(removing:)), "remove \(policies.count) security policies", isRemoval: true)
    }

    private func send(_ messages: [NetlinkMessage], _ doing: String, isRemoval: Bool = false) throws(ApusError) {
        guard !messages.isEmpty else { return }
        let refusals = try channel.send(messages).filter { !isRemoval || ($0.value != ESRCH && $0.value != ENOENT) }
        guard let first = refusals.min(by: { $0.key < $1.key }) else { return }
        throw .refusal("cannot \(doing), \(refusals.count) were refused", first.value)
    }

    private func message(adding association: SecurityAssociation) -> NetlinkMessage {
        var info = xfrm_usersa_info()
        info.id.daddr = association.destination.kernelAddress
        info.id.spi = association.spi.bigEndian
        info.id.proto = UInt8(IPPROTO_ESP)
        info.saddr = association.source.kernelAddress
        info.lft = .unlimited
        info.reqid = mark
        info.family = association.source.kernelFamily
        info.mode = UInt8(XFRM_MODE_TRANSPORT)
        // No window against repetition: a sender that has started again counts from one.
        info.replay_window = 0
        var message = NetlinkMessage(XFRM_MSG_NEWSA)
        message.append(structure: info)
        var algorithm = NetlinkMessage(0)
        algorithm.append(Array("rfc4106(gcm(aes))".utf8))
        algorithm.align(64)
        algorithm.append(UInt32(association.key.count * 8))
        algorithm.append(UInt32(128))
        algorithm.append(association.key)
        message.attribute(Int(XFRMA_ALG_AEAD.rawValue), algorithm.body)
        return message
    }

    private func message(removing association: SecurityAssociation) -> NetlinkMessage {
        var identity = xfrm_usersa_id()
        identity.daddr = association.destination.kernelAddress
        identity.spi = association.spi.bigEndian
        identity.family = association.destination.kernelFamily
        identity.proto = UInt8(IPPROTO_ESP)
        var message = NetlinkMessage(XFRM_MSG_DELSA)
        message.append(structure: identity)
        return message
    }

    private func message(setting policy: SecurityPolicy) -> NetlinkMessage {
        var info = xfrm_userpolicy_info()
        info.sel = selector(of: policy)
        info.lft = .unlimited
        info.dir = UInt8(XFRM_POLICY_OUT)
        var template: xfrm_user_tmpl?
        switch policy.action {
        case .block:
            info.action = UInt8(XFRM_POLICY_BLOCK)
            info.priority = 2000
        case .protect(let source, let destination, let spi):
            info.action = UInt8(XFRM_POLICY_ALLOW)
            info.priority = 1000
            var wanted = xfrm_user_tmpl()
            wanted.id.daddr = destination.kernelAddress
            wanted.id.spi = spi.bigEndian
            wanted.id.proto = UInt8(IPPROTO_ESP)
            wanted.family = source.kernelFamily
            wanted.saddr = source.kernelAddress
            wanted.reqid = mark
            wanted.mode = UInt8(XFRM_MODE_TRANSPORT)
            (wanted.aalgos, wanted.ealgos, wanted.calgos) = (.max, .max, .max)
            template = wanted
        }
        var message = NetlinkMessage(XFRM_MSG_UPDPOLICY)
        message.append(structure: info)
        if let template {
            var body = NetlinkMessage(0)
            body.append(structure: template)
            message.attribute(Int(XFRMA_TMPL.rawValue), body.body)
        }
        addMark(to: &message)
        return message
    }

    private func message(removing policy: SecurityPolicy) -> NetlinkMessage {
        var identity = xfrm_userpolicy_id()
        identity.sel = selector(of: policy)
        identity.dir = UInt8(XFRM_POLICY_OUT)
        var message = NetlinkMessage(XFRM_MSG_DELPOLICY)
        message.append(structure: identity)
        addMark(to: &message)
        return message
    }

    private func selector(of policy: SecurityPolicy) -> xfrm_selector {
        var selector = xfrm_selector()
        selector.dport = policy.port.bigEndian
        selector.dport_mask = .max
        selector.proto = UInt8(IPPROTO_UDP)
        switch policy.action {
        case .block(let isIPv4): selector.family = UInt16(isIPv4 ? AF_INET : AF_INET6)
        case .protect(let source, let destination, _):
            selector.saddr = source.kernelAddress
            selector.daddr = destination.kernelAddress
            selector.family = source.kernelFamily
            selector.prefixlen_s = UInt8(source.bytes.count * 8)
            selector.prefixlen_d = UInt8(destination.bytes.count * 8)
        }
        return selector
    }

    private func addMark(to message: inout NetlinkMessage) {
        var mark = NetlinkMessage(0)
        mark.append(self.mark)
        mark.append(UInt32.max)
        message.attribute(Int(XFRMA_MARK.rawValue), mark.body)
    }
}

extension IPAddress {
    fileprivate var kernelFamily: UInt16 { UInt16(isIPv4 ? AF_INET : AF_INET6) }

    fileprivate var kernelAddress: xfrm_address_t {
        var address = xfrm_address_t()
        withUnsafeMutableBytes(of: &address) { $0.copyBytes(from: bytes) }
        return address
    }

    fileprivate init?(_ address: xfrm_address_t, isIPv4: Bool) {
        self.init(bytes: withUnsafeBytes(of: address) { Array($0.prefix(isIPv4 ? 4 : 16)) })
    }
}

extension xfrm_lifetime_cfg {
    fileprivate static var unlimited: xfrm_lifetime_cfg {
        var limits = xfrm_lifetime_cfg()
        (limits.soft_byte_limit, limits.hard_byte_limit, limits.soft_packet_limit, limits.hard_packet_limit) = (.max, .max, .max, .max)
        return limits
    }
}

extension NetlinkMessage {
    /// A structure of the kernel's, which is plain bytes.
    fileprivate mutating func append<Structure>(structure: Structure) { withUnsafeBytes(of: structure) { append($0) } }
}

extension ArraySlice<UInt8> {
    /// A structure of the kernel's at the start, or `nil` when there is too little.
    fileprivate func structure<Structure>(_ type: Structure.Type) -> Structure? {
        guard count >= MemoryLayout<Structure>.size else { return nil }
        return prefix(MemoryLayout<Structure>.size).withUnsafeBytes { $0.loadUnaligned(as: type) }
    }
}
