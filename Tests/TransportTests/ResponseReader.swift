import CNGHTTP2

/// Reads the headers and trailers of answers out of an HTTP/2 stream, by nghttp2's own HPACK.
struct ResponseReader {
    /// By stream; only of those that have ended.
    func read(_ bytes: [UInt8]) -> [UInt32: [String: String]] {
        var inflater: OpaquePointer?
        guard nghttp2_hd_inflate_new(&inflater) == 0 else { return [:] }
        defer { nghttp2_hd_inflate_del(inflater) }
        var fields: [UInt32: [String: String]] = [:]
        var ended: Set<UInt32> = []
        var position = 0
        while position + 9 <= bytes.count {
            let length = Int(bytes[position]) << 16 | Int(bytes[position + 1]) << 8 | Int(bytes[position + 2])
            let type = bytes[position + 3], flags = bytes[position + 4]
            let stream = bytes[(position + 5)..<(position + 9)].reduce(0) { $0 << 8 | UInt32($1) }
            guard position + 9 + length <= bytes.count else { break }
            if type == 1 {
                for (name, value) in inflate(inflater, Array(bytes[(position + 9)..<(position + 9 + length)])) {
                    fields[stream, default: [:]][name] = value
                }
            }
            if type <= 1, flags & 1 != 0 { ended.insert(stream) }
            position += 9 + length
        }
        return fields.filter { ended.contains($0.key) }
    }

    private func inflate(_ inflater: OpaquePointer?, _ block: [UInt8]) -> [(String, String)] {
        var result: [(String, String)] = []
        var block = block
        block.withUnsafeMutableBufferPointer { buffer in
            var offset = 0
            while let base = buffer.baseAddress {
                var field = nghttp2_nv()
                var flags: Int32 = 0
                let count = nghttp2_hd_inflate_hd2(inflater, &field, &flags, base + offset, buffer.count - offset, 1)
                guard count >= 0 else { return }
                offset += count
                if flags & Int32(NGHTTP2_HD_INFLATE_EMIT.rawValue) != 0 {
                    result.append((text(field.name, field.namelen), text(field.value, field.valuelen)))
                }
                if flags & Int32(NGHTTP2_HD_INFLATE_FINAL.rawValue) != 0 { break }
            }
        }
        nghttp2_hd_inflate_end_headers(inflater)
        return result
    }

    private func text(_ bytes: UnsafeMutablePointer<UInt8>?, _ count: Int) -> String {
        String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
    }
}
