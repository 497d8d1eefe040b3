import CLinux
import Files
import Glibc
import PluginAPI
import Processes
import Testing

@testable import RuntimeOCI

/// What `apus-unpack` makes of archives, good and evil.
@Suite("Images: unpack")
struct ImagesUnpackTests {
    private struct Unpacked {
        var folder: ImagesFolder
        /// The layer's root.
        var path: String
        var result: LayerUnpacker.Result?
        var error: ApusError?

        /// `nil` when there is nothing.
        func status(_ name: String) -> stat? {
            var status = stat()
            return lstat("\(path)/\(name)", &status) == 0 ? status : nil
        }

        func mode(_ name: String) -> UInt32? { status(name).map { $0.st_mode & 0o7777 } }
        func kind(_ name: String) -> UInt32? { status(name).map { $0.st_mode & S_IFMT } }
        func text(_ name: String) -> String? { try? Files.readText("\(path)/\(name)") }
        func isWhiteout(_ name: String) -> Bool { status(name).map { $0.st_mode & S_IFMT == S_IFCHR && $0.st_rdev == 0 } ?? false }

        func attribute(_ attribute: String, _ name: String) async throws -> String {
            let code = "import os,sys; sys.stdout.write(os.getxattr(sys.argv[1], sys.argv[2], follow_symlinks=False).hex())"
            return try await Processes.run(ProcessRequest("python3", ["-c", code, "\(path)/\(name)", attribute])).text
        }
    }

    private func unpack(_ bytes: [UInt8], isPlain: Bool = false, change: (inout ImageStoreConfiguration) -> Void = { _ in }) async throws -> Unpacked {
        let folder = try ImagesFolder()
        // Something beside the layer that must not change.
        try Files.makeDirectory("\(folder.path)/outside")
        try Files.writeAtomically(Array("untouched".utf8), to: "\(folder.path)/outside/file")
        try Files.writeAtomically(bytes, to: "\(folder.path)/archive", sync: false)
        var configuration = ImageStoreConfiguration(directory: folder.path)
        configuration.isDurable = false
        change(&configuration)
        let input = Descriptor(open("\(folder.path)/archive", O_RDONLY | O_CLOEXEC))
        var unpacked = Unpacked(folder: folder, path: "\(folder.path)/layer")
        do throws(ApusError) {
            unpacked.result = try await LayerUnpacker(configuration: configuration).unpack(input.number, into: unpacked.path, isPlain: isPlain)
        } catch {
            unpacked.error = error
            #expect(!Files.exists(unpacked.path), "after an error nothing is left")
        }
        #expect(try Files.list("\(folder.path)/outside") == ["file"])
        #expect(try Files.readText("\(folder.path)/outside/file") == "untouched")
        return unpacked
    }

    private func unpack(change: (inout ImageStoreConfiguration) -> Void = { _ in }, _ fill: (inout TestTar) -> Void) async throws -> Unpacked {
        var tar = TestTar()
        fill(&tar)
        return try await unpack(tar.finished(), change: change)
    }

    // MARK: What must work

    @Test("files, folders and links keep owner, mode, time and attributes")
    func keeps() async throws {
        var tar = TestTar()
        tar.folder("./", mode: 0o711)
        tar.folder("usr/bin", mode: 0o2750)
        tar.file("usr/bin/tool", "tool", mode: 0o6755, user: 12, group: 345, records: [("SCHILY.xattr.user.note", Array("kept".utf8))])
        tar.hardLink("usr/bin/other", to: "./usr/bin/tool")
        tar.symbolicLink("usr/bin/link", to: "/etc/passwd")
        tar.hardLink("usr/bin/linklink", to: "usr/bin/link")
        tar.file("deep/er/file", "x")
        tar.add(.init(name: "fifo", type: "6", mode: 0o640))
        tar.device("dev/null", 1, 3)
        tar.device("var/spool/dev/urandom", 1, 9)
        tar.device("dev/sda", type: "4", 8, 0)
        let bytes = tar.finished()
        let unpacked = try await unpack(bytes)
        let result = try #require(unpacked.result, "\(String(describing: unpacked.error))")
        #expect(result.difference == ContentDigest(of: bytes))
        #expect(result.size == 5 && result.entries == 11)
        #expect(unpacked.mode(".") == 0o711)
        #expect(unpacked.mode("usr") == 0o755 && unpacked.mode("usr/bin") == 0o2750)
        let tool = try #require(unpacked.status("usr/bin/tool"))
        #expect(
            tool.st_uid == 12 && tool.st_gid == 345 && tool.st_mode & 0o7777 == 0o6755 && tool.st_mtim.tv_sec == 1_700_000_000 && tool.st_nlink == 2)
        #expect(unpacked.status("usr/bin")?.st_mtim.tv_sec == 1_700_000_000)
        #expect(unpacked.kind("usr/bin/link") == S_IFLNK && unpacked.status("usr/bin/linklink")?.st_nlink == 2)
        #expect(unpacked.kind("fifo") == S_IFIFO && unpacked.mode("fifo") == 0o640)
        #expect(unpacked.kind("dev/null") == S_IFCHR && unpacked.kind("var/spool/dev/urandom") == S_IFCHR)
        #expect(unpacked.status("dev/sda") == nil, "a container never sees it")
        #expect(try await unpacked.attribute("user.note", "usr/bin/tool") == "6b657074")
    }

    @Test("capabilities of files are kept, other trusted and security attributes are not")
    func attributes() async throws {
        let capability: [UInt8] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        let unpacked = try await unpack { tar in
            tar.file(
                "ping", "x", mode: 0o755,
                records: [
                    ("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.trusted.overlay.opaque", [121]),
                    ("SCHILY.xattr.trusted.overlay.redirect", Array("/etc".utf8)), ("SCHILY.xattr.security.selinux", [97]),
                ])
            tar.folder(
                "folder", records: [("SCHILY.xattr.trusted.overlay.opaque", [121]), ("SCHILY.xattr.trusted.overlay.redirect", Array("/".utf8))])
        }
        #expect(
            try await unpacked.attribute("security.capability", "ping")
                == capability.map { $0 < 16 ? "0\(String($0, radix: 16))" : String($0, radix: 16) }.joined())
        for (name, attribute) in [
            ("ping", "trusted.overlay.opaque"), ("ping", "trusted.overlay.redirect"), ("ping", "security.selinux"),
            ("folder", "trusted.overlay.opaque"),
            ("folder", "trusted.overlay.redirect"),
        ] {
            #expect(try await unpacked.attribute(attribute, name) == "")
        }
    }

    @Test("whiteouts become overlayfs's")
    func whiteouts() async throws {
        let unpacked = try await unpack { tar in
            tar.file("etc/.wh.gone")
            tar.folder("opaque")
            tar.file("opaque/.wh..wh..opq")
            tar.file("opaque/new", "n")
            tar.file(".wh..wh.plnk/1.2", "aufs")
            // Hidden first, then made again: nothing of the lower folder shows.
            tar.file(".wh.again")
            tar.folder("again")
            tar.file("again/x", "x")
            tar.file(".wh.implied")
            tar.file("implied/x", "x")
            // Made first, then hidden: the layer's own stays.
            tar.folder("both")
            tar.file(".wh.both")
            tar.file("file", "f")
            tar.file(".wh.file")
            tar.file(".wh.back")
            tar.file("back", "b")
        }
        #expect(unpacked.error == nil)
        #expect(unpacked.isWhiteout("etc/gone"))
        #expect(unpacked.text("opaque/new") == "n" && unpacked.status("opaque/.wh..wh..opq") == nil)
        #expect(unpacked.status(".wh..wh.plnk") == nil)
        for name in ["opaque", "again", "implied", "both"] { #expect(try await unpacked.attribute("trusted.overlay.opaque", name) == "79") }
        #expect(unpacked.text("again/x") == "x" && unpacked.text("file") == "f" && unpacked.text("back") == "b")
    }

    @Test("the kernel's overlayfs sees the whiteouts")
    func overlay() async throws {
        let lower = try await unpack { tar in
            tar.file("keep", "lower")
            tar.file("gone", "lower")
            tar.file("folder/old", "lower")
        }
        let upper = try await unpack { tar in
            tar.file(".wh.gone")
            tar.file("folder/.wh..wh..opq")
            tar.file("folder/new", "upper")
        }
        let merged = lower.folder.path + "/merged"
        try Files.makeDirectory(merged)
        let options = "lowerdir=\(upper.path):\(lower.path)"
        guard mount("overlay", merged, "overlay", UInt(MS_RDONLY), options) == 0 else {
            Issue.record("overlayfs cannot be mounted: \(String(cString: strerror(errno)))")
            return
        }
        defer { umount2(merged, Int32(MNT_DETACH)) }
        #expect(try Files.list(merged).sorted() == ["folder", "keep"])
        #expect(try Files.list(merged + "/folder") == ["new"])
    }

    @Test("names in any bytes and long ones; an archive without entries; the same file twice")
    func names() async throws {
        let long = String(repeating: "d/", count: 200) + String(repeating: "n", count: 255)
        let unpacked = try await unpack { tar in
            tar.add(.init(name: "x", content: [1], records: [("path", Array("größe/名".utf8))]))
            tar.add(.init(name: "x", content: [1], records: [("path", Array(long.utf8))]))
            tar.file("twice", "first, longer")
            tar.file("twice", "second")
            tar.symbolicLink("link", to: "a")
            tar.symbolicLink("link", to: "b")
            tar.folder("folder", mode: 0o700)
            tar.folder("folder", mode: 0o750)
        }
        #expect(unpacked.error == nil)
        #expect(unpacked.status("größe/名") != nil)
        #expect(unpacked.status(long) != nil)
        #expect(unpacked.text("twice") == "second" && unpacked.mode("folder") == 0o750)
        let empty = try await unpack { _ in }
        #expect(empty.result?.entries == 0)
        #expect(empty.result?.difference == ContentDigest(of: [UInt8](repeating: 0, count: 1024)))
    }

    // MARK: What must not

    @Test(
        "attacks are refused, each with its reason",
        arguments: [
            ("parent", "\"..\""), ("deep parent", "\"..\""), ("absolute", "absolute"), ("hard link parent", "\"..\""),
            ("hard link absolute", "absolute"),
            ("hard link through link", "is not a folder"), ("hard link to folder", "not a file"), ("hard link to nothing", "not in the layer"),
            ("through link", "symbolic link"),
            ("through relative link", "symbolic link"), ("folder over link", "symbolic link"), ("file over folder", "two different kinds"),
            ("link over file", "two different kinds"),
            ("below file", "not a folder"), ("device", "is a device"), ("block device", "is a device"), ("fake whiteout", "is a device"),
            ("long name", "longer than"),
            ("long path", "longer than"), ("whiteout of parent", "names nothing"), ("below whiteout", "below a whiteout"), ("root as file", "root"),
            ("whiteout through link", "symbolic link"), ("opaque through link", "symbolic link"), ("owner", "out of range"),
        ])
    func attacks(kind: String, words: String) async throws {
        let outside = "../outside"
        let unpacked = try await unpack { tar in
            switch kind {
            case "parent": tar.file("../outside/file", "evil")
            case "deep parent": tar.file("a/b/../../../outside/file", "evil")
            case "absolute": tar.file("/tmp/apus-evil", "evil")
            case "hard link parent": tar.hardLink("x", to: "../outside/file")
            case "hard link absolute": tar.hardLink("x", to: "/etc/passwd")
            case "hard link through link":
                tar.symbolicLink("out", to: outside)
                tar.hardLink("x", to: "out/file")
            case "hard link to folder":
                tar.folder("folder")
                tar.hardLink("x", to: "folder")
            case "hard link to nothing": tar.hardLink("x", to: "nothing")
            case "through link":
                tar.symbolicLink("out", to: "/")
                tar.file("out/evil", "evil")
            case "through relative link":
                tar.symbolicLink("a/out", to: "../../outside")
                tar.file("a/out/evil", "evil")
            case "folder over link":
                tar.symbolicLink("out", to: outside)
                tar.folder("out")
            case "file over folder":
                tar.folder("a")
                tar.file("a", "x")
            case "link over file":
                tar.file("a", "x")
                tar.symbolicLink("a", to: outside)
            case "below file":
                tar.file("a", "x")
                tar.file("a/b", "x")
            case "device": tar.device("kmem", 1, 2)
            case "block device": tar.device("disk", type: "4", 8, 0)
            case "fake whiteout": tar.device("hidden", 0, 0)
            case "long name": tar.add(.init(name: "x", records: [("path", [UInt8](repeating: 97, count: 256))]))
            case "long path": tar.add(.init(name: "x", records: [("path", Array(String(repeating: "abc/", count: 1100).utf8) + [97])]))
            case "whiteout of parent": tar.file("a/.wh...")
            case "below whiteout": tar.file(".wh.a/b")
            case "root as file": tar.file(".", "x")
            case "whiteout through link":
                tar.symbolicLink("out", to: outside)
                tar.file("out/.wh.file")
            case "opaque through link":
                tar.symbolicLink("out", to: outside)
                tar.file("out/.wh..wh..opq")
            default: tar.add(.init(name: "x", records: [("uid", Array("4294967295".utf8))]))
            }
        }
        #expect(unpacked.error?.code == .corrupt)
        #expect(unpacked.error?.message.contains(words) == true, "\(unpacked.error?.message ?? "not refused")")
        #expect(!Files.exists("/tmp/apus-evil"))
    }

    @Test("limits: entries, bytes, a bomb, a sparse file that claims to be huge")
    func limits() async throws {
        let many = try await unpack(change: { $0.maximumEntries = 10 }) { tar in
            for number in 0..<11 { tar.file("\(number)") }
        }
        #expect(many.error?.code == .tooLarge && many.error?.message.contains("10 entries") == true)

        var zeros = TestTar()
        zeros.add(.init(name: "zeros", content: [UInt8](repeating: 0, count: 3 << 20)))
        let large = try await unpack(zeros.finished(), change: { $0.maximumBytes = 2 << 20 })
        #expect(large.error?.code == .tooLarge)

        let bomb = try await compressed(zeros.finished(), with: "gzip", ["-c"])
        let refused = try await unpack(bomb) {
            $0.maximumRatio = 50
            $0.ratioFloor = 1 << 20
        }
        #expect(refused.error?.code == .tooLarge)
        #expect(refused.error?.message.contains("decompression bomb") == true)
        #expect(try await unpack(bomb, change: { $0.maximumRatio = 50 }).error == nil, "below the floor any ratio is fine")

        let sparse = try await unpack { tar in
            tar.add(
                .init(
                    name: "GNUSparseFile.0/huge",
                    content: Array("1\n0\n1\n".utf8) + [UInt8](repeating: 0, count: 506) + [UInt8](repeating: 1, count: 512),
                    records: [
                        ("GNU.sparse.major", [49]), ("GNU.sparse.minor", [48]), ("GNU.sparse.name", Array("huge".utf8)),
                        ("GNU.sparse.realsize", Array("9000000000000".utf8)),
                    ]))
        }
        #expect(sparse.error?.code == .tooLarge, "\(String(describing: sparse.result))")
    }

    @Test("damage: cut short, bad sums, other formats, nothing")
    func damage() async throws {
        var tar = TestTar()
        tar.add(.init(name: "file", content: [UInt8](repeating: 5, count: 100_000)))
        let good = tar.finished()
        let packed = try await compressed(good, with: "gzip", ["-c"])
        var flipped = packed
        flipped[packed.count / 2] ^= 0xff
        var checksum = good
        checksum[0] ^= 1
        let cpio = try await Processes.run(ProcessRequest("sh", ["-c", "cd /etc && echo hostname | cpio -o -H newc 2>/dev/null || printf 070701"]))
            .output
        var cases = [Array(good[..<50_000]), Array(packed[..<(packed.count / 2)]), flipped, checksum, [], cpio, Array("<html>".utf8)]
        for program in ["zstd", "xz", "bzip2"] {
            let packed = try await compressed(good, with: program, ["-c"])
            cases.append(Array(packed[..<(packed.count / 2)]))
        }
        for bytes in cases {
            let unpacked = try await unpack(bytes)
            #expect(unpacked.error?.code == .corrupt, "\(String(describing: unpacked.error)) \(String(describing: unpacked.result))")
        }
    }

    @Test("an archive of files: no owners, modes or devices")
    func plain() async throws {
        var tar = TestTar()
        tar.file("a/file", "x", mode: 0o4777, user: 7)
        tar.file(".wh.kept", "k")
        let unpacked = try await unpack(tar.finished(), isPlain: true)
        #expect(unpacked.status("a/file")?.st_uid == 0 && unpacked.mode("a/file") == 0o600)
        #expect(unpacked.text(".wh.kept") == "k")
        tar.add(.init(name: "fifo", type: "6"))
        #expect(try await unpack(tar.finished(), isPlain: true).error?.code == .corrupt)
    }

    @Test("a program that is missing is named")
    func missingProgram() async throws {
        let unpacked = try await unpack(change: { $0.unpackPath = "/nowhere/apus-unpack" }) { $0.file("a") }
        #expect(unpacked.error?.message.contains("/nowhere/apus-unpack") == true)
    }
}
