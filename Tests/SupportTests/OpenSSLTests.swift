import OpenSSL
import PluginAPI
import Testing

private func bytes(_ hexadecimal: String) -> [UInt8] {
    let digits = Array(hexadecimal.utf8)
    return stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16) }
}

@Suite struct OpenSSLDigestTests {
    // FIPS 180-4 examples.
    @Test(arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
    ])
    func knownDigests(_ text: String, _ expected: String) throws {
        #expect(Digest.hexadecimal(Digest.sha256(Array(text.utf8))) == expected)
        var stream = try SHA256Stream()
        for byte in text.utf8 { stream.update([byte]) }
        #expect(Digest.hexadecimal(stream.finish()) == expected)
    }

    @Test func aCopyOfAStreamGoesItsOwnWay() throws {
        var first = try SHA256Stream()
        first.update(Array("ab".utf8))
        var second = first
        first.update(Array("c".utf8))
        second.update(Array("X".utf8))
        #expect(first.finish() == Digest.sha256(Array("abc".utf8)))
        #expect(second.finish() == Digest.sha256(Array("abX".utf8)))
        // After the end it begins anew.
        first.update(Array("abc".utf8))
        #expect(first.finish() == Digest.sha256(Array("abc".utf8)))
    }

    // RFC 4231, case 2; RFC 5869, cases 1 and 3.
    @Test func knownCodesAndDerivedKeys() throws {
        let code = try HMAC.sha256(key: Array("Jefe".utf8), Array("what do ya want for nothing?".utf8))
        #expect(Digest.hexadecimal(code) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        let first = try HKDF.sha256(
            secret: [UInt8](repeating: 0x0b, count: 22), salt: bytes("000102030405060708090a0b0c"), information: bytes("f0f1f2f3f4f5f6f7f8f9"),
            count: 42)
        #expect(Digest.hexadecimal(first) == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
        let third = try HKDF.sha256(secret: [UInt8](repeating: 0x0b, count: 22), salt: [], information: [], count: 42)
        #expect(Digest.hexadecimal(third) == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
        #expect(throws: ApusError.self) { try HKDF.sha256(secret: [1], salt: [], information: [], count: 8161) }
    }

    @Test func randomBytesDiffer() throws {
        #expect(try SecureRandom.bytes(0) == [])
        #expect(try SecureRandom.bytes(32).count == 32)
        #expect(try SecureRandom.bytes(32) != SecureRandom.bytes(32))
    }

    @Test func base36() {
        #expect(Base36.text([], digits: 3) == "000")
        #expect(Base36.text([35], digits: 1) == "z")
        #expect(Base36.text([1, 0], digits: 1) == "74")
        #expect(Base36.text([UInt8](repeating: 255, count: 32), digits: 50) == "6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtof")
    }
}

@Suite struct OpenSSLCipherTests {
    // The GCM specification's test cases 13 and 14.
    @Test func knownCipherTexts() throws {
        let cipher = try AuthenticatedCipher(key: [UInt8](repeating: 0, count: 32))
        let nonce = [UInt8](repeating: 0, count: 12)
        #expect(Digest.hexadecimal(try cipher.seal([], nonce: nonce)) == "530f8afbc74536b9a963b4f1c4cb738b")
        let sealed = try cipher.seal([UInt8](repeating: 0, count: 16), nonce: nonce)
        #expect(Digest.hexadecimal(sealed) == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")
        #expect(try cipher.open(sealed, nonce: nonce) == [UInt8](repeating: 0, count: 16))
        #expect(try cipher.open(cipher.seal([], nonce: nonce), nonce: nonce) == [])
    }

    @Test func anyChangeIsFound() throws {
        let cipher = try AuthenticatedCipher(key: try SecureRandom.bytes(32))
        let nonce = try SecureRandom.bytes(12)
        let plain = Array("a secret that matters".utf8)
        let sealed = try cipher.seal(plain, nonce: nonce, authenticated: [1, 2, 3])
        #expect(try cipher.open(sealed, nonce: nonce, authenticated: [1, 2, 3]) == plain)
        for index in sealed.indices {
            var changed = sealed
            changed[index] ^= 1
            let error = #expect(throws: ApusError.self) { try cipher.open(changed, nonce: nonce, authenticated: [1, 2, 3]) }
            #expect(error?.code == .corrupt)
        }
        var otherNonce = nonce
        otherNonce[0] ^= 1
        let other = try AuthenticatedCipher(key: try SecureRandom.bytes(32))
        #expect(throws: ApusError.self) { try cipher.open(sealed, nonce: otherNonce, authenticated: [1, 2, 3]) }
        #expect(throws: ApusError.self) { try cipher.open(sealed, nonce: nonce, authenticated: [1, 2]) }
        #expect(throws: ApusError.self) { try other.open(sealed, nonce: nonce, authenticated: [1, 2, 3]) }
        #expect(throws: ApusError.self) { try cipher.open([1, 2, 3], nonce: nonce) }
        // A failure spoils nothing for the next call.
        #expect(try cipher.open(sealed, nonce: nonce, authenticated: [1, 2, 3]) == plain)
    }

    @Test func wrongLengthsAreRefused() throws {
        #expect(throws: ApusError.self) { try AuthenticatedCipher(key: [1]) }
        let cipher = try AuthenticatedCipher(key: [UInt8](repeating: 7, count: 32))
        #expect(throws: ApusError.self) { try cipher.seal([1], nonce: [1]) }
    }
}
