import Coding
import PluginAPI

/// Where a document points to other bytes (OCI image specification, "Content Descriptors").
package struct ContentDescriptor: Hashable, Sendable {
    package var mediaType: String
    package var digest: ContentDigest
    /// In bytes.
    package var size: Int64
}

/// What a registry answers for a tag or a digest.
package enum ManifestDocument: Hashable, Sendable {
    /// One image.
    case image(ImageManifest)
    /// The same image for several platforms.
    case list([(ImagePlatform, ContentDescriptor)])

    package static func == (left: ManifestDocument, right: ManifestDocument) -> Bool {
        switch (left, right) {
        case (.image(let left), .image(let right)): left == right
        case (.list(let left), .list(let right)): left.count == right.count && zip(left, right).allSatisfy { $0.0 == $1.0 && $0.1 == $1.1 }
        default: false
        }
    }

    package func hash(into hasher: inout Hasher) {
        switch self {
        case .image(let manifest): hasher.combine(manifest)
        case .list(let entries): for entry in entries { hasher.combine(entry.1) }
        }
    }
}

/// One image: its configuration and its layers, lowest first.
package struct ImageManifest: Hashable, Sendable {
    package var configuration: ContentDescriptor
    package var layers: [ContentDescriptor]
}

/// Reads manifests of the OCI and of Docker's schema 2.
package enum ManifestParser {
    package static let imageTypes = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"]
    package static let listTypes = ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"]
    /// For the `Accept` field.
    package static let acceptedTypes = (imageTypes + listTypes).joined(separator: ", ")

    /// What overlayfs can stack and a mount's options can name.
    static let maximumLayers = 125
    static let maximumConfiguration: Int64 = 8 << 20
    private static let layerTypes: Set<String> = [
        "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    ]
    private static let configurationTypes: Set<String> = [
        "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json", "application/octet-stream",
    ]

    /// - Parameter contentType: what the server said it is, without parameters; empty when it said nothing.
    /// - Throws: `corrupt` for what is no manifest, `unimplemented` for manifests of another age.
    package static func parse(_ bytes: [UInt8], contentType: String) throws(ApusError) -> ManifestDocument {
        let known = imageTypes + listTypes
        guard known.contains(contentType) || ["", "application/json", "text/plain", "application/octet-stream"].contains(contentType) else {
            if contentType.hasPrefix("application/vnd.docker.distribution.manifest.v1") {
                throw ApusError(
                    .unimplemented, "the manifest is of Docker's schema 1, which nobody writes any more; push the image again with a current tool")
            }
            throw ApusError(
                .corrupt, "it is \(contentType.isEmpty ? "nothing known" : "\"\(ImageReference.printable(contentType))\""), not an image manifest")
        }
        let json: JSONValue
        do throws(ApusError) {
            json = try JSONValue.parse(bytes)
        } catch {
            throw ApusError(.corrupt, "the manifest is no JSON: \(error.message)")
        }
        guard json.object != nil else { throw ApusError(.corrupt, "the manifest is \(json.kind), not an object") }
        guard json["schemaVersion"]?.integer == 2 else {
            throw ApusError(
                .corrupt,
                json["schemaVersion"]?.integer == 1
                    ? "the manifest is of schema 1, which is no longer supported" : "the manifest has no schemaVersion 2")
        }
        let written = json["mediaType"]?.string ?? ""
        if known.contains(contentType), known.contains(written), written != contentType {
            throw ApusError(.corrupt, "the manifest says that it is \(written), the registry that it is \(contentType)")
        }
        var type = known.contains(contentType) ? contentType : written
        // OCI documents may leave their type out; what they hold then tells.
        if !known.contains(type) { type = json["manifests"] != nil && json["layers"] == nil ? listTypes[0] : imageTypes[0] }
        return listTypes.contains(type) ? .list(try list(json)) : .image(try image(json))
    }

    private static func image(_ json: JSONValue) throws(ApusError) -> ImageManifest {
        guard let written = json["config"] else { throw ApusError(.corrupt, "the manifest has no config") }
        let configuration = try descriptor(written, "config")
        guard configurationTypes.contains(configuration.mediaType) else {
            throw ApusError(.invalidArgument, "it is no container image: its config is \"\(ImageReference.printable(configuration.mediaType))\"")
        }
        guard configuration.size <= maximumConfiguration else {
            throw ApusError(.tooLarge, "the image's configuration has \(configuration.size) bytes")
        }
        guard let entries = json["layers"]?.array else { throw ApusError(.corrupt, "the manifest has no layers") }
        guard entries.count <= maximumLayers else {
            throw ApusError(.tooLarge, "the image has \(entries.count) layers; \(maximumLayers) are the limit")
        }
        var layers: [ContentDescriptor] = []
        for (index, entry) in entries.enumerated() {
            let layer = try descriptor(entry, "layer \(index + 1)")
            guard layerTypes.contains(layer.mediaType) else {
                throw ApusError(.invalidArgument, "layer \(index + 1) is \"\(ImageReference.printable(layer.mediaType))\", which cannot be unpacked")
            }
            layers.append(layer)
        }
        return ImageManifest(configuration: configuration, layers: layers)
    }

    private static func list(_ json: JSONValue) throws(ApusError) -> [(ImagePlatform, ContentDescriptor)] {
        guard let entries = json["manifests"]?.array else { throw ApusError(.corrupt, "the manifest list has no manifests") }
        guard entries.count <= 1000 else { throw ApusError(.tooLarge, "the manifest list has \(entries.count) entries") }
        var result: [(ImagePlatform, ContentDescriptor)] = []
        for (index, entry) in entries.enumerated() {
            let target = try descriptor(entry, "manifest \(index + 1)")
            // Signatures and attestations stand in lists too, and lists in lists.
            guard imageTypes.contains(target.mediaType) else { continue }
            let platform = entry["platform"]
            result.append(
                (
                    ImagePlatform(
                        os: platform?["os"]?.string ?? "", architecture: platform?["architecture"]?.string ?? "",
                        variant: platform?["variant"]?.string ?? ""),
                    target
                ))
        }
        return result
    }

    private static func descriptor(_ json: JSONValue, _ what: String) throws(ApusError) -> ContentDescriptor {
        guard let text = json["digest"]?.string, let digest = ContentDigest(text) else {
            throw ApusError(.corrupt, "the manifest's \(what) has no sha256 digest")
        }
        guard let size = json["size"]?.integer, size >= 0 else { throw ApusError(.corrupt, "the manifest's \(what) has no size") }
        return ContentDescriptor(mediaType: json["mediaType"]?.string ?? "", digest: digest, size: size)
    }

    /// The entry that runs best on a platform.
    package static func choose(_ entries: [(ImagePlatform, ContentDescriptor)], for platform: ImagePlatform) throws(ApusError) -> ContentDescriptor {
        var best: (distance: Int, descriptor: ContentDescriptor)?
        for (candidate, descriptor) in entries {
            // A list of one that says nothing is meant for everybody.
            let silent = candidate.os.isEmpty && candidate.architecture.isEmpty && entries.count == 1
            guard let distance = silent ? 1000 : platform.distance(to: candidate) else { continue }
            if let chosen = best, chosen.distance <= distance { continue }
            best = (distance, descriptor)
        }
        if let best { return best.descriptor }
        let offered = entries.map(\.0).filter { $0.os != "unknown" && !$0.os.isEmpty }.map { ImageReference.printable($0.description) }
        throw ApusError(
            .notFound, "there is no image for \(platform)" + (offered.isEmpty ? "" : "; there is one for \(offered.joined(separator: ", "))"))
    }
}
