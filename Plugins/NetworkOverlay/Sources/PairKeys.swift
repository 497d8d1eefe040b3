import Netlink
import OpenSSL
import PluginAPI

/// The keys between this node and the others: what follows from the swarm's keys and the two addresses, so that both ends know it without a word.
///
/// **Nonces.** AES-GCM breaks when a key and a nonce are used twice. A nonce here is 4 bytes that belong to the key, and 8 that the kernel makes of the
/// packet's number: it adds (exclusive or) 8 random bytes to it, new for each association that is made (its `seqiv`, in every kernel that has
/// `rfc4106(gcm(aes))`). So an association that is made again under the same key, after a reboot of the machine, counts from one, but in another part of the space of
/// nonces: two such runs of at most 2³² packets meet only when the upper 4 of the 8 bytes are the same, by chance 2⁻³², which is what NIST SP 800-38D
/// allows for random nonces. To keep it rare, an engine that starts again keeps the associations that it finds; managers change the key every twelve hours; and
/// before its number runs out (the kernel then sends nothing more) an association is made again.
///
/// **Limits.** A receiver cannot tell a sender that counts from one again from an attacker who repeats what he heard, so there is no window against
/// repetition: as long as a key is known, a packet may arrive twice, as on any network. Each node knows the swarm's keys, so one node can read
/// what two others say: the encryption protects from the wire, not from members.
struct PairKeys: Sendable, Hashable {
    /// Oldest first.
    let keys: [NetworkKey]

    /// - Throws: `invalidArgument` for keys that are none.
    init(_ keys: [NetworkKey]) throws(ApusError) {
        guard !keys.isEmpty else { throw ApusError(.unavailable, "there is no key for the encryption yet; the managers make it") }
        for key in keys where key.key.count != 16 {
            throw ApusError(.invalidArgument, "key \(key.number) of the encryption has \(key.key.count) bytes instead of 16")
        }
        guard Set(keys.map(\.number)).count == keys.count else { throw ApusError(.invalidArgument, "two keys of the encryption have the same number") }
        self.keys = keys.sorted { $0.number < $1.number }
    }

    /// The one before the last: the last may not be known everywhere yet.
    var sendingKey: NetworkKey { keys[max(0, keys.count - 2)] }

    /// What receives from another node, under any of the keys.
    func receiving(from other: IPAddress, at own: IPAddress) throws(ApusError) -> [SecurityAssociation] {
        var associations: [SecurityAssociation] = []
        for key in keys { associations.append(try Self.association(key, from: other, to: own)) }
        return associations
    }

    /// What is sent to another node.
    func sending(to other: IPAddress, from own: IPAddress) throws(ApusError) -> SecurityAssociation {
        try Self.association(sendingKey, from: own, to: other)
    }

    static func association(_ key: NetworkKey, from source: IPAddress, to destination: IPAddress) throws(ApusError) -> SecurityAssociation {
        let purpose = Array("apus overlay esp 1 ".utf8) + bytes(key.number) + source.bytes + destination.bytes
        let material = try HKDF.sha256(secret: key.key, salt: [], information: purpose, count: 20)
        return SecurityAssociation(
            source: source, destination: destination, spi: try number(key, source, destination), key: material)
    }

    /// The number by which the receiver finds the key. Among senders that share all but the last three bytes of their addresses no two have the same, nor have
    /// the keys of one sender; among others chance decides, and two that meet cannot both send to the receiver until the next key: 1 in 16 million for
    /// each pair.
    private static func number(_ key: NetworkKey, _ source: IPAddress, _ destination: IPAddress) throws(ApusError) -> UInt32 {
        let shared = Array("apus overlay spi 1 ".utf8) + bytes(key.number) + source.bytes.dropLast(3) + destination.bytes
        let mask = try HMAC.sha256(key: key.key, shared)
        var number = UInt32(key.number % 255 + 1)
        for (byte, mask) in zip(source.bytes.suffix(3), mask) { number = number << 8 | UInt32(byte ^ mask) }
        return number
    }

    private static func bytes(_ number: UInt64) -> [UInt8] { withUnsafeBytes(of: number.bigEndian) { [UInt8]($0) } }
}
