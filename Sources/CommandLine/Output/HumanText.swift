import PluginAPI

/// Values as people say them.
enum HumanText {
    /// A length of time in its largest unit: `3 minutes`.
    static func duration(_ duration: Duration) -> String {
        let seconds = duration.components.seconds
        func of(_ count: Int64, _ unit: String) -> String { "\(count) \(unit)" }
        switch seconds {
        case ..<1: return "Less than a second"
        case 1: return "1 second"
        case ..<60: return of(seconds, "seconds")
        case ..<120: return "About a minute"
        case ..<3600: return of(seconds / 60, "minutes")
        case ..<7200: return "About an hour"
        case ..<(48 * 3600): return of(seconds / 3600, "hours")
        case ..<(14 * 86400): return of(seconds / 86400, "days")
        case ..<(60 * 86400): return of(seconds / (7 * 86400), "weeks")
        case ..<(730 * 86400): return of(seconds / (30 * 86400), "months")
        default: return of(seconds / (365 * 86400), "years")
        }
    }

    /// `3 minutes ago`, or empty for never.
    static func ago(_ time: Timestamp, now: Timestamp) -> String { time.isNever ? "" : duration(now - time) + " ago" }

    /// `pending` as `Pending`.
    static func capitalized(_ word: String) -> String { word.prefix(1).uppercased() + word.dropFirst() }
}
