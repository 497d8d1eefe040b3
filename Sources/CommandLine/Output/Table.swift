/// Text in aligned columns.
enum Table {
    /// Columns are as wide as their widest cell, with three spaces between; the last one is not padded.
    static func lines(_ rows: [[String]]) -> [String] {
        let rows = rows.map { $0.map(\.printable) }
        var widths: [Int] = []
        for row in rows {
            for (index, cell) in row.enumerated() {
                if index == widths.count { widths.append(0) }
                widths[index] = max(widths[index], cell.count)
            }
        }
        return rows.map { row in
            var line = ""
            for (index, cell) in row.enumerated() {
                line += index == row.count - 1 ? cell : cell.padded(to: widths[index] + 3)
            }
            while line.last == " " { line.removeLast() }
            return line
        }
    }
}
