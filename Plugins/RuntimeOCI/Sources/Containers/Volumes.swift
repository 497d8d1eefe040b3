import CLinux
import Coding
import Files
import Glibc
import PluginAPI

/// Named volumes: a folder each, with what is known of it beside the data.
struct Volumes: Sendable {
    let path: String

    private func folder(_ name: String) -> String { "\(path)/\(name)" }
    private func record(_ name: String) -> String { "\(folder(name))/volume.json" }
    func data(_ name: String) -> String { "\(folder(name))/_data" }

    /// Docker's rule: letters, digits, `_`, `.`, `-`, at least two, the first a letter or digit.
    static func check(name: String) throws(ApusError) {
        let bytes = Array(name.utf8)
        func isAlphanumeric(_ byte: UInt8) -> Bool { (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) }
        guard bytes.count >= 2, bytes.count <= 255, isAlphanumeric(bytes[0]), bytes.allSatisfy({ isAlphanumeric($0) || "_.-".utf8.contains($0) })
        else {
            throw ApusError(
                .invalidArgument,
                "create \(name): \"\(name)\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. "
                    + "If you intended to pass a host directory, use absolute path")
        }
    }

    func all() throws(ApusError) -> [Volume] { try Files.list(path).compactMap { try? volume($0) } }

    func volume(_ name: String) throws(ApusError) -> Volume {
        guard let bytes = try? Files.read(record(name), limit: 1 << 20) else { throw ApusError(.notFound, "get \(name): no such volume") }
        return try JSONFields.decode(Volume.self, from: try JSONValue.parse(bytes), unknownFields: .ignore, includeInternal: true)
    }

    func exists(_ name: String) -> Bool { Files.exists(record(name)) }

    /// Makes the volume, or returns the one of that name.
    func create(_ wanted: Volume, now: Timestamp) throws(ApusError) -> Volume {
        try Self.check(name: wanted.name)
        guard wanted.driver.isEmpty || wanted.driver == "local" else {
            throw ApusError(.unimplemented, "volume driver \"\(wanted.driver)\" is not supported: only \"local\" is")
        }
        guard wanted.options.isEmpty else {
            throw ApusError(.unimplemented, "options of volumes (\(wanted.options.keys.sorted().joined(separator: ", "))) are not supported yet")
        }
        if exists(wanted.name) { return try volume(wanted.name) }
        var volume = wanted
        volume.driver = "local"
        volume.scope = "local"
        volume.mountpoint = data(wanted.name)
        if volume.createdAt.isNever { volume.createdAt = now }
        try Files.makeDirectory(path, permissions: 0o711)
        try Files.makeDirectory(folder(volume.name), permissions: 0o711)
        try Files.makeDirectory(volume.mountpoint, permissions: 0o755)
        // The record last: without it there is no volume.
        try Files.writeAtomically(JSONFields.encode(volume, includeInternal: true).bytes(), to: record(volume.name))
        return volume
    }

    func remove(_ name: String) throws(ApusError) {
        guard exists(name) else { throw ApusError(.notFound, "get \(name): no such volume") }
        try Files.removeTree(record(name))
        try Files.removeTree(folder(name))
    }

    /// Bytes on disk of each.
    func sizes() throws(ApusError) -> [String: Int64] {
        var result: [String: Int64] = [:]
        for volume in try all() { result[volume.name] = DiskUsage.bytes(below: data(volume.name)) }
        return result
    }
}

/// Bytes that a folder takes.
enum DiskUsage {
    static func bytes(below path: String) -> Int64 {
        let folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
        guard folder >= 0 else { return 0 }
        return bytes(of: folder)
    }

    /// Closes the descriptor.
    private static func bytes(of descriptor: Int32) -> Int64 {
        guard let folder = fdopendir(descriptor) else {
            close(descriptor)
            return 0
        }
        defer { closedir(folder) }
        var total: Int64 = 0
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            var status = stat()
            guard name != ".", name != "..", fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
            total += Int64(status.st_blocks) * 512
            guard status.st_mode & S_IFMT == S_IFDIR else { continue }
            let below = openat(descriptor, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
            if below >= 0 { total += bytes(of: below) }
        }
        return total
    }
}
