import Coding
import Events
import PluginAPI
import PluginHost
import Store

/// `/plugins` as the docker CLI knows them, and `/apus/plugins` with everything that Apus knows.
struct PluginRoutes: Sendable {
    let plugins: PluginController

    func add(to router: inout Router) {
        router.add("GET", "/plugins") { request throws(ApusError) in
            let filters = try Filters(request.text("filters"), known: ["capability", "enabled"])
            return .json(
                .array(
                    await plugins.list().filter { plugin in
                        filters.any("enabled") { ($0 == "true") == plugin.isEnabled }
                            && filters.any("capability") { $0 == plugin.identity?.role.rawValue }
                    }.map(Self.docker)))
        }
        router.add("GET", "/plugins/privileges") { _ throws(ApusError) in
            throw ApusError(.unimplemented, "plugins come as files here, not from a registry; use \"apus plugin install FILE\"")
        }
        router.add("POST", "/plugins/pull") { _ throws(ApusError) in
            throw ApusError(.unimplemented, "plugins come as files here, not from a registry; use \"apus plugin install FILE\"")
        }
        router.missing("POST", "/plugins/create", "making a plugin from a root file system")
        router.add("GET", "/plugins/{name...}/json") { request throws(ApusError) in
            .json(Self.docker(try await plugins.inspect(request.parameter("name"))))
        }
        router.add("POST", "/plugins/{name...}/enable") { request throws(ApusError) in
            try await plugins.enable(request)
        }
        router.add("POST", "/plugins/{name...}/disable") { request throws(ApusError) in
            try await plugins.disable(request)
        }
        router.missing("POST", "/plugins/{name...}/set", "changing a plugin's settings while it runs (give --plugin-opt to apusd)")
        router.missing("POST", "/plugins/{name...}/push", "pushing a plugin")
        router.missing("POST", "/plugins/{name...}/upgrade", "upgrading a plugin in place (install the new file)")
        router.add("DELETE", "/plugins/{name...}") { request throws(ApusError) in
            .json(Self.docker(try await plugins.remove(request)))
        }
        router.add("GET", "/apus/plugins") { _ throws(ApusError) in .json(.array(await plugins.list().map(Self.full))) }
        router.add("GET", "/apus/plugins/{name...}/json") { request throws(ApusError) in
            .json(Self.full(try await plugins.inspect(request.parameter("name"))))
        }
        router.add("POST", "/apus/plugins/install") { request throws(ApusError) in
            let body = try request.json()
            for key in body.object?.keys ?? [] where key != "Path" { throw ApusError(.invalidArgument, "unknown field \(key)") }
            guard let path = body["Path"]?.string, path.hasPrefix("/") else {
                throw ApusError(.invalidArgument, "Path must be the absolute path of a plugin file on the engine's machine")
            }
            return .json(Self.full(try await plugins.install(from: path)), status: 201)
        }
    }

    /// Everything that Apus knows.
    private static func full(_ plugin: PluginInfo) -> JSONValue {
        [
            "Role": .string(plugin.identity?.role.rawValue ?? ""), "Name": .string(plugin.identity?.name ?? plugin.name),
            "Version": .string(plugin.manifest?.version ?? ""), "State": .string(plugin.state.rawValue), "Reason": .string(plugin.reason),
            "Path": .string(plugin.path), "SHA256": .string(plugin.sha256), "Default": .bool(plugin.isDefault), "Enabled": .bool(plugin.isEnabled),
            "Loaded": .bool(plugin.isLoaded), "APIVersion": .string(plugin.apiVersion), "Compiler": .string(plugin.manifest?.compiler ?? ""),
        ]
    }

    /// The Engine API's form, for the docker CLI.
    private static func docker(_ plugin: PluginInfo) -> JSONValue {
        let empty: JSONValue = []
        let role = plugin.identity?.role.rawValue ?? ""
        var description = role.isEmpty ? "not a plugin of Apus" : "Apus \(role) plugin"
        if !plugin.reason.isEmpty { description += " (\(plugin.state.rawValue): \(plugin.reason))" }
        return [
            "Id": .string(plugin.sha256), "Name": .string("\(plugin.name):latest"), "Enabled": .bool(plugin.isEnabled),
            "PluginReference": .string("\(plugin.name):latest"),
            "Settings": ["Mounts": empty, "Env": empty, "Args": empty, "Devices": empty],
            "Config": [
                "Description": .string(description), "Documentation": "", "DockerVersion": "",
                "Interface": [
                    // Go's client reads each as `prefix.capability/version`, and refuses the whole list for one that is not of that form.
                    "Types": plugin.interfaceType.map { [.string($0)] } ?? empty, "Socket": "",
                    "ProtocolScheme": "",
                ],
                "Entrypoint": [.string(plugin.path)], "WorkDir": "", "User": [:], "Network": ["Type": ""],
                "Linux": ["Capabilities": empty, "AllowAllDevices": false, "Devices": empty], "PropagatedMount": "", "IpcHost": false,
                "PidHost": false, "Mounts": empty, "Env": empty, "Args": ["Name": "", "Description": "", "Settable": empty, "Value": empty],
            ],
        ]
    }
}

extension PluginInfo {
    /// `apus.scheduler/0.1`; `nil` when the record does not tell.
    fileprivate var interfaceType: String? {
        guard let identity, !apiVersion.isEmpty else { return nil }
        return "apus.\(identity.role.rawValue)/\(apiVersion)"
    }

    /// `0.1`, or empty when the record does not tell.
    var apiVersion: String { manifest.map { "\($0.apiMajor).\($0.apiMinor)" } ?? "" }
}
