import Coding
import Events
import PluginAPI
import Processes
import Synchronization

/// `/images`.
struct ImageRoutes: Sendable {
    let runtime: any Runtime
    let containers: ContainerUse
    let events: EventHub

    /// How many containers use an image.
    typealias ContainerUse = @Sendable (ID) async -> Int

    func add(to router: inout Router) {
        router.add("GET", "/images/json") { request throws(ApusError) in try await list(request) }
        router.add("POST", "/images/create", streamsBody: true) { request throws(ApusError) in try await create(request) }
        router.add("POST", "/images/load", streamsBody: true) { request throws(ApusError) in
            let loaded = try await reading { () throws(ApusError) in try await runtime.load(descriptor: request.bodyDescriptor) }
            for reference in loaded { publish("load", reference) }
            return .stream("application/json") { writer in
                for reference in loaded {
                    let kind = reference.hasPrefix("sha256:") ? "Loaded image ID" : "Loaded image"
                    try await writer.write(["stream": .string("\(kind): \(reference)\n")])
                }
            }
        }
        router.missing("GET", "/images/search", "searching a registry")
        router.missing("GET", "/images/get", "saving images")
        router.missing("POST", "/images/prune", "pruning images")
        router.missing("POST", "/build", "building images")
        router.missing("POST", "/build/prune", "building images")
        router.missing("POST", "/build/cancel", "building images")
        router.missing("POST", "/commit", "making an image from a container")
        router.missing("GET", "/images/{name...}/get", "saving images")
        router.missing("POST", "/images/{name...}/push", "pushing images")
        router.add("GET", "/images/{name...}/json") { request throws(ApusError) in
            .json(Self.inspection(of: try await runtime.image(request.parameter("name"))))
        }
        router.add("GET", "/images/{name...}/history") { request throws(ApusError) in
            let image = try await runtime.image(request.parameter("name"))
            return .json(
                .array(
                    image.history.reversed().enumerated().map { index, step in
                        [
                            "Id": .string(index == 0 ? image.id.text : "<missing>"), "Created": .integer(step.createdAt.seconds),
                            "CreatedBy": .string(step.createdBy), "Tags": index == 0 ? JSONValue(image.references) : .null, "Size": 0,
                            "Comment": .string(step.comment),
                        ]
                    }))
        }
        router.add("POST", "/images/{name...}/tag") { request throws(ApusError) in
            guard let repository = request.text("repo"), !repository.isEmpty else {
                throw ApusError(.invalidArgument, "repo is missing: the name that the image is to have")
            }
            let tag = request.text("tag").flatMap { $0.isEmpty ? nil : $0 } ?? "latest"
            try await runtime.tag(source: request.parameter("name"), target: "\(repository):\(tag)")
            publish("tag", "\(repository):\(tag)")
            return .empty(201)
        }
        router.add("DELETE", "/images/{name...}") { request throws(ApusError) in
            let answer = try await runtime.removeImage(RemoveImageRequest(reference: request.parameter("name"), force: request.flag("force")))
            for reference in answer.untagged { publish("untag", reference) }
            for id in answer.deleted { publish("delete", id) }
            return .json(
                .array(answer.untagged.map { ["Untagged": .string($0)] } + answer.deleted.map { ["Deleted": .string($0)] }))
        }
        router.add("GET", "/distribution/{name...}/json") { request throws(ApusError) in
            var pull = PullRequest(reference: request.parameter("name"))
            pull.credentials = try RegistryCredentials(header: request.headers["x-registry-auth"])
            return .json(Self.json(try await runtime.distribution(pull)))
        }
    }

    private func publish(_ action: String, _ reference: String) {
        events.publish(EngineEvent(type: "image", action: action, actorID: reference, attributes: ["name": reference], time: .now))
    }

    private static func json(_ distribution: ImageDistribution) -> JSONValue {
        [
            "Descriptor": [
                "mediaType": .string(distribution.mediaType), "digest": .string(distribution.digest), "size": .integer(distribution.size),
            ],
            "Platforms": .array(
                distribution.platforms.map { platform in
                    var json: JSONValue = ["architecture": .string(platform.architecture), "os": .string(platform.os)]
                    if !platform.variant.isEmpty { json["variant"] = .string(platform.variant) }
                    return json
                }),
        ]
    }

    // MARK: Reading

    private func list(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let filters = try Filters(request.text("filters"), known: ["before", "dangling", "label", "reference", "since", "until"])
        for key in ["before", "since", "until"] where !filters[key].isEmpty {
            throw ApusError(.unimplemented, "the image filter \"\(key)\" is not in this version of Apus")
        }
        for pattern in filters["reference"] { try GlobPattern.check(pattern) }
        let shared = request.flag("shared-size") ? try await runtime.diskUsage().shared : nil
        var answers: [JSONValue] = []
        for image in try await runtime.images().sorted(by: { $0.createdAt > $1.createdAt }) {
            let isDangling = image.references.isEmpty
            // Of an image with many names only those are shown that were asked for.
            let references = image.references.filter { reference in filters.any("reference") { GlobPattern.matches($0, reference: reference) } }
            let digests = image.digests.filter { digest in
                filters["reference"].isEmpty || references.contains { $0.hasPrefix(digest.prefix { $0 != "@" } + ":") }
            }
            guard filters.any("dangling", { ["true", "1"].contains($0) == isDangling }), filters.labels("label", image.configuration.labels),
                filters["reference"].isEmpty || !references.isEmpty
            else { continue }
            answers.append([
                "Id": .string(image.id.text), "ParentId": "", "RepoTags": JSONValue(isDangling ? ["<none>:<none>"] : references),
                "RepoDigests": JSONValue(digests), "Created": .integer(image.createdAt.seconds), "Size": .integer(image.size),
                "VirtualSize": .integer(image.size), "SharedSize": .integer(shared.map { $0[image.id] ?? 0 } ?? -1),
                "Labels": image.configuration.labels.isEmpty ? .null : JSONValue(image.configuration.labels),
                "Containers": .integer(Int64(await containers(image.id))),
            ])
        }
        return .json(.array(answers))
    }

    static func inspection(of image: Image) -> JSONValue {
        let configuration = image.configuration
        return [
            "Id": .string(image.id.text), "RepoTags": JSONValue(image.references), "RepoDigests": JSONValue(image.digests), "Parent": "",
            "Comment": .string(image.comment), "Created": .string(image.createdAt.description), "Container": "", "DockerVersion": "",
            "Author": .string(image.author), "Config": Self.configuration(configuration), "Architecture": .string(image.architecture),
            "Os": .string(image.os), "Size": .integer(image.size), "VirtualSize": .integer(image.size),
            "GraphDriver": ["Name": "overlay2", "Data": .null], "RootFS": ["Type": "layers", "Layers": JSONValue(image.layers)],
            "Metadata": ["LastTagTime": "0001-01-01T00:00:00Z"],
        ]
    }

    private static func configuration(_ configuration: ImageConfiguration) -> JSONValue {
        var json: JSONValue = [
            "Hostname": "", "Domainname": "", "User": .string(configuration.user), "AttachStdin": false, "AttachStdout": false,
            "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": JSONValue(configuration.environment),
            "Cmd": configuration.command.isEmpty ? .null : JSONValue(configuration.command), "Image": "",
            "Volumes": configuration.volumes.isEmpty ? .null : .set(configuration.volumes.keys),
            "WorkingDir": .string(configuration.workingDirectory),
            "Entrypoint": configuration.entrypoint.isEmpty ? .null : JSONValue(configuration.entrypoint), "OnBuild": .null,
            "Labels": configuration.labels.isEmpty ? .null : JSONValue(configuration.labels),
        ]
        if !configuration.exposedPorts.isEmpty { json["ExposedPorts"] = .set(configuration.exposedPorts.keys) }
        if !configuration.stopSignal.isEmpty { json["StopSignal"] = .string(configuration.stopSignal) }
        if let healthcheck = configuration.healthcheck { json["Healthcheck"] = JSONFields.encode(healthcheck) }
        return json
    }

    // MARK: Pulling and importing

    private func create(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        if let source = request.text("fromSrc"), !source.isEmpty {
            guard source == "-" else {
                throw ApusError(.unimplemented, "importing from a URL is not in this version of Apus; fetch it and send it as the body")
            }
            return try await importImage(request)
        }
        guard let name = request.text("fromImage"), !name.isEmpty else {
            throw ApusError(.invalidArgument, "fromImage is missing: the image to pull")
        }
        let tag = request.text("tag") ?? ""
        // A bare name with a digest or tag of its own is left as it is.
        let reference = tag.isEmpty ? name : tag.hasPrefix("sha256:") ? "\(name)@\(tag)" : "\(name):\(tag)"
        var pull = PullRequest(reference: reference)
        pull.platform = request.text("platform") ?? ""
        pull.credentials = try RegistryCredentials(header: request.headers["x-registry-auth"])
        let job = PullJob { [self, pull] (report) throws(ApusError) in
            guard Self.namesRepository(reference) else { return try await self.pull(pull, report) }
            // One after the other, as Docker does it: what fails ends the rest, and what was pulled stays.
            for tag in try await runtime.tags(pull) {
                var one = pull
                one.reference = "\(reference):\(tag)"
                try await self.pull(one, report)
            }
        }
        // What fails before anything was done has a status of its own; later the stream tells.
        guard let first = try await job.firstProgress() else {
            return .stream("application/json") { writer in try await writer.write(["status": .string("Status: Image is up to date for \(reference)")]) }
        }
        return .stream("application/json") { writer in
            try await writer.write(Self.progress(first))
            for await progress in job.followingProgress() { try await writer.write(Self.progress(progress)) }
            do {
                try await job.result()
            } catch let error as ApusError {
                try await writer.write(["errorDetail": ["message": .string(error.message)], "error": .string(error.message)])
            }
        }
    }

    private func pull(_ request: PullRequest, _ report: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) {
        _ = try await runtime.pull(request, progress: report)
        publish("pull", request.reference)
    }

    /// Whether a reference has neither tag nor digest: then it stands for all tags there are (Engine API, `ImageCreate`).
    static func namesRepository(_ reference: String) -> Bool {
        !reference.contains("@") && !(reference.split(separator: "/", omittingEmptySubsequences: false).last ?? "").contains(":")
    }

    /// An archive that cannot be read is the mistake of whoever sent it.
    private func reading<Value>(_ read: () async throws(ApusError) -> Value) async throws(ApusError) -> Value {
        do throws(ApusError) {
            return try await read()
        } catch {
            throw error.code == .corrupt ? ApusError(.invalidArgument, error.message) : error
        }
    }

    private static func progress(_ progress: PullProgress) -> JSONValue {
        var detail = JSONObject()
        if progress.total > 0 || progress.current > 0 {
            detail["current"] = .integer(progress.current)
            if progress.total > 0 { detail["total"] = .integer(progress.total) }
        }
        var json: JSONValue = ["status": .string(progress.status), "progressDetail": .object(detail)]
        if !progress.id.isEmpty { json["id"] = .string(progress.id) }
        if progress.total > 0 { json["progress"] = .string(progress.bar) }
        return json
    }

    private func importImage(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        var reference = request.text("repo") ?? ""
        if !reference.isEmpty, let tag = request.text("tag"), !tag.isEmpty { reference += ":\(tag)" }
        let source = ImportImageRequest(
            descriptor: request.bodyDescriptor, reference: reference, changes: request.query["changes"] ?? [], message: request.text("message") ?? "")
        let image = try await reading { () throws(ApusError) in try await runtime.importImage(source) }
        publish("import", image.id.text)
        return .stream("application/json") { writer in try await writer.write(["status": .string(image.id.text)]) }
    }
}

/// Pulls whose progress is read while they run. They are cancelled when nobody holds them any more.
private final class PullJob: Sendable {
    private let stream: AsyncStream<PullProgress>
    private let task: ConcurrentTask<Result<Void, ApusError>, Never>

    init(_ work: @escaping @Sendable (_ report: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Void) {
        let (stream, continuation) = AsyncStream.makeStream(of: PullProgress.self, bufferingPolicy: .bufferingNewest(1024))
        self.stream = stream
        task = ConcurrentTask {
            defer { continuation.finish() }
            do throws(ApusError) {
                return .success(try await work { continuation.yield($0) })
            } catch {
                return .failure(error)
            }
        }
    }

    deinit { task.cancel() }

    /// `nil` when there was none. Throws when the pull failed before any.
    func firstProgress() async throws(ApusError) -> PullProgress? {
        var iterator = stream.makeAsyncIterator()
        if let first = await iterator.next() { return first }
        try await result()
        return nil
    }

    func followingProgress() -> AsyncStream<PullProgress> { stream }

    func result() async throws(ApusError) {
        let result = await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
        return try result.get()
    }
}

extension PullProgress {
    /// A bar of fifty places and the amounts, as old clients print it.
    fileprivate var bar: String {
        let filled = Int(min(50, current * 50 / max(1, total)))
        return "[\(String(repeating: "=", count: filled))>\(String(repeating: " ", count: 50 - filled))] \(current)/\(total)"
    }
}

extension RegistryCredentials {
    /// Reads `X-Registry-Auth`: JSON in URL-safe base 64. Absent and empty ones are none.
    init?(header: String?) throws(ApusError) {
        guard let header, !header.isEmpty else { return nil }
        guard let bytes = Base64.decode(header) else { throw ApusError(.invalidArgument, "X-Registry-Auth is not base 64") }
        // Clients send more than that: the address, and fields of their own.
        var reader = try JSONReader(JSONValue.parse(bytes), path: "X-Registry-Auth")
        let username = try reader.string("username")
        let password = try reader.string("password")
        let token = try reader.string("identitytoken")
        guard !username.isEmpty || !token.isEmpty else { return nil }
        self.init(username: username, password: password, identityToken: token)
    }
}

extension JSONValue {
    /// A set as the Engine API writes it: keys with empty objects.
    static func set(_ keys: some Sequence<String>) -> JSONValue {
        var object = JSONObject()
        for key in keys.sorted() { object[key] = [:] }
        return .object(object)
    }
}

extension Timestamp {
    /// Whole seconds since 1970.
    var seconds: Int64 { nanoseconds / 1_000_000_000 }
}
