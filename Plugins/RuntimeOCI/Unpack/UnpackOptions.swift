/// What the parent asks for on the command line.
struct UnpackOptions {
    /// The folder to unpack below, empty, as a descriptor.
    var directory: Int32 = 3
    /// The archive, as a descriptor.
    var input: Int32 = 0
    /// An archive of files for the engine to read (docker save), not a layer: no owners, modes, attributes, devices or whiteouts.
    var isPlain = false
    /// Whether everything must be on disk before the answer.
    var isDurable = false
    var maximumEntries = 1_000_000
    /// Of the archive, decompressed, and of all files together.
    var maximumBytes: Int64 = 64 << 30
    /// Decompressed to compressed, once `ratioFloor` bytes are out: zeros shrink well, and small archives harm nobody.
    var maximumRatio: Int64 = 500
    var ratioFloor: Int64 = 256 << 20

    init(_ arguments: [String]) throws(UnpackError) {
        var index = 0
        while index < arguments.count {
            let name = arguments[index]
            index += 1
            if name == "--plain" {
                isPlain = true
                continue
            }
            if name == "--sync" {
                isDurable = true
                continue
            }
            guard index < arguments.count, let value = Int64(arguments[index]), value >= 0 else {
                throw UnpackError(.machine, "\(name) needs a number; this program is started by apusd")
            }
            index += 1
            switch name {
            case "--directory": directory = Int32(clamping: value)
            case "--input": input = Int32(clamping: value)
            case "--maximum-entries": maximumEntries = Int(value)
            case "--maximum-bytes": maximumBytes = value
            case "--maximum-ratio": maximumRatio = value
            case "--ratio-floor": ratioFloor = value
            default: throw UnpackError(.machine, "unknown option \(name); this program is started by apusd")
            }
        }
    }
}
