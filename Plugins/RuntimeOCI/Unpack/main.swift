// apus-unpack: unpacks one layer below one folder, in a jail, for the engine.
//
// It reads a tar, perhaps compressed with gzip, zstd, xz or bzip2, from one descriptor, writes below another, and answers with one line of JSON on its
// standard output: {"diffID":"sha256:…","size":BYTES,"entries":NUMBER}. Otherwise it says why on standard error and exits
// with 1 (the machine), 2 (the archive is damaged or hostile) or 3 (a limit).

import CArchive
import Glibc

func say(_ text: String, to descriptor: Int32) {
    let bytes = Array(text.utf8)
    var offset = 0
    while offset < bytes.count {
        let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress.map { $0 + offset }, bytes.count - offset) }
        if count <= 0 { return }
        offset += count
    }
}

func run() throws(UnpackError) -> String {
    // Names in pax headers are UTF-8; libarchive converts them to the locale's encoding.
    setlocale(LC_CTYPE, "C.UTF-8")
    let options = try UnpackOptions(Array(CommandLine.arguments.dropFirst()))
    let input = try DecompressedInput(options)
    let reader = try TarReader(input)
    let writer = TreeWriter(root: options.directory, options: options)
    // A first use of what the loop uses, before nothing more can be loaded.
    _ = EntryPath.printable("warm \(options.maximumBytes)".utf8) + UnpackError(.machine, "").message
    try Jail.close(directory: options.directory, maximumBytes: options.maximumBytes)
    try input.open()
    try reader.open()
    while let entry = try reader.next() { try writer.write(entry, from: reader) }
    try writer.finish()
    let difference = try input.finish()
    if options.isDurable, syncfs(options.directory) != 0 {
        throw UnpackError(.machine, "cannot write the layer to disk: \(String(cString: strerror(errno)))")
    }
    return "{\"diffID\":\"\(difference)\",\"size\":\(writer.size),\"entries\":\(writer.entries)}\n"
}

do throws(UnpackError) {
    say(try run(), to: 1)
} catch {
    say(error.message + "\n", to: 2)
    exit(error.kind.rawValue)
}
