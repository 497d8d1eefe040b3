import Coding
import PluginAPI

/// What the store knows, as it stands in `references.json`.
package struct StoreIndex: Sendable, Hashable {
    package struct Layer: Sendable, Hashable {
        /// The number of its folder.
        var number: Int
        /// Bytes of its files.
        var size: Int64
    }

    package struct Record: Sendable, Hashable {
        /// Diff ids, lowest first.
        var layers: [String]
        /// Removed by force while containers used it: no longer shown, and gone with the last of them.
        var isHidden = false
    }

    /// Canonical references, with tag or digest, to image ids.
    var references: [String: String] = [:]
    /// By id.
    var images: [String: Record] = [:]
    /// By diff id.
    var layers: [String: Layer] = [:]
    /// Digests of manifests to image ids; a list's stands for what was chosen from it.
    var manifests: [String: String] = [:]

    static let version: Int64 = 1

    package init() {}

    func bytes() -> [UInt8] {
        let images = self.images.mapValues { record -> JSONValue in
            var json: JSONValue = ["layers": JSONValue(record.layers)]
            if record.isHidden { json["hidden"] = true }
            return json
        }
        // Layers that no image has yet are not worth remembering over a restart.
        let used = Set(self.images.values.flatMap(\.layers))
        let layers = self.layers.filter { used.contains($0.key) }.mapValues { layer -> JSONValue in
            ["number": .integer(Int64(layer.number)), "size": .integer(layer.size)]
        }
        let json: JSONValue = [
            "version": .integer(Self.version), "references": JSONValue(references), "manifests": JSONValue(manifests),
            "images": .object(JSONObject(images)),
            "layers": .object(JSONObject(layers)),
        ]
        return json.bytes()
    }

    /// - Throws: `corrupt`.
    package init(_ bytes: [UInt8]) throws(ApusError) {
        let json: JSONValue
        do throws(ApusError) {
            json = try JSONValue.parse(bytes)
        } catch {
            throw ApusError(.corrupt, error.message)
        }
        guard json["version"]?.integer == Self.version else { throw ApusError(.corrupt, "it is of another version than \(Self.version)") }
        func strings(_ name: String) throws(ApusError) -> [String: String] {
            var result: [String: String] = [:]
            for (key, value) in json[name]?.object ?? [:] {
                guard let text = value.string else { throw ApusError(.corrupt, "\(name).\(key) is no string") }
                result[key] = text
            }
            return result
        }
        references = try strings("references")
        manifests = try strings("manifests")
        for (id, value) in json["images"]?.object ?? [:] {
            images[id] = Record(layers: value["layers"]?.array?.compactMap(\.string) ?? [], isHidden: value["hidden"]?.bool ?? false)
        }
        for (difference, value) in json["layers"]?.object ?? [:] {
            guard let number = value["number"]?.integer, number > 0, let size = value["size"]?.integer else {
                throw ApusError(.corrupt, "layers.\(difference) is incomplete")
            }
            layers[difference] = Layer(number: Int(number), size: size)
        }
    }

    // MARK: Changes

    func references(of id: String) -> [ImageReference] {
        references.filter { $0.value == id }.keys.sorted().compactMap { try? ImageReference($0) }
    }

    func isReferenced(_ id: String) -> Bool { references.values.contains(id) }

    /// Takes an image out, with all that names it. Its layers stay until they are collected.
    mutating func removeImage(_ id: String) {
        images[id] = nil
        references = references.filter { $0.value != id }
        manifests = manifests.filter { $0.value != id }
    }

    /// Takes out layers that no image has, and returns them.
    mutating func removeUnusedLayers(except kept: Set<String>) -> [String: Layer] {
        let used = Set(images.values.flatMap(\.layers)).union(kept)
        let unused = layers.filter { !used.contains($0.key) }
        for difference in unused.keys { layers[difference] = nil }
        return unused
    }
}
