import Coding
public import GRPCCore
public import PluginAPI

/// Writes messages as protobuf, from the one description that their type has of its fields.
public struct FieldCodedSerializer<Message: FieldCoded>: MessageSerializer {
    public init() {}

    /// Never throws: every message can be written.
    public func serialize<Bytes: GRPCContiguousBytes>(_ message: Message) throws -> Bytes {
        Bytes(ProtobufFields.encode(message))
    }
}

/// Reads messages from protobuf. Fields that it does not know are skipped, as protobuf has it.
public struct FieldCodedDeserializer<Message: FieldCoded>: MessageDeserializer {
    public init() {}

    /// - Throws: `RPCError` with `invalidArgument` for bytes that are not this message.
    public func deserialize<Bytes: GRPCContiguousBytes>(_ serialized: Bytes) throws -> Message {
        do throws(ApusError) {
            return try ProtobufFields.decode(Message.self, from: serialized.withUnsafeBytes { Array($0) })
        } catch {
            throw RPCError(code: .invalidArgument, message: error.message)
        }
    }
}
