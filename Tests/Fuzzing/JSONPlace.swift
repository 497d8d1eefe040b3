import Coding

/// A step from a JSON value to one of those within it.
public enum JSONStep: Hashable, Sendable {
    case key(String)
    case index(Int)
}

extension JSONValue {
    /// The way to every value within this one, itself first.
    public var places: [[JSONStep]] {
        switch self {
        case .array(let items): [[]] + items.enumerated().flatMap { index, item in item.places.map { [.index(index)] + $0 } }
        case .object(let object): [[]] + object.flatMap { key, member in member.places.map { [.key(key)] + $0 } }
        default: [[]]
        }
    }

    /// The value at a place; null when there is none.
    public func value(at place: some Collection<JSONStep>) -> JSONValue {
        place.reduce(self) { value, step in
            switch step {
            case .key(let key): value[key] ?? .null
            case .index(let index): value[index] ?? .null
            }
        }
    }

    /// The same with another value at a place.
    public func replacing(_ place: some Collection<JSONStep>, by other: JSONValue) -> JSONValue {
        guard let step = place.first else { return other }
        switch (self, step) {
        case (.object(var object), .key(let key)):
            object[key] = object[key]?.replacing(place.dropFirst(), by: other)
            return .object(object)
        case (.array(var items), .index(let index)) where items.indices.contains(index):
            items[index] = items[index].replacing(place.dropFirst(), by: other)
            return .array(items)
        default: return self
        }
    }
}

extension Fuzzing {
    /// A value of another kind than this one; never null, which often stands for nothing.
    public static func otherKind(than value: JSONValue, using generator: inout SplitMix64) -> JSONValue {
        let all: [JSONValue] = ["text", 7, 0.5, true, ["a"], [7], ["a": "b"], ["a": [:]]]
        return all.filter { $0.kind != value.kind }.randomElement(using: &generator) ?? .null
    }

    /// The same JSON with one to three of its values replaced by others, of the same kind or of another.
    public static func mutate(_ json: JSONValue, using generator: inout SplitMix64) -> JSONValue {
        var json = json
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
            let places = json.places
            guard let place = places.randomElement(using: &generator), let other = places.randomElement(using: &generator) else { return json }
            switch json.value(at: place) {
            case .string(let text) where Bool.random(using: &generator): json = json.replacing(place, by: .string(mutate(text, using: &generator)))
            case .integer where Bool.random(using: &generator):
                let numbers: [JSONValue] = [0, -1, 65536, .integer(.max), .integer(.min), JSONValue(UInt64.max)]
                json = json.replacing(place, by: numbers.randomElement(using: &generator) ?? 0)
            case let value:
                json = json.replacing(place, by: Bool.random(using: &generator) ? otherKind(than: value, using: &generator) : json.value(at: other))
            }
        }
        return json
    }
}
