import Agent
import Coding
import Events
import PluginAPI

/// `/volumes`: named volumes of this node.
struct VolumeRoutes: Sendable {
    let runtime: any Runtime
    let events: EventHub

    func add(to router: inout Router) {
        router.add("GET", "/volumes") { request throws(ApusError) in
            let filters = try Filters(request.text("filters"), known: ["dangling", "driver", "label", "name"])
            if !filters["dangling"].isEmpty { throw ApusError(.unimplemented, "the volume filter \"dangling\" is not in this version of Apus") }
            let volumes = try await runtime.volumes().filter {
                filters.name("name", $0.name) && filters.exact("driver", $0.driver) && filters.labels("label", $0.labels)
            }
            return .json(["Volumes": .array(volumes.sorted { $0.name < $1.name }.map { JSONFields.encode($0) }), "Warnings": []])
        }
        router.add("POST", "/volumes/create") { request throws(ApusError) in
            var reader = try JSONReader(request.json(), path: "")
            var volume = Volume()
            volume.name = try reader.string("Name")
            volume.driver = try reader.string("Driver")
            volume.labels = try reader.map("Labels")
            volume.options = try reader.map("DriverOpts")
            try reader.unsupported("ClusterVolumeSpec")
            try reader.finish()
            if volume.driver.isEmpty { volume.driver = "local" }
            guard volume.driver == "local" else { throw ApusError(.notFound, "volume driver \"\(volume.driver)\" not found; \"local\" is there") }
            guard volume.options.isEmpty else { throw ApusError(.unimplemented, "options of the local volume driver are not in this version of Apus") }
            if volume.name.isEmpty {
                volume.name = ID.randomContainer().text
                volume.isAnonymous = true
            }
            let created = try await runtime.createVolume(volume)
            publish("create", created.name)
            return .object(created, status: 201)
        }
        router.missing("POST", "/volumes/prune", "pruning volumes")
        router.add("GET", "/volumes/{name}") { request throws(ApusError) in
            let name = request.parameter("name")
            guard let volume = try await runtime.volumes().first(where: { $0.name == name }) else {
                throw ApusError(.notFound, "get \(name): no such volume")
            }
            return .object(volume)
        }
        router.missing("PUT", "/volumes/{name}", "cluster volumes")
        router.add("DELETE", "/volumes/{name}") { request throws(ApusError) in
            do throws(ApusError) {
                try await runtime.removeVolume(name: request.parameter("name"))
            } catch {
                if error.code == .notFound, request.flag("force") { return .empty(204) }
                throw error
            }
            publish("destroy", request.parameter("name"))
            return .empty(204)
        }
    }

    private func publish(_ action: String, _ name: String) {
        events.publish(EngineEvent(type: "volume", action: action, actorID: name, attributes: ["driver": "local"], time: .now))
    }
}
