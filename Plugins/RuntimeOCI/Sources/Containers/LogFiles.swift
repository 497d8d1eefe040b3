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

    /// Names and identities that belong together, oldest first: read again while a rotation changes them.
    private func snapshot() -> [(name: String, inode: UInt64)] {
        var last: [(name: String, inode: UInt64)] = []
        for _ in 0..<100 {
            let names = existing()
            let now = names.compactMap { name in Self.inode(name).map { (name: name, inode: $0) } }
            let isStable = now.count == names.count && now.elementsEqual(last) { $0.name == $1.name && $0.inode == $1.inode }
            if isStable { return now }
            last = now
        }
        return last
    }

    /// All files open, oldest first; a rotation in between is noticed, so that none is missed or comes twice.
    func openAll() -> [Opened] {
        for _ in 0..<100 {
            let wanted = snapshot()
            let opened = wanted.compactMap { Self.open($0.name) }
            if opened.map(\.inode) == wanted.map(\.inode) { return opened }
            for file in opened { close(file.descriptor) }
        }
        return existing().compactMap(Self.open)
    }

    /// The file after the one with this identity, opened: the next newer, or the oldest that is left when that one is gone.
    /// `nil` when it is the current one.
    func next(after inode: UInt64) -> Opened? {
        for _ in 0..<100 {
            let files = snapshot()
            let index = files.firstIndex { $0.inode == inode }.map { $0 + 1 } ?? 0
            guard index < files.count else { return nil }
            guard let opened = Self.open(files[index].name) else { continue }
            if opened.inode == files[index].inode { return opened }
            close(opened.descriptor)
        }
        return nil
    }

    private static func inode(_ path: String) -> UInt64? {
        var status = stat()
        return stat(path, &status) == 0 ? UInt64(status.st_ino) : nil
    }
}

/// Finds where the last lines of a file begin, reading from its end.
enum LogTail {
    /// - Parameter isNewest: no file follows; else the last entry, when it is a part, goes on in the next file, and its line was counted there.
    /// - Returns: the offset of the first of the last `count` lines, and how many there are, which is less when the file is shorter.
    static func start(of descriptor: Int32, lines count: Int, isNewest: Bool = true) -> (offset: Int64, lines: Int) {
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
                if counts(chunk[(feed + 1)..<upper], isLast: isNewest && entryStart == end) {
                    found += 1
                    if found > count { return (entryStart, count) }
                }
                entryStart = position + Int64(feed) + 1
                upper = feed + 1
            }
            rest = Array(chunk[..<upper])
        }
        if !rest.isEmpty, counts(rest[...], isLast: isNewest && entryStart == end) {
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
