import Coding
import Events
import PluginAPI

/// `/events`: what happens, as it happens.
struct EventRoutes: Sendable {
    let events: EventHub

    private static let filterKeys: Set<String> = [
        "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type", "volume",
    ]

    func add(to router: inout Router) {
        router.add("GET", "/events") { request throws(ApusError) in
            let filters = try Filters(request.text("filters"), known: Self.filterKeys)
            let since = try EventTime.parse(request.text("since"), name: "since")
            let until = try EventTime.parse(request.text("until"), name: "until")
            let events = events
            return .stream("application/json") { writer in
                let (recent, following) = events.subscribe()
                if let since {
                    for event in recent where event.time >= since && until.map({ event.time <= $0 }) ?? true && Self.fits(event, filters) {
                        try await writer.write(Self.json(event))
                    }
                }
                try await Self.follow(following, until: until, filters, writer)
            }
        }
    }

    private static func follow(
        _ following: AsyncStream<EngineEvent>, until: Timestamp?, _ filters: Filters, _ writer: any APIResponseWriter
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for await event in following where fits(event, filters) { try await writer.write(json(event)) }
                try ConcurrentTask.checkCancellation()
            }
            if let until {
                group.addTask {
                    let remaining = until - .now
                    if remaining > .zero { try await ConcurrentTask.sleep(for: remaining) }
                }
            }
            _ = try await group.next()
            group.cancelAll()
        }
    }

    static func fits(_ event: EngineEvent, _ filters: Filters) -> Bool {
        guard filters.exact("type", event.type), filters.exact("scope", event.scope), filters.labels("label", event.attributes) else { return false }
        guard filters.any("event", { event.action == $0 || event.action.hasPrefix("\($0):") }) else { return false }
        for type in ["config", "container", "daemon", "image", "network", "node", "plugin", "secret", "service", "volume"] {
            guard !filters[type].isEmpty else { continue }
            let fits = filters.any(type) { wanted in
                event.type == type && (event.actorID.hasPrefix(wanted) || event.attributes["name"] == wanted || event.attributes["image"] == wanted)
            }
            guard fits else { return false }
        }
        return true
    }

    static func json(_ event: EngineEvent) -> JSONValue {
        var json: JSONValue = [
            "Type": .string(event.type), "Action": .string(event.action),
            "Actor": ["ID": .string(event.actorID), "Attributes": JSONValue(event.attributes)], "scope": .string(event.scope),
            "time": .integer(event.time.seconds), "timeNano": .integer(event.time.nanoseconds),
        ]
        if event.type == "container" || event.type == "image" {
            json["status"] = .string(event.action)
            json["id"] = .string(event.actorID)
            if let image = event.attributes["image"] { json["from"] = .string(image) }
        }
        return json
    }
}

/// The times of `since` and `until`: seconds since 1970 with a fraction, RFC 3339, or a span before now such as `10m`.
enum EventTime {
    static func parse(_ text: String?, name: String) throws(ApusError) -> Timestamp? {
        guard let text, !text.isEmpty else { return nil }
        if text == "0" { return .never }
        if let time = Timestamp(text) { return time }
        let halves = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        if halves.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } }), let seconds = Int64(halves[0]), seconds < 9_000_000_000 {
            let fraction = halves.count == 2 ? Int64((halves[1] + "000000000").prefix(9)) ?? 0 : 0
            return Timestamp(nanoseconds: seconds * 1_000_000_000 + fraction)
        }
        if let span = span(text) { return .now + .nanoseconds(-span.nanoseconds) }
        throw ApusError(.invalidArgument, "\(name)=\(text) is not a time; give seconds since 1970, 2026-01-31T12:00:00Z, or a span such as 10m")
    }

    private static func span(_ text: String) -> Duration? {
        var total = Duration.zero
        var rest = text[...]
        guard !rest.isEmpty else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
            guard let amount = Double(digits), amount < 1e9 else { return nil }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count)
            let seconds: Double
            switch unit {
            case "h": seconds = 3600
            case "m": seconds = 60
            case "s": seconds = 1
            case "ms": seconds = 0.001
            default: return nil
            }
            total += .seconds(amount * seconds)
        }
        return total
    }
}
