import CNGHTTP2

/// Header fields on their way to nghttp2: one buffer of names and values, and where each begins.
struct HeaderBlock {
    private struct Field {
        var offset: Int
        var nameLength: Int
        var valueLength: Int
    }

    private var bytes: [UInt8] = []
    private var fields: [Field] = []

    init() {
        bytes.reserveCapacity(256)
        fields.reserveCapacity(8)
    }

    /// Adds a field. The caller sees to it that name and value are what HTTP allows.
    mutating func add(_ name: StaticString, _ value: String) {
        let offset = bytes.count
        name.withUTF8Buffer { bytes.append(contentsOf: $0) }
        append(value, offset: offset)
    }

    mutating func add(name: some Sequence<UInt8>, _ value: String) {
        let offset = bytes.count
        bytes.append(contentsOf: name)
        append(value, offset: offset)
    }

    private mutating func append(_ value: String, offset: Int) {
        let nameLength = bytes.count - offset
        bytes.append(contentsOf: value.utf8)
        fields.append(Field(offset: offset, nameLength: nameLength, valueLength: bytes.count - offset - nameLength))
    }

    /// The fields in nghttp2's form, for the time of the call; nghttp2 copies them.
    consuming func withFields<Result>(_ body: (UnsafePointer<nghttp2_nv>?, Int) -> Result) -> Result {
        let fields = self.fields
        return bytes.withUnsafeMutableBufferPointer { bytes in
            guard let base = bytes.baseAddress else { return body(nil, 0) }
            return withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: fields.count) { vector in
                for (index, field) in fields.enumerated() {
                    let name = base + field.offset
                    vector.initializeElement(
                        at: index,
                        to: nghttp2_nv(name: name, value: name + field.nameLength, namelen: field.nameLength, valuelen: field.valueLength, flags: 0))
                }
                return body(UnsafePointer(vector.baseAddress), fields.count)
            }
        }
    }
}
