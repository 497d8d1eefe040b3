import Coding
import Files
import Glibc
import PluginAPI
import Processes
import Testing

/// Folders that an engine must not take.
@Suite(.serialized, SharedEngine(images: false))
struct DataRootTests {
    /// All files below a folder with what is in them.
    private func contents(_ folder: String) throws -> [String: [UInt8]] {
        var all: [String: [UInt8]] = [:]
        for name in try Files.list(folder) {
            let path = "\(folder)/\(name)"
            if Files.isDirectory(path) {
                all.merge(try contents(path)) { first, _ in first }
            } else {
                all[path] = try Files.read(path)
            }
        }
        return all
    }

    private func start(_ engine: EngineHarness, data: String) async throws -> ProcessResult {
        try await engine.runEngineProgram(
            "--data-root", data, "--exec-root", "\(engine.root)/other-exec", "--host", "unix://\(engine.root)/other.sock")
    }

    @Test func secondEngineOnTheSameData() async throws {
        let engine = try EngineHarness.shared
        let process = try engine.process
        let result = try await start(engine, data: engine.dataRoot)
        #expect(result.exitCode != 0)
        #expect(result.errorText.contains("is in use") && result.errorText.contains("process \(process)"), "\(result.errorText)")
        #expect(Files.exists("\(engine.root)/other.sock") == false)
        #expect(await engine.isAnswering)
        let clean = try await engine.runEngineProgram("clean", "--data-root", engine.dataRoot, "--exec-root", engine.executionRoot)
        #expect(clean.exitCode != 0 && clean.errorText.contains("is in use"))
        #expect(await engine.isAnswering)
    }

    @Test func secondEngineOnTheSameSocket() async throws {
        let engine = try EngineHarness.shared
        let data = "\(engine.root)/socket-data"
        let result = try await engine.runEngineProgram(
            "--data-root", data, "--exec-root", "\(engine.root)/socket-exec", "--host", "unix://\(engine.socket)")
        #expect(result.exitCode != 0 && result.errorText.contains("already listens"), "\(result.errorText)")
        #expect(await engine.isAnswering, "the socket is still the first one's")
    }

    @Test(arguments: ["apus data 2\nabcdefghij\n", "apus data 1", "", "\u{0}\u{0}\u{0}"])
    func otherVersion(version: String) async throws {
        let engine = try EngineHarness.shared
        let data = "\(engine.root)/version-\(UInt32.random(in: .min ... .max))"
        try Files.makeDirectory("\(data)/swarm")
        try Files.writeAtomically(Array(version.utf8), to: "\(data)/version")
        try Files.writeAtomically(Array("precious".utf8), to: "\(data)/swarm/node")
        try Files.writeAtomically([], to: "\(data)/lock")
        let before = try contents(data)
        for arguments in [[], ["clean"]] {
            let result =
                arguments.isEmpty
                ? try await start(engine, data: data)
                : try await engine.runEngineProgram("clean", "--data-root", data, "--exec-root", "\(engine.root)/other-exec")
            #expect(result.exitCode != 0)
            #expect(result.errorText.contains("another version of Apus") && result.errorText.contains("Nothing was changed"), "\(result.errorText)")
            var after = try contents(data)
            // Who has the lock may be written in it.
            after["\(data)/lock"] = before["\(data)/lock"]
            #expect(after == before)
        }
    }

    @Test func foreignFolder() async throws {
        let engine = try EngineHarness.shared
        let data = "\(engine.root)/home"
        try Files.makeDirectory(data)
        try Files.writeAtomically(Array("letters".utf8), to: "\(data)/letters")
        for _ in 1...2 {
            let result = try await start(engine, data: data)
            #expect(result.exitCode != 0 && result.errorText.contains("is not empty and not a data root of Apus"), "\(result.errorText)")
            #expect(try Files.readText("\(data)/letters") == "letters")
        }
    }

    @Test func damagedNodeFile() async throws {
        let engine = try EngineHarness.shared
        let path = "\(engine.dataRoot)/swarm/node"
        try await engine.stopEngine(SIGTERM)
        let whole = try Files.read(path)
        for damaged in ["", "\n\n", "one line", "a\nb\nc\n"] {
            try Files.writeAtomically(Array(damaged.utf8), to: path)
            let result = try await start(engine, data: engine.dataRoot)
            #expect(result.exitCode != 0 && result.errorText.contains("\(path) is damaged"), "\(damaged.debugDescription): \(result.errorText)")
            #expect(try Files.readText(path) == damaged)
        }
        try Files.writeAtomically(whole, to: path)
        try await engine.startEngine()
        #expect(try await engine.get("/nodes").array?.count == 1)
    }

    @Test(arguments: [
        ["--host", "tcp://127.0.0.1:2375"], ["--host", "nonsense"], ["--data-root", "relative"], ["--bip", "10.0.0.0/99"], ["--no-such-option"],
        ["--plugin-opt", "nonsense"], ["--group", "no-such-group-here"],
    ])
    func badOptions(arguments: [String]) async throws {
        let engine = try EngineHarness.shared
        let data = "\(engine.root)/options"
        let defaults = ["--data-root", data, "--exec-root", "\(engine.root)/other-exec", "--host", "unix://\(engine.root)/other.sock"]
        let kept = arguments[0] == "--host" ? Array(defaults.prefix(4)) : arguments[0] == "--data-root" ? Array(defaults.suffix(4)) : defaults
        let result = try await engine.runEngineProgram(arguments: kept + arguments)
        #expect(result.exitCode != 0 && result.errorText.contains(arguments[1...].first ?? arguments[0]), "\(result.errorText)")
    }
}
