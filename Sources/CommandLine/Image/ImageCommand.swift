import ArgumentParser
import Coding
import PluginAPI

struct ImageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "image", abstract: "Images of this node.",
        subcommands: [
            ImageListCommand.self, ImageInspectCommand.self, PullCommand.self, TagCommand.self, ImageRemoveCommand.self, LoadCommand.self,
            ImportCommand.self,
        ])
}

/// `apus images` and `apus image ls`.
struct ImageListOptions: ParsableArguments {
    @OptionGroup var list: ListOptions
    @Flag(name: [.customShort("a"), .long], help: "Also images without a name.") var all = false
    @Flag(help: "Show digests.") var digests = false
    @Flag(help: "Cut nothing short.") var noTrunc = false
    @Argument(help: ArgumentHelp("Only images of that name.", valueName: "name[:tag]")) var reference: String?

    func run(with context: CommandContext) async throws {
        var filters = try Filters.parse(list.filter)
        if let reference { filters["reference", default: []].append(reference) }
        var query: Query = [:]
        query.add("all", all)
        query.add(filters: filters)
        let images = try await context.client.get("/images/json", query).array ?? []
        let rows = ImageText.rows(images, now: context.now(), noTrunc: noTrunc)
        var columns = ImageText.columns
        if digests { columns[2].isShown = true }
        try context.show(Listing(columns: columns, rows: rows), format: list.format, quiet: list.quiet)
    }
}

struct ImageListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the images.", aliases: ["list"])
    @OptionGroup var options: ImageListOptions
    func run(with context: CommandContext) async throws { try await options.run(with: context) }
}

struct ImagesCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "images", abstract: "List the images.")
    @OptionGroup var options: ImageListOptions
    func run(with context: CommandContext) async throws { try await options.run(with: context) }
}

/// Images as rows.
enum ImageText {
    static let columns: [Listing.Column] = [
        .init("Repository", "REPOSITORY"), .init("Tag", "TAG"), .init("Digest", "DIGEST", isShown: false), .init("ID", "IMAGE ID"),
        .init("CreatedSince", "CREATED"), .init("Size", "SIZE"), .init("CreatedAt", "CREATED AT", isShown: false),
    ]

    /// One row for each name of an image, the newest image first.
    static func rows(_ images: [JSONValue], now: Timestamp, noTrunc: Bool) -> [[String]] {
        images.sorted { ($0["Created"]?.integer ?? 0) > ($1["Created"]?.integer ?? 0) }.flatMap { image -> [[String]] in
            let id = image["Id"]?.string ?? ""
            let seconds = image["Created"]?.integer ?? 0
            let created = Timestamp(nanoseconds: seconds.multipliedReportingOverflow(by: 1_000_000_000).partialValue)
            let digests = (image["RepoDigests"]?.array ?? []).compactMap(\.string).filter { !$0.hasPrefix("<none>") }
            func row(_ name: String, _ tag: String) -> [String] {
                let digest = digests.first { $0.cut(at: "@").head == name } ?? digests.first
                return [
                    name, tag, digest?.cut(at: "@").tail ?? "<none>", noTrunc ? id : shortID(id), HumanText.ago(created, now: now),
                    ByteSize.decimalText(image["Size"]?.integer ?? 0), created.description,
                ]
            }
            let tags = (image["RepoTags"]?.array ?? []).compactMap(\.string).filter { $0 != "<none>:<none>" }
            if tags.isEmpty { return [row(digests.first?.cut(at: "@").head ?? "<none>", "<none>")] }
            return tags.map { tag in
                let (name, version) = ImageReference.split(tag)
                return row(name, version)
            }
        }
    }

    /// Twelve digits, without the name of the hash.
    static func shortID(_ id: String) -> String { String((id.hasPrefix("sha256:") ? id.dropFirst(7) : id[...]).prefix(12)) }
}

struct ImageInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about images.")

    @OptionGroup var inspect: InspectOptions
    @Argument(help: "Names or ids.") var images: [String]

    func run(with context: CommandContext) async throws {
        try await context.inspect(images, format: inspect.format) { name throws(ApusError) in
            try await context.client.get("/images/\(name.pathName)/json")
        }
    }
}

struct TagCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "tag", abstract: "Give an image one more name.")

    @Argument(help: "Name or id.") var source: String
    @Argument(help: "The new name, with or without a tag.") var target: String

    func run(with context: CommandContext) async throws {
        guard !target.contains("@") else { throw ApusError(.invalidArgument, "\"\(target)\" has a digest; a new name has at most a tag") }
        let (name, tag) = ImageReference.split(target)
        try await context.client.post("/images/\(source.pathName)/tag", ["repo": name, "tag": tag])
    }
}

/// `apus rmi` and `apus image rm`.
struct ImageRemoveOptions: ParsableArguments {
    @Flag(name: [.customShort("f"), .long], help: "Also when a container uses it.") var force = false
    @Flag(help: "Keep older images that have no name.") var noPrune = false
    @Argument(help: "Names or ids.") var images: [String]

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        query.add("force", force)
        query.add("noprune", noPrune)
        try await context.each(images) { name throws(ApusError) in
            for item in try await context.client.delete("/images/\(name.pathName)", query).array ?? [] {
                if let untagged = item["Untagged"]?.string { context.console.line("Untagged: \(untagged)") }
                if let deleted = item["Deleted"]?.string { context.console.line("Deleted: \(deleted)") }
            }
        }
    }
}

struct ImageRemoveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove images.", aliases: ["remove"])
    @OptionGroup var options: ImageRemoveOptions
    func run(with context: CommandContext) async throws { try await options.run(with: context) }
}

struct RemoveImageCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rmi", abstract: "Remove images.")
    @OptionGroup var options: ImageRemoveOptions
    func run(with context: CommandContext) async throws { try await options.run(with: context) }
}

struct LoadCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "load", abstract: "Take images from an archive, a file or standard input.")

    @Option(name: [.customShort("i"), .long], help: ArgumentHelp("The archive; standard input without it.", valueName: "file")) var input: String?
    @Flag(name: [.customShort("q"), .long], help: "Show no progress.") var quiet = false

    func run(with context: CommandContext) async throws {
        let descriptor = try LocalFile.archive(input)
        defer { LocalFile.close(descriptor) }
        var query: Query = [:]
        query.add("quiet", quiet)
        try await context.followProgress(
            "POST", "/images/load", query, body: .descriptor(descriptor), headers: ["Content-Type": "application/x-tar"], quiet: false)
    }
}

struct ImportCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "import", abstract: "Make an image of the files in an archive.")

    @Option(
        name: [.customShort("c"), .long], parsing: .unconditionalSingleValue,
        help: ArgumentHelp("A line as in a Dockerfile, such as 'CMD [\"/bin/sh\"]'.", valueName: "line"))
    var change: [String] = []
    @Option(name: [.customShort("m"), .long], help: "A note in the image's history.") var message: String?
    @Option(help: ArgumentHelp("Platform, such as linux/arm64.", valueName: "os/architecture")) var platform: String?
    @Argument(help: ArgumentHelp("The archive, - for standard input, or an address that the engine can reach.", valueName: "file|-|url")) var source: String
    @Argument(help: ArgumentHelp("Name of the image.", valueName: "name[:tag]")) var reference: String?

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        if let reference {
            let (name, tag) = ImageReference.split(reference)
            query.add("repo", name)
            query.add("tag", tag)
        }
        for line in change { query.add("changes", line) }
        query.add("message", message)
        query.add("platform", platform)
        if source.hasPrefix("http://") || source.hasPrefix("https://") {
            query.add("fromSrc", source)
            try await context.followProgress("POST", "/images/create", query, quiet: false)
            return
        }
        query.add("fromSrc", "-")
        let descriptor = try LocalFile.archive(source == "-" ? nil : source)
        defer { LocalFile.close(descriptor) }
        try await context.followProgress(
            "POST", "/images/create", query, body: .descriptor(descriptor), headers: ["Content-Type": "application/x-tar"], quiet: false)
    }
}
