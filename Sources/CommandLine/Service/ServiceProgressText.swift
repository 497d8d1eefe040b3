import PluginAPI

/// What a person reads of a `ServiceProgress`.
enum ServiceProgressText {
    /// With more tasks than that only their number is shown.
    static let slotLimit = 20

    private static let steps: [TaskState] = [.new, .pending, .assigned, .accepted, .preparing, .ready, .starting, .running]

    /// `3 of 5 tasks`.
    static func overall(_ progress: ServiceProgress) -> String {
        let what = progress.isJob ? "job progress" : progress.activity.isEmpty ? "overall progress" : progress.activity
        return "\(what): \(progress.done) out of \(progress.total) tasks"
    }

    /// Lines for a terminal of that width.
    static func lines(_ progress: ServiceProgress, columns: Int) -> [String] {
        var lines = [overall(progress)]
        if progress.total <= slotLimit {
            for (index, slot) in progress.slots.enumerated() {
                lines.append(slotLine(slot, index, of: progress.total, columns: columns))
            }
        } else if let error = progress.slots.first(where: { !$0.error.isEmpty })?.error {
            lines.append(error)
        }
        return lines.map { $0.printable.shortened(to: max(20, columns - 1)) }
    }

    private static func slotLine(_ slot: ServiceProgress.Slot, _ index: Int, of total: Int, columns: Int) -> String {
        let label = "\(index + 1)/\(total):".padded(to: String(total).count * 2 + 3)
        let state = (slot.state?.rawValue ?? "").padded(to: 10)
        if !slot.error.isEmpty { return "\(label)\(state)\(slot.error)" }
        let width = max(8, min(50, columns - label.count - state.count - 4))
        return "\(label)\(state)\(bar(fraction(slot), width: width))"
    }

    /// 0 to 1.
    static func fraction(_ slot: ServiceProgress.Slot) -> Double {
        guard let state = slot.state else { return 0 }
        if slot.isDone { return 1 }
        guard let index = steps.firstIndex(of: state) else { return 0 }
        return Double(index) / Double(steps.count)
    }

    /// `[=====>    ]`.
    static func bar(_ fraction: Double, width: Int) -> String {
        let filled = max(0, min(width, Int(fraction * Double(width))))
        let head = filled == width || filled == 0 ? "" : ">"
        let body = String(repeating: "=", count: filled - (filled == width || filled == 0 ? 0 : 1))
        return "[" + (body + head).padded(to: width) + "]"
    }

    /// What changed since then, as lines for a file or a pipe.
    static func changes(from old: ServiceProgress?, to new: ServiceProgress) -> [String] {
        var lines: [String] = []
        if new.total <= slotLimit {
            for (index, slot) in new.slots.enumerated() {
                let before = old.flatMap { $0.slots.indices.contains(index) && $0.total == new.total ? $0.slots[index] : nil }
                guard slot != before, slot.state != nil || !slot.error.isEmpty else { continue }
                let words = [slot.state?.rawValue ?? "", slot.error].filter { !$0.isEmpty }
                lines.append("\(index + 1)/\(new.total): \(words.joined(separator: " "))")
            }
        }
        if old.map(overall) != overall(new) { lines.append(overall(new)) }
        return lines.map(\.printable)
    }
}

/// Lines at the end of a terminal that are written again and again.
struct LiveLines {
    private var shown: [String] = []

    /// The characters that replace the lines of the last call; none when nothing changed.
    mutating func replacing(with lines: [String]) -> String {
        guard lines != shown else { return "" }
        var output = shown.isEmpty ? "" : "\u{1b}[\(shown.count)A"
        for line in lines { output += "\r\u{1b}[2K\(line)\n" }
        if lines.count < shown.count { output += "\u{1b}[J" }
        shown = lines
        return output
    }
}
