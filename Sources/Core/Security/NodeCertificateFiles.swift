import Files
import Glibc
import OpenSSL
public import PluginAPI

/// The files of a node's identity: `swarm-root-ca.crt`, `swarm-node.crt`, `swarm-node.key`, 0600, in `<data root>/swarm/certificates`.
///
/// A renewal leaves either the old certificate with its key or the new one with its own, wherever it is cut short: the new key is first on disk as
/// `swarm-node.next.key`, the new certificate then as `swarm-node.next.crt`, and a reader that finds both puts them in place.
extension NodeCertificate {
    private static func certificatePath(_ directory: String) -> String { "\(directory)/swarm-node.crt" }
    private static func keyPath(_ directory: String) -> String { "\(directory)/swarm-node.key" }
    private static func rootPath(_ directory: String) -> String { "\(directory)/swarm-root-ca.crt" }
    private static func nextCertificatePath(_ directory: String) -> String { "\(directory)/swarm-node.next.crt" }
    private static func nextKeyPath(_ directory: String) -> String { "\(directory)/swarm-node.next.key" }

    /// Reads what `write` wrote; `nil` when this node is in no swarm.
    /// - Parameter lock: What opens the key when the swarm is locked.
    /// - Throws: `unavailable` when the key is locked and there is no `lock`; `corrupt` when files are damaged or do not belong together.
    public static func read(directory: String, lock: LocalLock? = nil) throws(ApusError) -> NodeCertificate? {
        guard Files.exists(certificatePath(directory)) || Files.exists(nextCertificatePath(directory)) else { return nil }
        do throws(ApusError) {
            try finishReplacement(directory, lock)
            let text = try Files.readText(certificatePath(directory), limit: 1 << 20)
            return try NodeCertificate(
                certificateChain: withoutHeader(text), key: try readKey(keyPath(directory), lock),
                root: try Files.readText(rootPath(directory), limit: 1 << 20), issuedAt: header("Issued", text).flatMap { Timestamp($0) },
                lifetime: header("Lifetime", text).flatMap { Int64($0) }.map { .seconds($0) })
        } catch {
            throw error.during(directory)
        }
    }

    /// Writes all three durably, in place of those that are there.
    public func write(directory: String, lock: LocalLock? = nil) throws(ApusError) {
        try Files.makeDirectory(directory)
        try Files.writeAtomically(Array(root.utf8), to: Self.rootPath(directory))
        try Self.writePendingKey(key, directory: directory, lock: lock)
        let text = "Issued: \(issuedAt)\nLifetime: \(lifetime.components.seconds)\n\(certificateChain)"
        try Files.writeAtomically(Array(text.utf8), to: Self.nextCertificatePath(directory))
        try Self.finishReplacement(directory, lock)
    }

    /// Writes the roots alone: what the node trusts changes without a new certificate.
    public static func write(root: String, directory: String) throws(ApusError) {
        try Files.writeAtomically(Array(root.utf8), to: rootPath(directory))
    }

    /// The key of a request that was not answered yet, PEM; `nil` when there is none.
    ///
    /// The same key is asked for again: when the managers issued a certificate for it and the answer was lost, it is the only one that they believe.
    static func pendingKey(directory: String, lock: LocalLock? = nil) throws(ApusError) -> String? {
        guard Files.exists(nextKeyPath(directory)) else { return nil }
        return try readKey(nextKeyPath(directory), lock)
    }

    /// Keeps the key of a request before it is sent.
    static func writePendingKey(_ key: String, directory: String, lock: LocalLock? = nil) throws(ApusError) {
        try Files.makeDirectory(directory)
        let content = if let lock { try lock.seal(Array(key.utf8), purpose: .nodeKey) } else { Array(key.utf8) }
        try Files.writeAtomically(content, to: nextKeyPath(directory))
    }

    /// Puts a new certificate and its key in place, from wherever a crash has left them.
    private static func finishReplacement(_ directory: String, _ lock: LocalLock?) throws(ApusError) {
        guard Files.exists(nextCertificatePath(directory)) else { return }
        if Files.exists(nextKeyPath(directory)) {
            // A key that was made after this certificate was put in place has nothing to do with it.
            let certificate = try Certificate(pem: withoutHeader(try Files.readText(nextCertificatePath(directory), limit: 1 << 20)))
            if certificate.belongs(to: try PrivateKey(pem: try readKey(nextKeyPath(directory), lock))) {
                try Files.move(nextKeyPath(directory), to: keyPath(directory))
            }
        }
        try Files.move(nextCertificatePath(directory), to: certificatePath(directory))
    }

    private static func readKey(_ path: String, _ lock: LocalLock?) throws(ApusError) -> String {
        let content = try Files.read(path, limit: 1 << 20)
        guard LocalLock.isSealed(content) else { return String(decoding: content, as: UTF8.self) }
        guard let lock else { throw AutoLock.lockedError }
        return String(decoding: try lock.open(content, purpose: .nodeKey), as: UTF8.self)
    }

    private static func header(_ name: String, _ text: String) -> String? {
        for line in text.split(separator: "\n") {
            if line.hasPrefix("-----BEGIN") { return nil }
            if line.hasPrefix("\(name): ") { return String(line.dropFirst(name.utf8.count + 2)) }
        }
        return nil
    }

    private static func withoutHeader(_ text: String) -> String {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        return lines.drop { !$0.hasPrefix("-----BEGIN") }.joined(separator: "\n")
    }
}

extension Files {
    /// Renames durably.
    static func move(_ from: String, to: String) throws(ApusError) {
        guard rename(from, to) == 0 else { throw lastError("cannot rename \(from)") }
        try syncFolder(of: to)
    }
}
