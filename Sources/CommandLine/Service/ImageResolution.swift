import Coding
import PluginAPI

extension CommandContext {
    /// Asks the engine what the image's tag stands for now, so that every node runs the same, and where it can run.
    ///
    /// When no registry can tell, the spec stays as it is.
    /// - Returns: a warning that says what that means.
    func resolveImage(of spec: inout ServiceSpec) async -> String? {
        // What another runtime takes for an image is its own affair, and no registry's.
        guard spec.task.hasUsualRuntime else { return nil }
        guard let image = spec.task.container?.image, !image.isEmpty, !image.contains("@") else { return nil }
        do throws(ApusError) {
            let headers = try RegistryCredentials.load(environment).headers(image: image)
            let answer = try await client.get("/distribution/\(image)/json", headers: headers)
            guard let digest = answer["Descriptor"]?["digest"]?.string, digest.hasPrefix("sha256:") else { return nil }
            spec.task.container?.image = "\(Self.withTag(image))@\(digest)"
            let platforms = (answer["Platforms"]?.array ?? []).map { json in
                var platform = Platform()
                platform.os = json["os"]?.string ?? ""
                platform.architecture = json["architecture"]?.string ?? ""
                return platform
            }
            guard !platforms.isEmpty else { return nil }
            if spec.task.placement == nil { spec.task.placement = Placement() }
            spec.task.placement?.platforms = platforms
            return nil
        } catch {
            return
                "no registry tells which \(image) is meant (\(error.message)); each node asks by itself, and nodes may come to run different ones"
        }
    }

    /// `nginx` is `nginx:latest`.
    private static func withTag(_ image: String) -> String {
        let name = image.split(separator: "/").last ?? ""
        return name.contains(":") ? image : "\(image):latest"
    }
}

extension TaskSpec {
    /// Whether its image is one of a registry.
    var hasUsualRuntime: Bool { ["", "container"].contains(runtime) }
}
