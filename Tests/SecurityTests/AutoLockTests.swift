import CAInternal
import Coding
import Files
import OpenSSL
import PluginAPI
import Raft
import Store
import Testing

@testable import Security

@Suite struct AutoLockTests {
    private func withManager(_ body: (String, NodeCertificate) async throws -> Void) async throws {
        let path = try Files.makeTemporaryDirectory(prefix: "apus-security")
        defer { try? Files.removeTree(path) }
        let made = try await SwarmIdentity.bootstrap(
            clusterID: "c", nodeID: "n", authority: InternalAuthority(host: Host()), directory: path + "/certificates", now: Leader.start)
        let store = try await ObjectStore.open(StoreConfiguration(directory: path + "/raft"))
        await store.close()
        try await body(path, made.certificate)
    }

    @Test func unlockKeysAreReadAndWritten() throws {
        let key = try UnlockKey.generate()
        #expect(key.description.hasPrefix("SWMKEY-1-"))
        #expect(key.description.utf8.count == 52)
        #expect(try UnlockKey(parsing: key.description) == key)
        for bad in ["", "SWMKEY-1-", "SWMKEY-2-" + key.description.dropFirst(9), String(key.description.dropLast()), key.description + "A", "rubbish"] {
            #expect(throws: ApusError.self, "\(bad)") { try UnlockKey(parsing: bad) }
        }
        #expect(throws: ApusError.self) { try UnlockKey(bytes: [1, 2, 3]) }
    }

    @Test func whatIsWrappedOpensWithItsKeyAlone() throws {
        let key = try SecureRandom.bytes(32)
        let secret = Array("secret".utf8)
        let wrapped = try KeyEncryption.wrap(secret, key: key, purpose: "a")
        #expect(try KeyEncryption.unwrap(wrapped, key: key, purpose: "a") == secret)
        #expect(try KeyEncryption.wrap(secret, key: key, purpose: "a") != wrapped)
        #expect(throws: ApusError.self) { try KeyEncryption.unwrap(wrapped, key: key, purpose: "b") }
        #expect(throws: ApusError.self) { try KeyEncryption.unwrap(wrapped, key: SecureRandom.bytes(32), purpose: "a") }
        for index in wrapped.indices {
            var changed = wrapped
            changed[index] ^= 1
            #expect(throws: ApusError.self) { try KeyEncryption.unwrap(changed, key: key, purpose: "a") }
            #expect(throws: ApusError.self) { try KeyEncryption.unwrap(Array(wrapped.prefix(index)), key: key, purpose: "a") }
        }
    }

    @Test func aLockedManagerIsOfNoUseWithoutItsKey() async throws {
        try await withManager { path, certificate in
            let directory = path + "/certificates"
            let lock = AutoLock(directory: path)
            #expect(!SwarmIdentity.isLocked(directory: path))
            let key = try UnlockKey.generate()
            #expect(try lock.unlock(key) == nil)
            let open = try lock.lock(key, lock: nil)
            #expect(SwarmIdentity.isLocked(directory: path))
            let nodeKey = try Files.read(directory + "/swarm-node.key")
            #expect(!String(decoding: nodeKey, as: UTF8.self).contains("PRIVATE"))
            for (error, code) in [
                (#expect(throws: ApusError.self) { try NodeCertificate.read(directory: directory) }, ApusError.Code.unavailable),
                (#expect(throws: ApusError.self) { try lock.unlock(try UnlockKey.generate()) }, .invalidArgument),
                (#expect(throws: ApusError.self) { try lock.lock(key, lock: nil) }, .unavailable),
            ] { #expect(error?.code == code) }
            let sealed = StoreConfiguration(directory: path + "/raft")
            await #expect(throws: ApusError.self) { _ = try await ObjectStore.open(sealed) }
            // With it everything is there.
            #expect(try lock.unlock(key) == open)
            #expect(try NodeCertificate.read(directory: directory, lock: open) == certificate)
            var configuration = StoreConfiguration(directory: path + "/raft")
            configuration.files = lock.files(open)
            let store = try await ObjectStore.open(configuration)
            await store.close()
            // A renewal keeps the key locked.
            try certificate.write(directory: directory, lock: open)
            #expect(try !String(decoding: Files.read(directory + "/swarm-node.key"), as: UTF8.self).contains("PRIVATE"))
            // Another unlock key: the one before is of no use any more.
            let next = try UnlockKey.generate()
            #expect(try lock.apply(next, lock: open) == open)
            #expect(throws: ApusError.self) { try lock.unlock(key) }
            #expect(try lock.unlock(next) == open)
            #expect(try lock.apply(next, lock: open) == open)
            // And open for good.
            #expect(try lock.apply(nil, lock: open) == nil)
            #expect(!lock.isLocked)
            #expect(try NodeCertificate.read(directory: directory) == certificate)
            let again = try await ObjectStore.open(StoreConfiguration(directory: path + "/raft"))
            await again.close()
            #expect(try Files.list(directory) == ["swarm-node.crt", "swarm-node.key", "swarm-root-ca.crt"])
        }
    }

    @Test func lockingThatWasCutShortIsFinished() async throws {
        try await withManager { path, certificate in
            let lock = AutoLock(directory: path)
            let key = try UnlockKey.generate()
            let plain = try Files.read(path + "/raft/keys/raft.key")
            let open = try lock.lock(key, lock: nil)
            // As if it had ended before the last file.
            try Files.writeAtomically(plain, to: path + "/raft/keys/raft.key")
            #expect(try NodeCertificate.read(directory: path + "/certificates", lock: open) == certificate)
            #expect(try lock.apply(key, lock: lock.unlock(key)) == open)
            #expect(try Files.read(path + "/raft/keys/raft.key") != plain)
            // As if opening had ended before the last file.
            let nodeKey = try Files.read(path + "/certificates/swarm-node.key")
            try lock.unlockForGood(open)
            #expect(try Files.read(path + "/raft/keys/raft.key") == plain)
            try Files.writeAtomically(nodeKey, to: path + "/certificates/swarm-node.key")
            #expect(throws: ApusError.self) { try NodeCertificate.read(directory: path + "/certificates") }
        }
    }
}
