import Coding
import PluginAPI

/// The configuration of an image: the document whose digest is the image's id.
package enum ImageDocument {
    /// - Throws: `corrupt` when it is none.
    package static func parse(_ bytes: [UInt8], layers expected: Int? = nil) throws(ApusError) -> Image {
        do throws(ApusError) {
            return try read(JSONValue.parse(bytes), id: ContentDigest(of: bytes), layers: expected)
        } catch {
            throw ApusError(error.code == .invalidArgument ? .corrupt : error.code, "the image's configuration is wrong: \(error.message)")
        }
    }

    private static func read(_ json: JSONValue, id: ContentDigest, layers expected: Int?) throws(ApusError) -> Image {
        guard json.object != nil else { throw ApusError(.corrupt, "it is \(json.kind), not an object") }
        var image = Image()
        image.id = ID(id.description)
        image.os = json["os"]?.string ?? "linux"
        image.architecture = json["architecture"]?.string ?? ""
        image.author = json["author"]?.string ?? ""
        image.comment = json["comment"]?.string ?? ""
        image.createdAt = json["created"]?.string.flatMap { Timestamp($0) } ?? .never
        if let configuration = json["config"], !configuration.isNull {
            image.configuration = try JSONFields.decode(ImageConfiguration.self, from: withoutNulls(configuration), unknownFields: .ignore)
        }
        guard let differences = json["rootfs"]?["diff_ids"] else { throw ApusError(.corrupt, "it has no rootfs.diff_ids") }
        for (index, entry) in (differences.array ?? []).enumerated() {
            guard let digest = entry.string.flatMap({ ContentDigest($0) }) else {
                throw ApusError(.corrupt, "rootfs.diff_ids[\(index)] is no sha256 digest")
            }
            image.layers.append(digest.description)
        }
        if let expected, expected != image.layers.count {
            throw ApusError(.corrupt, "it names \(image.layers.count) layers, the manifest \(expected)")
        }
        for entry in json["history"]?.array ?? [] {
            var step = ImageHistory()
            step.createdAt = entry["created"]?.string.flatMap { Timestamp($0) } ?? .never
            step.createdBy = entry["created_by"]?.string ?? ""
            step.comment = entry["comment"]?.string ?? ""
            step.emptyLayer = entry["empty_layer"]?.bool ?? false
            image.history.append(step)
        }
        return image
    }

    /// Old builders write `null` for what is empty, also inside lists and maps.
    private static func withoutNulls(_ json: JSONValue) -> JSONValue {
        switch json {
        case .object(let object):
            var result = JSONObject()
            for (key, value) in object where !value.isNull { result[key] = withoutNulls(value) }
            return .object(result)
        case .array(let elements): return .array(elements.filter { !$0.isNull }.map(withoutNulls))
        default: return json
        }
    }

    /// Writes the document of an image that is made here.
    static func bytes(_ image: Image) -> [UInt8] {
        let configuration = image.configuration
        var config: JSONValue = JSONFields.encode(configuration)
        for (key, set) in [("ExposedPorts", configuration.exposedPorts), ("Volumes", configuration.volumes)] where !set.isEmpty {
            config[key] = .object(JSONObject(set.mapValues { _ in [:] }))
        }
        var json: JSONValue = [
            "created": .string(image.createdAt.description), "architecture": .string(image.architecture), "os": .string(image.os), "config": config,
            "rootfs": ["type": "layers", "diff_ids": JSONValue(image.layers)],
        ]
        if !image.author.isEmpty { json["author"] = .string(image.author) }
        if !image.comment.isEmpty { json["comment"] = .string(image.comment) }
        json["history"] = .array(
            image.history.map { step in
                var entry: JSONValue = ["created": .string(step.createdAt.description)]
                if !step.createdBy.isEmpty { entry["created_by"] = .string(step.createdBy) }
                if !step.comment.isEmpty { entry["comment"] = .string(step.comment) }
                if step.emptyLayer { entry["empty_layer"] = true }
                return entry
            })
        return json.bytes()
    }
}
