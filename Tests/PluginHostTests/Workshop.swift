import Files
import Glibc
import PluginAPI
import Synchronization

@testable import PluginHost

/// Makes plugins for the tests, each as small as the fault that it shows.
enum Workshop {
    /// The folder of the test program, where the build leaves libPluginAPI.so and its module.
    static let products: String = {
        guard let path = realpath("/proc/self/exe", nil) else { return "." }
        defer { free(path) }
        return Files.parent(String(cString: path))
    }()

    /// Everything made once and used by all tests.
    struct Shelf: Sendable {
        /// Of `GoodScheduler`, linked as it should be.
        var good: [UInt8]
        /// The same with a PluginAPI of its own.
        var doubled: [UInt8]
    }

    static func shelf() throws(ApusError) -> Shelf { try made.get() }

    private static let made: Result<Shelf, ApusError> = {
        do throws(ApusError) {
            return .success(try make())
        } catch {
            return .failure(error)
        }
    }()

    private static func make() throws(ApusError) -> Shelf {
        let folder = try Files.makeTemporaryDirectory(prefix: "apus-workshop")
        defer { try? Files.removeTree(folder) }
        try Files.writeAtomically(Array(goodSource.utf8), to: "\(folder)/Good.swift", sync: false)
        let compiler = "\(Files.parent(Files.parent(Files.parent(#filePath))))/Sources/Core/PluginHost/Compiler.swift"
        try run([
            "swiftc", "-O", "-wmo", "-parse-as-library", "-swift-version", "6", "-module-name", "Micro", "-I", "\(products)/Modules", "-c",
            "\(folder)/Good.swift", compiler, "-o", "\(folder)/good.o",
        ])
        let link = ["swiftc", "-emit-library", "-Xlinker", "-z", "-Xlinker", "now", "\(folder)/good.o"]
        try run(link + ["-L", products, "-lPluginAPI", "-o", "\(folder)/good.so"])
        // A debug build has an object a file, a release build one beside the modules.
        var objects = try Files.list("\(products)/PluginAPI.build").filter { $0.hasSuffix(".o") }.map { "\(products)/PluginAPI.build/\($0)" }
        if objects.isEmpty { objects = ["\(products)/Modules/PluginAPI.o"] }
        try run(link + objects + ["-o", "\(folder)/doubled.so"])
        return Shelf(good: try Files.read("\(folder)/good.so"), doubled: try Files.read("\(folder)/doubled.so"))
    }

    /// A scheduler that says nothing about tasks and can be told to fail.
    private static let goodSource = """
        import PluginAPI

        @section("apus_plugin") @used
        let record: PluginRecord = (
            magic: 0x4e49_474c_5053_5041, size: 56, api: (major: \(APIVersion.major), minor: \(APIVersion.minor)), role: 1,
            version: (major: 1, minor: 2, patch: 3),
            name: [0x6d, 0x69, 0x63, 0x72, 0x6f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])

        @c(apus_plugin_entry)
        public func entry(_ identity: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
            PluginFactory.entry(identity) { host throws(ApusError) in
                if let reason = host.configuration["fail"] { throw ApusError(.unavailable, reason) }
                return GoodScheduler(host)
            }
        }

        final class GoodScheduler: Scheduler {
            let host: any HostServices
            init(_ host: any HostServices) { self.host = host }
            func apply(_ changes: [SchedulingChange]) { host.count("changes", by: changes.count) }
            func schedule(_ request: ScheduleRequest) throws(ApusError) -> ScheduleAnswer {
                var answer = ScheduleAnswer()
                for task in request.tasks { answer.reasons[task.id] = "placed by nobody, in \\(host.stateDirectory)" }
                return answer
            }
            func shutDown() async { host.count("ends", by: 1) }
        }
        """

    /// A plugin in C, for what can be shown without Swift. Its constructor leaves the name in the environment: the trace of code that ran.
    static func c(_ name: String, body: String, flags: [String] = ["-Wl,-z,now"], in folder: String) throws(ApusError) -> [UInt8] {
        let bytes = Array(name.utf8).map { String($0) } + Array(repeating: "0", count: 32 - name.utf8.count)
        let own = PluginManifest.hostCompiler.split(separator: ".").joined(separator: ", ")
        let source = """
            #include <stdint.h>
            #include <stdlib.h>
            struct record { uint64_t magic; uint32_t size; uint16_t major, minor, role, version[3]; uint8_t name[32]; };
            __attribute__((section("apus_plugin"), used)) static const struct record record =
                { 0x4e49474c50535041, 56, \(APIVersion.major), \(APIVersion.minor), 1, { 0, 0, 1 }, { \(bytes.joined(separator: ", ")) } };
            __attribute__((section("apus_compiler"), used)) static const uint8_t compiler[3] = { \(own) };
            __attribute__((constructor)) static void leave_a_trace(void) { setenv("APUS_TRACE_\(name)", "1", 1); }
            \(body)
            """
        try Files.writeAtomically(Array(source.utf8), to: "\(folder)/\(name).c", sync: false)
        try run(["clang", "-shared", "-fPIC", "-O1", "-o", "\(folder)/\(name).built", "\(folder)/\(name).c"] + flags)
        return try Files.read("\(folder)/\(name).built")
    }

    static func hasRun(_ name: String) -> Bool { getenv("APUS_TRACE_\(name)") != nil }

    /// Runs a program of the toolchain to its end; its output is in the error.
    static func run(_ arguments: [String], in directory: String? = nil) throws(ApusError) {
        let output = "/tmp/apus-workshop-\(UInt64.random(in: 0 ... .max)).log"
        defer { unlink(output) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var pid: pid_t = 0
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        pointers.append(nil)
        defer { for pointer in pointers { free(pointer) } }
        guard posix_spawnp(&pid, arguments[0], &actions, nil, pointers, environ) == 0 else {
            throw ApusError(.failed, "cannot run \(arguments[0])")
        }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else {
            throw ApusError(.failed, "\(arguments.joined(separator: " ")): \((try? Files.readText(output)) ?? "no output")")
        }
    }
}

/// A plugin's bytes, changed where the record or the dynamic section has something to change.
struct Patch {
    var bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private func section(_ name: String) throws -> Int {
        let image = try ELFImage(bytes)
        guard let section = image.sections.first(where: { $0.name == name }) else { throw ApusError(.notFound, "no section \(name)") }
        return section.offset
    }

    func record(_ offset: Int, _ value: UInt16) throws -> Patch {
        let start = try section(PluginRecordLayout.section) + offset
        var copy = self
        copy.bytes[start] = UInt8(value & 0xff)
        copy.bytes[start + 1] = UInt8(value >> 8)
        return copy
    }

    func named(_ name: String) throws -> Patch {
        let start = try section(PluginRecordLayout.section) + 24
        var copy = self
        let field = Array(name.utf8) + [UInt8](repeating: 0, count: 32 - name.utf8.count)
        copy.bytes.replaceSubrange(start..<start + 32, with: field)
        return copy
    }

    func compiler(_ minor: UInt8) throws -> Patch {
        var copy = self
        copy.bytes[try section(PluginRecordLayout.compilerSection) + 1] = minor
        return copy
    }

    /// Takes the flags away that bind functions at once.
    func lazy() throws -> Patch {
        var copy = self
        let image = try ELFImage(bytes)
        guard let dynamic = image.sections.first(where: { $0.name == ".dynamic" }) else { throw ApusError(.notFound, "no dynamic section") }
        for offset in stride(from: dynamic.offset, to: dynamic.offset + dynamic.size - 15, by: 16) {
            switch try image.bytes.number64(offset) {
            case 24: copy.bytes[offset] = 0x15  // DT_BIND_NOW becomes DT_DEBUG
            case 30: copy.bytes[offset + 8] &= ~0x8
            case 0x6fff_fffb: copy.bytes[offset + 8] &= ~0x1
            default: break
            }
        }
        return copy
    }

    /// Renames a section, which for the reader then is not there.
    func renaming(_ name: String) throws -> Patch {
        let wanted = Array(name.utf8) + [0]
        var copy = self
        for start in bytes.indices.dropLast(wanted.count) where Array(bytes[start..<start + wanted.count]) == wanted { copy.bytes[start] = 0x78 }
        return copy
    }
}
