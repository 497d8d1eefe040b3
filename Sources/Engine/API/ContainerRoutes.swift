import Agent
import Coding
import PluginAPI

/// `/containers`.
struct ContainerRoutes: Sendable {
    let containers: ContainerEngine
    let runtime: any Runtime

    func add(to router: inout Router) {
        router.add("GET", "/containers/json") { request throws(ApusError) in try await list(request) }
        router.add("POST", "/containers/create") { request throws(ApusError) in try await create(request) }
        router.missing("POST", "/containers/prune", "pruning containers")
        router.add("GET", "/containers/{id}/json") { request throws(ApusError) in
            let details = try containers.inspect(request.parameter("id"))
            return .json(ContainerJSON.inspection(details, volumes: await volumePaths(of: [details])))
        }
        router.add("POST", "/containers/{id}/start") { request throws(ApusError) in
            let changed = try await containers.start(request.parameter("id"))
            return .empty(changed ? 204 : 304)
        }
        router.add("POST", "/containers/{id}/stop") { request throws(ApusError) in
            let changed = try await containers.stop(request.parameter("id"), signal: request.text("signal"), gracePeriod: gracePeriod(request))
            return .empty(changed ? 204 : 304)
        }
        router.add("POST", "/containers/{id}/restart") { request throws(ApusError) in
            try await containers.restart(request.parameter("id"), signal: request.text("signal"), gracePeriod: gracePeriod(request))
            return .empty(204)
        }
        router.add("POST", "/containers/{id}/kill") { request throws(ApusError) in
            try await containers.kill(request.parameter("id"), signal: request.text("signal") ?? "SIGKILL")
            return .empty(204)
        }
        router.add("POST", "/containers/{id}/rename") { request throws(ApusError) in
            guard let name = request.text("name"), !name.isEmpty else { throw ApusError(.invalidArgument, "name is missing: the container's new name") }
            try await containers.rename(request.parameter("id"), to: name)
            return .empty(204)
        }
        router.add("POST", "/containers/{id}/wait") { request throws(ApusError) in try await wait(request) }
        router.add("DELETE", "/containers/{id}") { request throws(ApusError) in
            if request.flag("link") { throw ApusError(.unimplemented, "links are not in this version of Apus") }
            try await containers.remove(request.parameter("id"), force: request.flag("force"), volumes: request.flag("v"))
            return .empty(204)
        }
        router.add("GET", "/containers/{id}/logs") { request throws(ApusError) in try await logs(request) }
        router.missing("POST", "/containers/{id}/attach", "attaching to a container (use \"docker run -d\" and \"docker logs -f\")")
        router.missing("GET", "/containers/{id}/attach/ws", "attaching to a container")
        router.missing("POST", "/containers/{id}/resize", "resizing a container's terminal")
        router.missing("POST", "/containers/{id}/exec", "exec")
        router.missing("POST", "/exec/{id}/start", "exec")
        router.missing("POST", "/exec/{id}/resize", "exec")
        router.missing("GET", "/exec/{id}/json", "exec")
        router.missing("POST", "/containers/{id}/pause", "pausing a container")
        router.missing("POST", "/containers/{id}/unpause", "pausing a container")
        router.missing("POST", "/containers/{id}/update", "changing the limits of a container")
        router.missing("GET", "/containers/{id}/top", "listing the processes of a container")
        router.missing("GET", "/containers/{id}/changes", "listing the changed files of a container")
        router.missing("GET", "/containers/{id}/export", "exporting a container")
        router.missing("GET", "/containers/{id}/stats", "statistics of a container")
        for method in ["GET", "POST"] { router.missing(method, "/containers/{id}/checkpoints", "checkpoints of a container") }
        router.missing("DELETE", "/containers/{id}/checkpoints/{checkpoint}", "checkpoints of a container")
        for method in ["GET", "HEAD", "PUT"] { router.missing(method, "/containers/{id}/archive", "copying files of a container") }
    }

    private func create(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        guard !request.body.isEmpty else { throw ApusError(.invalidArgument, "the request has no body; a JSON object is expected") }
        let body = try request.json()
        var wanted = try ContainerCreateBody.request(from: body, name: request.text("name"))
        if let platform = request.text("platform"), !platform.isEmpty { wanted.platform = try RequestedPlatform(platform) }
        if let mode = body["HostConfig"]?["CgroupnsMode"]?.string, !mode.isEmpty {
            try CgroupNamespace.check(
                mode, isPrivileged: wanted.configuration.privileged, cgroupVersion: try await runtime.information().cgroupVersion)
        }
        let id = try await containers.create(wanted)
        return .json(["Id": .string(id.text), "Warnings": []], status: 201)
    }

    /// Negative: it waits without end.
    private func gracePeriod(_ request: APIRequest) throws(ApusError) -> Duration? { try request.integer("t").map { .seconds($0) } }

    /// Where on this machine the volumes of some containers are, by name. A runtime that cannot say is no reason to show nothing.
    private func volumePaths(of containers: [ContainerDetails]) async -> [String: String] {
        guard containers.contains(where: { $0.configuration.mounts.contains { $0.kind == .volume } }) else { return [:] }
        return ContainerJSON.paths(of: (try? await runtime.volumes()) ?? [])
    }

    private func list(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let filters = try Filters(
            request.text("filters"),
            known: ["ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network", "publish", "since", "status", "volume"])
        for key in ["before", "expose", "publish", "since", "volume"] where !filters[key].isEmpty {
            throw ApusError(.unimplemented, "the container filter \"\(key)\" is not in this version of Apus")
        }
        let limit = try request.integer("limit") ?? 0
        let all = request.flag("all") || limit > 0 || !filters["status"].isEmpty || !filters["exited"].isEmpty
        let ancestors = await images(filters["ancestor"])
        var found = containers.list().filter { container in
            (all || container.state.phase == .running || container.state.phase == .paused || container.isRestarting)
                && filters.prefix("id", container.id.text) && filters.name("name", container.name)
                && filters.labels("label", container.configuration.labels)
                && filters.exact("status", ContainerJSON.state(container))
                && filters.any("exited") { container.state.phase == .exited && $0 == String(container.state.exitCode) }
                && filters.exact("health", container.health?.status.rawValue ?? "none")
                && filters.any("is-task") { ($0 == "true") == !container.taskID.isEmpty }
                && filters.any("network") { wanted in
                    container.networkMode == wanted
                        || container.configuration.endpoints.contains { $0.networkName == wanted || $0.networkID.text.hasPrefix(wanted) }
                }
                && filters.any("ancestor") { ancestors.contains(container.configuration.imageID) || container.configuration.imageReference == $0 }
        }
        .sorted { $0.configuration.createdAt > $1.configuration.createdAt }
        if limit > 0 { found = Array(found.prefix(limit)) }
        let sizes = request.flag("size") ? try await runtime.diskUsage().containers : nil
        let (now, volumes) = (Timestamp.now, await volumePaths(of: found))
        return .json(
            .array(found.map { container in ContainerJSON.summary(container, now: now, sizes: sizes.map { $0[container.id] ?? 0 }, volumes: volumes) }))
    }

    private func images(_ references: [String]) async -> Set<ID> {
        var ids: Set<ID> = []
        for reference in references {
            if let image = try? await runtime.image(reference) { ids.insert(image.id) }
        }
        return ids
    }

    private func wait(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let word = request.text("condition") ?? ""
        guard let condition = word.isEmpty ? .notRunning : ContainerWaitCondition(rawValue: word) else {
            throw ApusError(.invalidArgument, "invalid condition: \"\(word)\"")
        }
        let containers = containers
        let waiting = try containers.beginWait(request.parameter("id"), condition)
        // The head goes out at once: `docker run` starts the container only when it knows that somebody waits.
        return .stream("application/json") { writer in
            do {
                let state = try await waiting()
                var json: JSONValue = ["StatusCode": .integer(state.exitCode)]
                if !state.error.isEmpty { json["Error"] = ["Message": .string(state.error)] }
                try await writer.write(json)
            } catch let error as ApusError {
                try await writer.write(["StatusCode": -1, "Error": ["Message": .string(error.message)]])
            }
        }
    }

    private func logs(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        var logs = try LogStreams.request(request)
        let details = try containers.inspect(request.parameter("id"))
        guard details.configuration.log.name != "none" else {
            throw ApusError(.unimplemented, "configured logging driver does not support reading")
        }
        logs.id = details.id
        if request.flag("details") { logs.linePrefix = LogDetails.prefix(details.configuration) }
        let runtime = runtime
        let wanted = logs
        let type = details.configuration.terminal ? "application/vnd.docker.raw-stream" : "application/vnd.docker.multiplexed-stream"
        return .stream(request.version < EngineAPIVersion(1, 42) ? "application/vnd.docker.raw-stream" : type) { writer in
            try await LogStreams.copy(to: writer) { descriptor throws(ApusError) in
                var logs = wanted
                logs.descriptor = descriptor
                try await runtime.logs(logs)
            }
        }
    }
}
