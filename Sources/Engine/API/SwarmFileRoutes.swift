import Coding
import Orchestration
import PluginAPI
import Store
import Swarm

/// `/secrets` or `/configs`: create, read, update, remove. The data of a config is shown, that of a secret never.
struct SwarmFileRoutes<File: SwarmFile>: Sendable {
    let swarm: SwarmNode
    private var word: String { File.kind.rawValue }

    func add(to router: inout Router) {
        let path = "/\(word)s"
        router.add("GET", path) { request throws(ApusError) in try await list(request) }
        router.add("POST", "\(path)/create") { request throws(ApusError) in
            try await swarm.onLeader(request) { manager throws(ApusError) in try await create(request, manager) }
        }
        router.add("GET", "\(path)/{id}") { request throws(ApusError) in
            let snapshot = try await swarm.snapshot(for: request)
            return .object(try ObjectReferences.file(request.parameter("id"), File.self, in: snapshot))
        }
        router.add("POST", "\(path)/{id}/update") { request throws(ApusError) in
            try await swarm.onLeader(request) { manager throws(ApusError) in try await update(request, manager) }
        }
        router.add("DELETE", "\(path)/{id}") { request throws(ApusError) in
            try await swarm.onLeader(request) { manager throws(ApusError) in try await remove(request, manager) }
        }
    }

    private func list(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let filters = try Filters(request.text("filters"), known: ["id", "label", "name", "names"])
        let files = File.all(in: try await swarm.snapshot(for: request))
            .filter { file in
                filters.prefix("id", file.id.text) && filters.prefix("name", file.name) && filters.exact("names", file.name)
                    && filters.labels("label", file.labels)
            }
            .sorted { $0.name < $1.name }
        return .json(.array(files.map { JSONFields.encode($0) }))
    }

    private func create(_ request: APIRequest, _ manager: ManagerPart) async throws(ApusError) -> APIResponse {
        let wanted = try FileBody(request)
        var file = File()
        file.id = .random()
        file.name = wanted.name
        file.labels = wanted.labels
        file.data = wanted.data ?? []
        try FileValidation.check(name: file.name, labels: file.labels, size: file.data.count, kind: word, limit: File.limit)
        try await manager.store.update { [file] transaction throws(ApusError) in
            guard File.named(file.name, in: transaction.snapshot) == nil else {
                throw ApusError(.conflict, "\(File.kind.rawValue) \(file.name) already exists")
            }
            try transaction.create(file.stored)
        }
        return .json(["ID": .string(file.id.text)], status: 201)
    }

    private func update(_ request: APIRequest, _ manager: ManagerPart) async throws(ApusError) -> APIResponse {
        let version = try request.storeVersion()
        let reference = request.parameter("id")
        let wanted = try FileBody(request)
        try await manager.store.update { transaction throws(ApusError) in
            var file = try ObjectReferences.file(reference, File.self, in: transaction.snapshot)
            // A client that has read a secret has not got its data.
            guard wanted.name == file.name, wanted.data == nil || wanted.data == file.data else {
                throw ApusError(.invalidArgument, "only updates to Labels are allowed: make another \(File.kind.rawValue), and let the service use that")
            }
            file.labels = wanted.labels
            try FileValidation.check(name: file.name, labels: file.labels, size: file.data.count, kind: File.kind.rawValue, limit: File.limit)
            try transaction.update(file.stored, matching: version)
        }
        return .empty(200)
    }

    private func remove(_ request: APIRequest, _ manager: ManagerPart) async throws(ApusError) -> APIResponse {
        let reference = request.parameter("id")
        try await manager.store.update { transaction throws(ApusError) in
            let file = try ObjectReferences.file(reference, File.self, in: transaction.snapshot)
            let users = File.services(using: file.id, in: transaction.snapshot)
            guard users.isEmpty else {
                throw ApusError(
                    .invalidArgument,
                    "\(File.kind.rawValue) '\(file.name)' is in use by the following service\(users.count == 1 ? "" : "s"): "
                        + users.joined(separator: ", "))
            }
            try transaction.remove(File.kind, file.id)
        }
        return .empty(204)
    }
}

/// The body that makes or changes a secret or config.
private struct FileBody: Sendable {
    var name: String
    var labels: [String: String]
    /// `nil` when it is absent or empty.
    var data: [UInt8]?

    init(_ request: APIRequest) throws(ApusError) {
        guard !request.body.isEmpty else { throw ApusError(.invalidArgument, "the request has no body; a JSON object is expected") }
        var reader = try JSONReader(try request.json(), path: "")
        name = try reader.string("Name")
        labels = try reader.map("Labels")
        let text = try reader.string("Data")
        if !text.isEmpty {
            guard let bytes = Base64.decode(text) else { throw ApusError(.invalidArgument, "Data is not bytes in base 64") }
            data = bytes
        }
        try reader.unsupported("Driver")
        try reader.unsupported("Templating")
        try reader.finish()
    }
}

extension ObjectReferences {
    static func file<File: SwarmFile>(_ reference: String, _ type: File.Type, in snapshot: StoreSnapshot) throws(ApusError) -> File {
        let all = File.all(in: snapshot)
        if let file = all.first(where: { $0.id.text == reference }) ?? File.named(reference, in: snapshot) { return file }
        return try byPrefix(reference, File.kind.rawValue, all, id: \.id)
    }
}
