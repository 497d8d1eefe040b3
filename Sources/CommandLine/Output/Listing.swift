import Coding
import PluginAPI

/// Rows of one kind, to be shown as a table, as JSON or with a template.
struct Listing {
    /// A field of the rows.
    struct Column {
        /// As `--format` names it.
        var field: String
        var header: String
        /// Whether the plain table has it.
        var isShown = true

        init(_ field: String, _ header: String, isShown: Bool = true) {
            self.field = field
            self.header = header
            self.isShown = isShown
        }
    }

    var columns: [Column]
    /// One cell per column.
    var rows: [[String]]

    /// - Parameter format: `nil`, `table`, `table TEMPLATE`, `json` or a template.
    func lines(format: String?) throws(ApusError) -> [String] {
        switch format ?? "table" {
        case "table", "":
            let shown = columns.indices.filter { columns[$0].isShown }
            return Table.lines([shown.map { columns[$0].header }] + rows.map { row in shown.map { row[$0] } })
        case "json": return rows.map { JSONValue.object(object($0)).text() }
        case let text where text.hasPrefix("table "):
            let template = try Template(FormatText.unescaped(String(text.dropFirst(6)).trimmed))
            var cells = [try template.render(.object(object(columns.map(\.header)))).components(separatedBy: "\t")]
            for row in rows { cells.append(try template.render(.object(object(row))).components(separatedBy: "\t")) }
            return Table.lines(cells)
        case let text:
            let template = try Template(FormatText.unescaped(text))
            var lines: [String] = []
            for row in rows { lines.append(try template.render(.object(object(row)))) }
            return lines
        }
    }

    /// The cells of one field.
    func values(of field: String) -> [String] {
        guard let index = columns.firstIndex(where: { $0.field == field }) else { return [] }
        return rows.map { $0[index] }
    }

    private func object(_ cells: [String]) -> JSONObject {
        var object = JSONObject()
        for (column, cell) in zip(columns, cells) { object[column.field] = .string(cell) }
        return object
    }
}

extension String {
    fileprivate func components(separatedBy separator: Character) -> [String] {
        split(separator: separator, omittingEmptySubsequences: false).map { String($0) }
    }
}
