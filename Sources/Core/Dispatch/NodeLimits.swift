import Coding
import PluginAPI

/// What a node may say of itself.
enum NodeLimits {
    /// Bytes of an encoded description.
    static var descriptionSize: Int { 64 << 10 }
    /// Statuses in one request.
    static var statuses: Int { 1000 }

    static func isBounded(_ description: NodeDescription) -> Bool { ProtobufFields.encode(description).count <= descriptionSize }
}
