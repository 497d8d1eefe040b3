import CAInternal
import Fuzzing
import OpenSSL
import PluginAPI
import Testing
import Foundation

@testable import Security

/// What strangers send, broken in ways that a seed repeats: refused with an error, and nothing else.
@Suite struct FuzzTests {
    private func mutate(_ bytes: [UInt8], _ generator: inout SplitMix64) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...4, using: &generator) where !bytes.isEmpty {
            let place = Int.random(in: bytes.indices, using: &generator)
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
            case 1: bytes.remove(at: place)
            case 2: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
            case 3: bytes = Array(bytes.prefix(place))
            case 4: bytes.insert(contentsOf: bytes[place...].prefix(Int.random(in: 0...64, using: &generator)), at: place)
            default: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            }
        }
        return bytes
    }

    @Test(arguments: 1...8) func joinTokens(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let token = try JoinToken.generate(rootDigest: String(repeating: "z", count: 50)).description
        for _ in 0..<2000 {
            let text = String(decoding: mutate(Array(token.utf8), &generator), as: UTF8.self)
            if let read = try? JoinToken(parsing: text) { #expect(read.description == text, "seed \(seed)") }
            #expect(JoinToken.matches(text, token) == (text == token), "seed \(seed)")
        }
    }

    @Test(arguments: 1...8) func certificateRequests(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let key = try PrivateKey.generate()
        let pem = Array(try CertificateRequest(key: key, subject: DistinguishedName(commonName: "n")).pem().utf8)
        for _ in 0..<1000 {
            guard let read = try? CertificateRequest(pem: String(decoding: mutate(pem, &generator), as: UTF8.self)) else { continue }
            // What passes is signed with its own key; the text around it may be anything.
            #expect(try read.publicKey() == key.publicKey(), "seed \(seed)")
        }
    }

    @Test(arguments: 1...4) func certificateChains(seed: UInt64) async throws {
        var generator = SplitMix64(seed: seed)
        let authority = InternalAuthority(host: Host())
        let root = try await authority.createRoot(CreateRootRequest(clusterID: "c", now: Leader.start))
        let key = try PrivateKey.generate()
        let request = try CertificateRequest(key: key, subject: DistinguishedName(commonName: "n")).pem()
        let chain = try await authority.issue(
            IssueRequest(
                signingRequest: request, nodeID: "n", role: .worker, clusterID: "c", now: Leader.start, lifetime: .seconds(3600), root: root))
        let serial = try Certificate(pem: chain.certificateChain).serialNumber
        let check = IssuedCertificateCheck(
            publicKey: try key.publicKey(), nodeID: "n", role: .worker, clusterID: "c", roots: root.certificate, now: Leader.start)
        for _ in 0..<500 {
            let text = String(decoding: mutate(Array(chain.certificateChain.utf8), &generator), as: UTF8.self)
            guard let found = try? check.check(chain: text) else { continue }
            #expect(found.certificate.serialNumber == serial, "seed \(seed)")
        }
    }

    @Test func keysThatCostTooMuchAreRefused() throws {
        for arguments in [["rsa:1024"], ["rsa:8192"], ["ed25519"]] {
            let made = try run(
                "/usr/bin/openssl", ["req", "-new", "-newkey"] + arguments + ["-nodes", "-keyout", "/dev/null", "-subj", "/CN=n"])
            let text = String(decoding: made.output, as: UTF8.self)
            let start = try #require(text.range(of: "-----BEGIN CERTIFICATE REQUEST"))
            #expect(throws: ApusError.self, "\(arguments)") { try CertificateRequest(pem: String(text[start.lowerBound...])) }
        }
        let made = try run("/usr/bin/openssl", ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=n"])
        let text = String(decoding: made.output, as: UTF8.self)
        let start = try #require(text.range(of: "-----BEGIN CERTIFICATE REQUEST"))
        #expect(throws: Never.self) { try CertificateRequest(pem: String(text[start.lowerBound...])) }
    }

    @Test func bucketsAreBounded() {
        var buckets = KeyedBuckets<Int>(capacity: 2, refill: 1, limit: 10)
        let now = Leader.start
        func expect(_ is: Bool, _ wanted: Bool, _ location: SourceLocation = #_sourceLocation) {
            #expect(`is` == wanted, sourceLocation: location)
        }
        for key in 0..<10 { expect(buckets.take(key, now: now), true) }
        expect(buckets.take(10, now: now), false)
        #expect(buckets.count == 10)
        expect(buckets.take(0, now: now), true)
        expect(buckets.take(0, now: now), false)
        // Those that have rested make room.
        expect(buckets.take(11, now: now + .seconds(1)), true)
        #expect(buckets.count <= 10)
        // A clock that goes back neither gives nor takes.
        var bucket = TokenBucket(capacity: 1, refill: 1, now: now)
        expect(bucket.take(now: now), true)
        expect(bucket.take(now: now + .seconds(-100)), false)
        expect(bucket.take(now: now + .seconds(-99)), true)
    }
}
