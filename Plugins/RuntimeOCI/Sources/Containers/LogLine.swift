import PluginAPI

/// One entry of a log in conmon's k8s-file format: time, stream, `F` or `P`, text.
///
/// `P` is a part of a line; the line ends with the next `F` of its stream.
struct LogLine {
    var isError: Bool
    var isPartial: Bool
    /// The text, without the line feed.
    var text: ArraySlice<UInt8>
    private let time: ArraySlice<UInt8>

    /// - Parameter line: without the line feed. `nil` when it is not of the format.
    init?(_ line: ArraySlice<UInt8>) {
        let space = UInt8(ascii: " ")
        guard let first = line.firstIndex(of: space), let second = line[(first + 1)...].firstIndex(of: space) else { return nil }
        let stream = line[(first + 1)..<second]
        guard second + 2 <= line.endIndex, stream.elementsEqual("stdout".utf8) || stream.elementsEqual("stderr".utf8) else { return nil }
        let tag = line[second + 1]
        guard tag == UInt8(ascii: "F") || tag == UInt8(ascii: "P"), second + 2 == line.endIndex || line[second + 2] == space else { return nil }
        time = line[..<first]
        isError = stream.last == UInt8(ascii: "r")
        isPartial = tag == UInt8(ascii: "P")
        text = line[min(second + 3, line.endIndex)...]
    }

    var timestamp: Timestamp { Timestamp(String(decoding: time, as: UTF8.self)) ?? .never }

    /// UTC with nine digits, as Docker shows it.
    var timeText: [UInt8] {
        // The usual case: conmon wrote UTC.
        if time.count == 35, time.suffix(6).elementsEqual("+00:00".utf8) { return Array(time.dropLast(6)) + [UInt8(ascii: "Z")] }
        let text = timestamp.description
        guard text.hasSuffix("Z") else { return Array(text.utf8) }
        let parts = text.dropLast().split(separator: ".")
        let fraction = parts.count > 1 ? String(parts[1]) : ""
        return Array("\(parts[0]).\(fraction)\(String(repeating: "0", count: max(0, 9 - fraction.utf8.count)))Z".utf8)
    }
}

/// Turns entries into what the Engine API sends.
struct LogFormatter {
    let request: LogRequest
    let isFramed: Bool
    /// By stream: whether the last entry was a part, so that the next goes on with its line.
    private var isInside = [false, false]

    init(request: LogRequest, isTerminal: Bool) {
        self.request = request
        isFramed = !isTerminal || request.alwaysFramed
    }

    /// Adds an entry, if it is asked for.
    mutating func append(_ line: LogLine, to output: inout [UInt8]) {
        let stream = line.isError ? 1 : 0
        let continues = isInside[stream]
        isInside[stream] = line.isPartial
        guard line.isError ? request.standardError : request.standardOutput else { return }
        if !request.since.isNever || !request.until.isNever {
            let time = line.timestamp
            if !request.since.isNever, time < request.since { return }
            if !request.until.isNever, request.until < time { return }
        }
        let start = output.count
        if isFramed { output += [line.isError ? 2 : 1, 0, 0, 0, 0, 0, 0, 0] }
        if !continues {
            if request.timestamps {
                output += line.timeText
                output.append(UInt8(ascii: " "))
            }
            output += Array(request.linePrefix.utf8)
        }
        output += line.text
        if !line.isPartial { output.append(UInt8(ascii: "\n")) }
        if isFramed {
            let length = UInt32(output.count - start - 8)
            for (index, shift) in [24, 16, 8, 0].enumerated() { output[start + 4 + index] = UInt8(truncatingIfNeeded: length >> shift) }
        }
    }
}
