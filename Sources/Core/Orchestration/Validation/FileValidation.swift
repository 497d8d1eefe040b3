public import PluginAPI

/// Whether a secret or a config may be made or changed as the user wishes.
public enum FileValidation {
    /// A secret is smaller than this, in bytes.
    public static var secretLimit: Int { 512_000 }
    /// A config is smaller than this, in bytes.
    public static var configLimit: Int { 1_024_000 }

    /// - Parameters:
    ///   - kind: `secret` or `config`, for messages.
    ///   - limit: What the data must be smaller than.
    /// - Throws: `invalidArgument`.
    public static func check(name: String, labels: [String: String], size: Int, kind: String, limit: Int) throws(ApusError) {
        guard isName(name) else {
            throw ApusError(
                .invalidArgument,
                "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]: "
                    + "\"\(ServiceValidation.printable(name))\"")
        }
        try ServiceValidation.checkLabels(labels, of: kind)
        guard size > 0, size < limit else {
            throw ApusError(.invalidArgument, "\(kind) data must be larger than 0 and less than \(limit) bytes; it has \(size)")
        }
    }

    private static func isName(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        guard bytes.count <= 64, let first = bytes.first, let last = bytes.last, ServiceValidation.isAlphanumeric(first),
            ServiceValidation.isAlphanumeric(last)
        else { return false }
        return bytes.allSatisfy { ServiceValidation.isAlphanumeric($0) || "-_.".utf8.contains($0) }
    }
}
