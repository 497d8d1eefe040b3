import Files
import Glibc
import PluginAPI

/// The files of one container's log: the current one, and those that were rotated away, `.1` the newest of them.
struct LogFiles {
    let path: String

    /// Open file and its identity; names change while it is read.
    struct Opened {
        var descriptor: Int32
        var inode: UInt64
    }

    static func open(_ path: String) -> Opened? {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            close(descriptor)
            return nil
        }
        return Opened(descriptor: descriptor, inode: UInt64(status.st_ino))
    }

    /// Existing files, oldest first.
    func existing() -> [String] {
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        var numbers: [Int] = []
        for entry in (try? Files.list(Files.parent(path))) ?? [] where entry.hasPrefix("\(name).") {
            if let number = Int(entry.dropFirst(name.count + 1)) { numbers.append(number) }
        }
        return numbers.sorted(by: >).map { "\(path).\($0)" } + (Files.exists(path) ? [path] : [])
    }

    /// All files open, oldest first; a rotation in between is noticed, so that none is missed or comes twice.
    func openAll() -> [Opened] {
        for _ in 0..<10 {
            let opened = existing().compactMap(Self.open)
            let now = existing().compactMap(Self.inode)
            if opened.map(\.inode) == now { return opened }
            for file in opened { close(file.descriptor) }
        }
        return existing().compactMap(Self.open)
    }

    /// The file after the one with this identity, opened: the next newer, or the oldest that is left when that one is gone.
    /// `nil` when it is the current one.
    func next(after inode: UInt64) -> Opened? {
        let names = existing()
        guard let index = names.firstIndex(where: { Self.inode($0) == inode }) else { return names.first.flatMap(Self.open) }
        return index + 1 < names.count ? Self.open(names[index + 1]) : nil
    }

    private static func inode(_ path: String) -> UInt64? {
        var status = stat()
        return stat(path, &status) == 0 ? UInt64(status.st_ino) : nil
    }
}

/// Finds where the last lines of a file begin, reading from its end.
enum LogTail {
    /// - Returns: the offset of the first of the last `count` lines, and how many there are, which is less when the file is shorter.
    static func start(of descriptor: Int32, lines count: Int) -> (offset: Int64, lines: Int) {
        guard count > 0 else { return (Int64(lseek(descriptor, 0, SEEK_END)), 0) }
        let end = Int64(lseek(descriptor, 0, SEEK_END))
        var position = end
        var found = 0
        // Start of the entry that was passed last, and the piece of an entry whose start is not read yet.
        var entryStart = end
        var rest: [UInt8] = []
        while position > 0 {
            let size = min(64 << 10, position)
            position -= size
            var chunk = [UInt8](repeating: 0, count: Int(size))
            guard pread(descriptor, &chunk, Int(size), off_t(position)) == Int(size) else { return (0, found) }
            chunk += rest
            var upper = chunk.count
            while let feed = chunk[..<max(0, upper - 1)].lastIndex(of: UInt8(ascii: "\n")) {
                // chunk[feed + 1 ..< upper] is an entry with its line feed.
                if counts(chunk[(feed + 1)..<upper], isLast: entryStart == end) {
                    found += 1
                    if found > count { return (entryStart, count) }
                }
                entryStart = position + Int64(feed) + 1
                upper = feed + 1
            }
            rest = Array(chunk[..<upper])
        }
        if !rest.isEmpty, counts(rest[...], isLast: entryStart == end) {
            found += 1
            if found > count { return (entryStart, count) }
        }
        return (0, found)
    }

    /// A line is counted at its end; the last entry also when its line is not complete.
    private static func counts(_ entry: ArraySlice<UInt8>, isLast: Bool) -> Bool {
        guard let line = LogLine(entry.last == UInt8(ascii: "\n") ? entry.dropLast() : entry) else { return false }
        return !line.isPartial || isLast
    }
}
