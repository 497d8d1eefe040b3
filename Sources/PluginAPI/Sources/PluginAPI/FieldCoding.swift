/// A value whose fields can be read and written by name and by number.
///
/// One description serves both codecs: the JSON of the Docker Engine API (names) and protobuf (numbers), in both directions.
/// `init()` gives every field its zero value, so that what a codec leaves out comes back the same; defaults with a meaning
/// are applied where the value is used, never here.
public protocol FieldCoded: Sendable, Hashable {
    /// All fields zero or empty.
    init()
    /// Hands every field to the coder, which fills it or reads it.
    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError)
}

/// When a field is written.
@frozen
public enum FieldPresence: Sendable {
    /// Left out when it is zero or empty.
    case omitEmpty
    /// Always in JSON, also when it is zero or empty.
    case always
    /// In the store and between nodes, never in the API's JSON: keys, tokens, bookkeeping.
    case internalOnly
}

/// The codec's side of `FieldCoded`. A number is the protobuf field number, a name is the JSON key.
///
/// Decoders leave the value alone when the field is absent or null, and throw `invalidArgument` with the path of the field when its type is wrong.
public protocol FieldCoder {
    /// True for a decoder; lets a value convert or check while it is read.
    var isDecoding: Bool { get }

    mutating func field(_ number: Int, _ name: String, _ value: inout Bool, _ presence: FieldPresence) throws(ApusError)
    mutating func field(_ number: Int, _ name: String, _ value: inout Int64, _ presence: FieldPresence) throws(ApusError)
    mutating func field(_ number: Int, _ name: String, _ value: inout UInt64, _ presence: FieldPresence) throws(ApusError)
    mutating func field(_ number: Int, _ name: String, _ value: inout Double, _ presence: FieldPresence) throws(ApusError)
    mutating func field(_ number: Int, _ name: String, _ value: inout String, _ presence: FieldPresence) throws(ApusError)
    /// Base 64 in JSON.
    mutating func field(_ number: Int, _ name: String, _ value: inout [UInt8], _ presence: FieldPresence) throws(ApusError)
    mutating func field(_ number: Int, _ name: String, _ value: inout [String], _ presence: FieldPresence) throws(ApusError)
    mutating func field(_ number: Int, _ name: String, _ value: inout [String: String], _ presence: FieldPresence) throws(ApusError)
    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value, _ presence: FieldPresence) throws(ApusError)
    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value?, _ presence: FieldPresence) throws(ApusError)
    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [Value], _ presence: FieldPresence) throws(ApusError)
    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [String: Value], _ presence: FieldPresence) throws(ApusError)

    /// Optional scalars: `nil` is absent, a zero is written.
    mutating func field(_ number: Int, _ name: String, _ value: inout Bool?, _ presence: FieldPresence) throws(ApusError)
    mutating func field(_ number: Int, _ name: String, _ value: inout Int64?, _ presence: FieldPresence) throws(ApusError)
    mutating func field(_ number: Int, _ name: String, _ value: inout UInt64?, _ presence: FieldPresence) throws(ApusError)
    /// An optional list: `nil` is absent, an empty one is written.
    mutating func field(_ number: Int, _ name: String, _ value: inout [String]?, _ presence: FieldPresence) throws(ApusError)
}

extension FieldCoder {
    /// An id is its text.
    public mutating func field(_ number: Int, _ name: String, _ value: inout ID, _ presence: FieldPresence = .omitEmpty) throws(ApusError) {
        try field(number, name, &value.text, presence)
    }

    /// Fits 64 bits with a sign on the wire.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Int, _ presence: FieldPresence = .omitEmpty) throws(ApusError) {
        var wide = Int64(value)
        try field(number, name, &wide, presence)
        value = Int(wide)
    }

    /// Whole nanoseconds.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Duration, _ presence: FieldPresence = .omitEmpty) throws(ApusError) {
        var nanoseconds = value.nanoseconds
        try field(number, name, &nanoseconds, presence)
        value = .nanoseconds(nanoseconds)
    }

    /// Whole nanoseconds.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Duration?, _ presence: FieldPresence = .omitEmpty) throws(ApusError) {
        var nanoseconds = value?.nanoseconds
        try field(number, name, &nanoseconds, presence)
        value = nanoseconds.map { .nanoseconds($0) }
    }

    /// RFC 3339 text.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Timestamp, _ presence: FieldPresence = .omitEmpty) throws(ApusError) {
        var text = value.isNever && presence != .always ? "" : value.description
        try field(number, name, &text, presence)
        guard isDecoding else { return }
        if text.isEmpty {
            value = .never
        } else if let parsed = Timestamp(text) {
            value = parsed
        } else {
            throw ApusError(.invalidArgument, "\(name): \"\(text)\" is not a time such as 2026-01-31T12:00:00Z")
        }
    }

    /// A word of a closed set. An empty word is the enumeration's own case for it, if there is one, or is left alone.
    public mutating func field<Word: RawRepresentable & CaseIterable>(
        _ number: Int, _ name: String, _ value: inout Word, _ presence: FieldPresence = .omitEmpty
    ) throws(ApusError) where Word.RawValue == String {
        var text = value.rawValue
        try field(number, name, &text, presence)
        guard isDecoding, text != value.rawValue else { return }
        if let word = Word(rawValue: text) {
            value = word
        } else if !text.isEmpty {
            let known = Word.allCases.map(\.rawValue).filter { !$0.isEmpty }.joined(separator: ", ")
            throw ApusError(.invalidArgument, "\(name): \"\(text)\" is not one of \(known)")
        }
    }

    /// Written always, as an object with `Index`.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Version) throws(ApusError) {
        try field(number, name, &value, .always)
    }

    /// Left out when empty, as with all types that follow.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Bool) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Left out when it is 0.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Int64) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Left out when it is 0.
    public mutating func field(_ number: Int, _ name: String, _ value: inout UInt64) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Left out when it is 0.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Double) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Left out when it is empty.
    public mutating func field(_ number: Int, _ name: String, _ value: inout String) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Base 64 in JSON; left out when it is empty.
    public mutating func field(_ number: Int, _ name: String, _ value: inout [UInt8]) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Left out when it is empty.
    public mutating func field(_ number: Int, _ name: String, _ value: inout [String]) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Left out when it is empty.
    public mutating func field(_ number: Int, _ name: String, _ value: inout [String: String]) throws(ApusError) {
        try field(number, name, &value, .omitEmpty)
    }
    /// Left out when all of its fields are.
    public mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value) throws(ApusError) {
        try field(number, name, &value, .omitEmpty)
    }
    /// Left out when it is `nil`.
    public mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value?) throws(ApusError) {
        try field(number, name, &value, .omitEmpty)
    }
    /// Left out when it is empty.
    public mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [Value]) throws(ApusError) {
        try field(number, name, &value, .omitEmpty)
    }
    /// Left out when it is empty.
    public mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [String: Value]) throws(ApusError) {
        try field(number, name, &value, .omitEmpty)
    }
    /// Left out when it is `nil`; `false` is written.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Bool?) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Left out when it is `nil`; 0 is written.
    public mutating func field(_ number: Int, _ name: String, _ value: inout Int64?) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Left out when it is `nil`; 0 is written.
    public mutating func field(_ number: Int, _ name: String, _ value: inout UInt64?) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
    /// Left out when it is `nil`; an empty one is written.
    public mutating func field(_ number: Int, _ name: String, _ value: inout [String]?) throws(ApusError) { try field(number, name, &value, .omitEmpty) }
}

extension Version: FieldCoded {
    public init() { self.init(index: 0) }

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Index", &index, .always)
    }
}
