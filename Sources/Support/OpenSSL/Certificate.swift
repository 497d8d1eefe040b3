import COpenSSL
import Glibc
public import PluginAPI

/// The parts of a distinguished name that Apus uses; empty ones are left out.
public struct DistinguishedName: Sendable, Hashable {
    public var commonName: String
    public var organizationalUnit: String
    public var organization: String

    public init(commonName: String, organizationalUnit: String = "", organization: String = "") {
        self.commonName = commonName
        self.organizationalUnit = organizationalUnit
        self.organization = organization
    }

    /// A part that stands there more than once is read as empty: nobody may choose the one that suits him.
    init(_ name: OpaquePointer?) {
        func part(_ kind: Int32) -> String {
            let index = X509_NAME_get_index_by_NID(name, kind, -1)
            guard index >= 0, X509_NAME_get_index_by_NID(name, kind, index) < 0,
                let text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index))
            else { return "" }
            var bytes: UnsafeMutablePointer<UInt8>?
            let length = ASN1_STRING_to_UTF8(&bytes, text)
            guard length >= 0, let bytes else { return "" }
            defer { CRYPTO_free(bytes, "", 0) }
            return String(decoding: UnsafeBufferPointer(start: bytes, count: Int(length)), as: UTF8.self)
        }
        commonName = part(NID_commonName)
        organizationalUnit = part(NID_organizationalUnitName)
        organization = part(NID_organizationName)
    }

    func write(to name: OpaquePointer?) throws(ApusError) {
        for (kind, text) in [(NID_organizationName, organization), (NID_organizationalUnitName, organizationalUnit), (NID_commonName, commonName)]
        where !text.isEmpty {
            let bytes = Array(text.utf8)
            let utf8: Int32 = 0x1000  // MBSTRING_UTF8, a macro of a macro
            guard X509_NAME_add_entry_by_NID(name, kind, utf8, bytes, Int32(clamping: bytes.count), -1, 0) == 1 else {
                throw OpenSSLQueue.error("\"\(text)\" cannot stand in a certificate's name", .invalidArgument)
            }
        }
    }
}

/// An X.509 certificate. Immutable.
public final class Certificate: @unchecked Sendable {
    let pointer: OpaquePointer

    /// Takes the pointer over.
    init(_ pointer: OpaquePointer) { self.pointer = pointer }

    deinit { X509_free(pointer) }

    /// Reads the first certificate of the text.
    public init(pem: String) throws(ApusError) {
        pointer = try PEM.read("the certificate", pem) { PEM_read_bio_X509($0, nil, nil, nil) }
    }

    /// RFC 7468, with a line end.
    public func pem() throws(ApusError) -> String { try PEM.write("the certificate") { PEM_write_bio_X509($0, pointer) } }

    /// X.690.
    public func der() throws(ApusError) -> [UInt8] { try PEM.encoded("the certificate") { i2d_X509(pointer, $0) } }

    public var subject: DistinguishedName { DistinguishedName(X509_get_subject_name(pointer)) }
    public var issuer: DistinguishedName { DistinguishedName(X509_get_issuer_name(pointer)) }

    /// The subject as it is encoded.
    public func subjectDER() throws(ApusError) -> [UInt8] {
        try PEM.encoded("the subject") { i2d_X509_NAME(X509_get_subject_name(pointer), $0) }
    }

    /// DER of SubjectPublicKeyInfo.
    public func publicKey() throws(ApusError) -> [UInt8] {
        try PEM.encoded("the public key") { i2d_X509_PUBKEY(X509_get_X509_PUBKEY(pointer), $0) }
    }

    public var notBefore: Timestamp { Self.timestamp(X509_get0_notBefore(pointer)) }
    public var notAfter: Timestamp { Self.timestamp(X509_get0_notAfter(pointer)) }

    private static func timestamp(_ time: UnsafePointer<ASN1_TIME>?) -> Timestamp {
        var parts = tm()
        guard ASN1_TIME_to_tm(time, &parts) == 1 else { return .never }
        // A year that nanoseconds cannot count is as good as the last that they can.
        let seconds = min(Int64(timegm(&parts)), Int64.max / 1_000_000_000)
        return Timestamp(nanoseconds: seconds * 1_000_000_000)
    }

    /// Hexadecimal.
    public var serialNumber: String {
        guard let number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(pointer), nil) else { return "" }
        defer { BN_free(number) }
        guard let text = BN_bn2hex(number) else { return "" }
        defer { CRYPTO_free(text, "", 0) }
        return String(cString: text).lowercased()
    }

    /// The DNS names that it is for.
    public var alternativeNames: [String] {
        guard let names = X509_get_ext_d2i(pointer, NID_subject_alt_name, nil, nil) else { return [] }
        let list = OpaquePointer(names)
        defer { GENERAL_NAMES_free(list) }
        return (0..<OPENSSL_sk_num(list)).compactMap { index in
            guard let value = OPENSSL_sk_value(list, index) else { return nil }
            var kind: Int32 = 0
            guard let text = GENERAL_NAME_get0_value(value.assumingMemoryBound(to: GENERAL_NAME.self), &kind), kind == GEN_DNS else { return nil }
            let string = OpaquePointer(text)
            let pointer = UnsafePointer<ASN1_STRING>(string)
            return String(
                decoding: UnsafeBufferPointer(start: ASN1_STRING_get0_data(pointer), count: Int(ASN1_STRING_length(pointer))), as: UTF8.self)
        }
    }

    /// Whether it may sign others.
    public var isAuthority: Bool { X509_check_ca(pointer) == 1 }

    /// Whether this certificate carries a signature of `authority`'s key and its name as issuer. Says nothing about times.
    public func isIssued(by authority: Certificate) -> Bool {
        defer { ERR_clear_error() }
        return X509_check_issued(authority.pointer, pointer) == X509_V_OK && X509_verify(pointer, X509_get0_pubkey(authority.pointer)) == 1
    }

    /// Whether it is for this key.
    public func belongs(to key: PrivateKey) -> Bool {
        defer { ERR_clear_error() }
        return X509_check_private_key(pointer, key.pointer) == 1
    }
}
