import ArgumentParser
import Coding
import Glibc
import PluginAPI

/// The flags of `secret create` and `config create`.
struct SwarmFileCreateOptions: ParsableArguments {
    @Option(name: [.customShort("l"), .long], help: ArgumentHelp("Label.", valueName: "key=value")) var label: [String] = []
    @Option(help: .hidden) var templateDriver: String?
}

/// What `secret` and `config` do alike; the kind is `secrets` or `configs`, as in the API's paths.
extension CommandContext {
    func createFile(_ kind: String, name: String, file: String?, _ options: SwarmFileCreateOptions, driver: String?) async throws {
        var body: JSONValue = ["Name": .string(name), "Labels": JSONValue(try KeyValue.map(options.label, flag: "--label"))]
        // An external store has the data of a secret that names its driver.
        if file != nil || driver == nil { body["Data"] = .string(Base64.encode(try Self.content(file))) }
        if let driver { body["Driver"] = ["Name": .string(driver)] }
        if let template = options.templateDriver { body["Templating"] = ["Name": .string(template)] }
        let answer = try await client.post("/\(kind)/create", body: body)
        guard let id = answer["ID"]?.string else { throw ApusError(.corrupt, "the engine answered without an id") }
        console.line(id)
    }

    private static func content(_ file: String?) throws(ApusError) -> [UInt8] {
        if let file, file != "-" { return try LocalFile.bytes(file) }
        guard isatty(0) == 0 else { throw ApusError(.invalidArgument, "standard input is a terminal: name a file, or feed the data with `<`") }
        return try LocalFile.bytes(of: 0, named: "standard input")
    }

    func listFiles(_ kind: String, _ list: ListOptions, _ freshness: FreshnessOptions) async throws {
        let columns: [Listing.Column] = [
            .init("ID", "ID"), .init("Name", "NAME"), .init("CreatedAt", "CREATED"), .init("UpdatedAt", "UPDATED"),
            .init("Labels", "LABELS", isShown: false),
        ]
        let files = try await reading(freshness).client.get("/\(kind)", try list.query()).array ?? []
        let now = now()
        let rows = files.map { file in
            func time(_ key: String) -> String { Timestamp(file[key]?.string ?? "").map { HumanText.ago($0, now: now) } ?? "" }
            return [
                file["ID"]?.string ?? "", file["Spec"]?["Name"]?.string ?? "", time("CreatedAt"), time("UpdatedAt"),
                ServiceText.labels(file["Spec"]?.strings("Labels") ?? [:]),
            ]
        }
        try show(Listing(columns: columns, rows: rows), format: list.format, quiet: list.quiet)
    }

    func removeFiles(_ kind: String, _ names: [String]) async throws {
        try await each(names) { name throws(ApusError) in
            _ = try await client.delete("/\(kind)/\(name.pathComponent)")
            console.line(name)
        }
    }
}
