import PluginAPI

/// Finds the route of a request.
struct Router: Sendable {
    typealias Handler = @Sendable (APIRequest) async throws(ApusError) -> APIResponse

    struct Route: Sendable {
        var method: String
        var pattern: [Segment]
        /// The body goes through a pipe instead of into memory.
        var streamsBody = false
        var handler: Handler
    }

    enum Segment: Sendable, Hashable {
        case word(String)
        case parameter(String)
        /// One or more segments, as the names of images are.
        case path(String)

        static func parse(_ pattern: String) -> [Segment] {
            pattern.split(separator: "/").map { part in
                guard part.hasPrefix("{"), part.hasSuffix("}") else { return .word(String(part)) }
                let name = part.dropFirst().dropLast()
                return name.hasSuffix("...") ? .path(String(name.dropLast(3))) : .parameter(String(name))
            }
        }
    }

    private(set) var routes: [Route] = []

    /// Adds a route: `/images/{name...}/json`.
    mutating func add(_ method: String, _ pattern: String, streamsBody: Bool = false, _ handler: @escaping Handler) {
        routes.append(Route(method: method, pattern: Segment.parse(pattern), streamsBody: streamsBody, handler: handler))
    }

    /// Adds a route of the Engine API that Apus does not have: it answers 501 and says what is missing.
    mutating func missing(_ method: String, _ pattern: String, _ what: String) {
        add(method, pattern) { _ throws(ApusError) in
            throw ApusError(.unimplemented, "\(what) is not in this version of Apus")
        }
    }

    /// The first route that fits, with its parameters; throws `notFound`, or `invalidArgument` when only the method is wrong.
    func find(_ method: String, _ path: [String]) throws(ApusError) -> (route: Route, parameters: [String: String]) {
        let method = method == "HEAD" ? "GET" : method
        var methods: Set<String> = []
        for route in routes {
            guard let parameters = Self.match(route.pattern[...], path[...]) else { continue }
            if route.method == method { return (route, parameters) }
            methods.insert(route.method)
        }
        guard methods.isEmpty else {
            throw ApusError(.invalidArgument, "/\(path.joined(separator: "/")) takes \(methods.sorted().joined(separator: ", ")), not \(method)")
        }
        throw ApusError(.notFound, "page not found")
    }

    static func match(_ pattern: ArraySlice<Segment>, _ path: ArraySlice<String>) -> [String: String]? {
        guard let segment = pattern.first else { return path.isEmpty ? [:] : nil }
        guard let first = path.first else { return nil }
        switch segment {
        case .word(let word):
            return word == first ? match(pattern.dropFirst(), path.dropFirst()) : nil
        case .parameter(let name):
            guard var rest = match(pattern.dropFirst(), path.dropFirst()) else { return nil }
            rest[name] = first
            return rest
        case .path(let name):
            // The longest first: a name may itself end in a word of the pattern.
            for end in stride(from: path.endIndex, to: path.startIndex, by: -1) {
                guard var rest = match(pattern.dropFirst(), path[end...]) else { continue }
                rest[name] = path[..<end].joined(separator: "/")
                return rest
            }
            return nil
        }
    }
}
