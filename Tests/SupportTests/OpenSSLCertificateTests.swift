import OpenSSL
import PluginAPI
import Testing

@Suite struct OpenSSLCertificateTests {
    private let now = Timestamp(nanoseconds: 1_780_000_000_000_000_000)

    private func root(_ name: String = "swarm-ca") throws -> (Certificate, PrivateKey) {
        let key = try PrivateKey.generate()
        let certificate = try CertificateSigning.selfSigned(
            key: key, subject: DistinguishedName(commonName: name), now: now, lifetime: .seconds(630_720_000))
        return (certificate, key)
    }

    @Test func aRootSignsItselfForTwentyYears() throws {
        let (certificate, key) = try root()
        #expect(certificate.subject == DistinguishedName(commonName: "swarm-ca"))
        #expect(certificate.issuer == certificate.subject)
        #expect(certificate.isIssued(by: certificate))
        #expect(certificate.isAuthority)
        #expect(certificate.belongs(to: key))
        #expect(certificate.notBefore == now + .seconds(-3600))
        #expect(certificate.notAfter == now + .seconds(630_720_000))
        #expect(try certificate.publicKey() == key.publicKey())
        let again = try Certificate(pem: certificate.pem())
        #expect(try again.der() == certificate.der())
    }

    @Test func aNodeGetsWhatIsGivenToItAndItsOwnKeyAlone() throws {
        let (authority, authorityKey) = try root()
        let key = try PrivateKey.generate()
        let request = try CertificateRequest(
            pem: try CertificateRequest(key: key, subject: DistinguishedName(commonName: "somebody else", organizationalUnit: "swarm-manager")).pem())
        #expect(request.subject.commonName == "somebody else")
        let subject = DistinguishedName(commonName: "node1", organizationalUnit: "swarm-worker", organization: "cluster1")
        let certificate = try CertificateSigning.sign(
            request, subject: subject, alternativeNames: ["swarm-worker", "node1"], authority: authority, authorityKey: authorityKey, now: now,
            lifetime: .seconds(7_776_000))
        #expect(certificate.subject == subject)
        #expect(certificate.issuer == authority.subject)
        #expect(certificate.alternativeNames == ["swarm-worker", "node1"])
        #expect(certificate.isIssued(by: authority))
        #expect(!certificate.isAuthority)
        #expect(certificate.belongs(to: key))
        #expect(certificate.notBefore == now + .seconds(-3600))
        #expect(certificate.notAfter == now + .seconds(7_776_000))
        #expect(try certificate.publicKey() == request.publicKey())
        let another = try CertificateSigning.sign(
            request, subject: subject, alternativeNames: [], authority: authority, authorityKey: authorityKey, now: now, lifetime: .seconds(60))
        #expect(another.serialNumber != certificate.serialNumber)
        #expect(another.serialNumber.count >= 38)
        #expect(another.alternativeNames.isEmpty)
    }

    @Test func aStrangersCertificateIsNotTakenForOurs() throws {
        let (authority, authorityKey) = try root()
        // The same name, another key.
        let (impostor, impostorKey) = try root()
        let key = try PrivateKey.generate()
        let request = try CertificateRequest(key: key, subject: DistinguishedName(commonName: "node1"))
        let certificate = try CertificateSigning.sign(
            request, subject: DistinguishedName(commonName: "node1"), alternativeNames: [], authority: impostor, authorityKey: impostorKey, now: now,
            lifetime: .seconds(60))
        #expect(!certificate.isIssued(by: authority))
        #expect(certificate.isIssued(by: impostor))
        #expect(!certificate.belongs(to: authorityKey))
        #expect(throws: ApusError.self) {
            try CertificateSigning.sign(
                request, subject: DistinguishedName(commonName: "node1"), alternativeNames: [], authority: authority, authorityKey: impostorKey,
                now: now, lifetime: .seconds(60))
        }
    }

    @Test func aCertificateEndsWithItsAuthority() throws {
        let (authority, authorityKey) = try root()
        let request = try CertificateRequest(key: try PrivateKey.generate(), subject: DistinguishedName(commonName: "n"))
        let certificate = try CertificateSigning.sign(
            request, subject: DistinguishedName(commonName: "n"), alternativeNames: [], authority: authority, authorityKey: authorityKey, now: now,
            lifetime: .seconds(2_000_000_000))
        #expect(certificate.notAfter == authority.notAfter)
    }

    @Test(arguments: ["a,DNS:b", "a b", "", "a:b", "a\n", "ä"])
    func namesThatWouldBeReadAsSomethingElseAreRefused(_ name: String) throws {
        let (authority, authorityKey) = try root()
        let request = try CertificateRequest(key: try PrivateKey.generate(), subject: DistinguishedName(commonName: "n"))
        let error = #expect(throws: ApusError.self) {
            try CertificateSigning.sign(
                request, subject: DistinguishedName(commonName: "n"), alternativeNames: [name], authority: authority, authorityKey: authorityKey,
                now: now, lifetime: .seconds(60))
        }
        #expect(error?.code == .invalidArgument)
    }

    @Test func rubbishIsRefusedWithAReason() throws {
        for text in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", String(repeating: "x", count: 2 << 20)] {
            for attempt in [{ _ = try Certificate(pem: text) }, { _ = try PrivateKey(pem: text) }, { _ = try CertificateRequest(pem: text) }] {
                let error = #expect(throws: ApusError.self) { try attempt() }
                #expect(error?.code == .invalidArgument || error?.code == .tooLarge)
                #expect(error?.message.isEmpty == false)
            }
        }
    }

    @Test func aRequestWithAChangedByteIsRefused() throws {
        let request = try CertificateRequest(key: try PrivateKey.generate(), subject: DistinguishedName(commonName: "node1"))
        let lines = try request.pem().split(separator: "\n").map(String.init)
        // The text of the name stands in the first line; its last letter is changed there.
        var changed = lines
        var first = Array(changed[1].utf8)
        first[30] = first[30] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
        changed[1] = String(decoding: first, as: UTF8.self)
        #expect(throws: ApusError.self) { try CertificateRequest(pem: changed.joined(separator: "\n") + "\n") }
        _ = try CertificateRequest(pem: lines.joined(separator: "\n") + "\n")
    }

    @Test func keysSurviveTheirText() throws {
        let key = try PrivateKey.generate()
        let text = try key.pem()
        #expect(text.hasPrefix("-----BEGIN PRIVATE KEY-----\n"))
        #expect(try PrivateKey(pem: text).publicKey() == key.publicKey())
        #expect(try PrivateKey.generate().publicKey() != key.publicKey())
    }
}
