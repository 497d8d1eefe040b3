import Fuzzing
import PluginAPI

/// A decoder that fills every field with something, and notes whether names and numbers are used once.
struct RandomFields: FieldCoder {
    var generator: SplitMix64
    var depth = 0
    var names: Set<String> = []
    var numbers: Set<Int> = []
    var repeated: [String] = []
    var isDecoding: Bool { true }

    static func make<Value: FieldCoded>(_ type: Value.Type, seed: UInt64) -> (value: Value, repeated: [String]) {
        var coder = RandomFields(generator: SplitMix64(seed: seed))
        let value = coder.nested(type)
        return (value, coder.repeated)
    }

    private mutating func nested<Value: FieldCoded>(_ type: Value.Type) -> Value {
        var inner = RandomFields(generator: SplitMix64(seed: generator.next()), depth: depth + 1)
        var value = Value()
        try? value.code(with: &inner)
        repeated += inner.repeated
        return value
    }

    private mutating func note(_ number: Int, _ name: String) {
        if !names.insert(name).inserted || !numbers.insert(number).inserted { repeated.append("\(number) \(name)") }
    }

    private mutating func chance(_ oneIn: UInt64) -> Bool { generator.next() % oneIn == 0 }

    private mutating func text() -> String {
        let choices = ["a", "Zürich", "\"quoted\"\n\\", "", "🕊", "x=y", "\u{1}\u{7f}"]
        return choices[Int(generator.next() % UInt64(choices.count))]
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout Bool, _ presence: FieldPresence) {
        note(number, name)
        value = chance(2)
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout Int64, _ presence: FieldPresence) {
        note(number, name)
        value = [0, 1, -1, .max, .min, 300][Int(generator.next() % 6)]
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout UInt64, _ presence: FieldPresence) {
        note(number, name)
        value = [0, 1, 127, 128, UInt64(Int64.max)][Int(generator.next() % 5)]
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout Double, _ presence: FieldPresence) {
        note(number, name)
        value = [0, 0.5, -2, 1e300][Int(generator.next() % 4)]
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout String, _ presence: FieldPresence) throws(ApusError) {
        note(number, name)
        // Words of closed sets and times come through here; they keep what they have.
        if value.isEmpty, !name.hasSuffix("At"), !Self.closed.contains(name) { value = text() }
    }
    private static let closed: Set<String> = [
        "Mode", "State", "Condition", "FailureAction", "Order", "Type", "Protocol", "Timestamp", "Created", "LastExecution",
    ]
    mutating func field(_ number: Int, _ name: String, _ value: inout [UInt8], _ presence: FieldPresence) {
        note(number, name)
        value = (0..<generator.next() % 5).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout [String], _ presence: FieldPresence) {
        note(number, name)
        value = (0..<generator.next() % 4).map { _ in text() }
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout [String: String], _ presence: FieldPresence) {
        note(number, name)
        for _ in 0..<generator.next() % 4 { value[text()] = text() }
    }
    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value, _ presence: FieldPresence) {
        note(number, name)
        value = nested(Value.self)
    }
    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value?, _ presence: FieldPresence) {
        note(number, name)
        value = chance(4) ? nil : nested(Value.self)
    }
    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [Value], _ presence: FieldPresence) {
        note(number, name)
        value = (0..<generator.next() % 3).map { _ in nested(Value.self) }
    }
    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [String: Value], _ presence: FieldPresence) {
        note(number, name)
        for _ in 0..<generator.next() % 3 { value[text()] = nested(Value.self) }
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout Bool?, _ presence: FieldPresence) {
        note(number, name)
        value = chance(3) ? nil : chance(2)
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout Int64?, _ presence: FieldPresence) {
        note(number, name)
        value = chance(3) ? nil : Int64(bitPattern: generator.next() % 2)
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout UInt64?, _ presence: FieldPresence) {
        note(number, name)
        value = chance(3) ? nil : generator.next() % 2
    }
    mutating func field(_ number: Int, _ name: String, _ value: inout [String]?, _ presence: FieldPresence) {
        note(number, name)
        value = chance(3) ? nil : (0..<generator.next() % 3).map { _ in text() }
    }
}
