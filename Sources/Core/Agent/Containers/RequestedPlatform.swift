import Orchestration
public import PluginAPI

/// A platform that a user asks for, such as `linux/arm64/v8`.
public struct RequestedPlatform: Sendable, Hashable, CustomStringConvertible {
    /// `linux`.
    public let os: String
    /// In Go's words (`amd64`); empty: any.
    public let architecture: String

    /// Reads `linux`, `arm64`, `linux/arm64` and `linux/arm64/v8`. What images are stored under does not tell variants apart, so they do not count.
    ///
    /// - Throws: `invalidArgument` for what is no platform, and for other systems than Linux.
    public init(_ text: String) throws(ApusError) {
        let parts = text.lowercased().split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        let isWord = { (part: String) in part.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || "._-".utf8.contains($0) } }
        guard (1...3).contains(parts.count), parts.allSatisfy({ !$0.isEmpty && isWord($0) }) else {
            throw ApusError(.invalidArgument, "\"\(ServiceValidation.printable(text))\" is not a platform such as linux/amd64")
        }
        let isArchitecture = parts.count == 1 && Self.architectures.contains(Self.normalized(parts[0]))
        os = isArchitecture ? "linux" : parts[0]
        architecture = Self.normalized(isArchitecture ? parts[0] : parts.count > 1 ? parts[1] : "")
        guard os == "linux" else {
            throw ApusError(.invalidArgument, "platform \(ServiceValidation.printable(text)) does not run here; this is Linux")
        }
    }

    private static let architectures: Set<String> = [
        "386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x",
    ]

    private static func normalized(_ architecture: String) -> String {
        switch architecture {
        case "x86_64", "x86-64": "amd64"
        case "aarch64": "arm64"
        case "i386", "i686": "386"
        case "armhf", "armel": "arm"
        default: architecture
        }
    }

    public var description: String { architecture.isEmpty ? os : "\(os)/\(architecture)" }

    /// - Throws: `notFound`, as for an image that is not here: the caller pulls the right one.
    func check(_ image: Image, _ reference: String) throws(ApusError) {
        // An image that says nothing is for whatever it runs on.
        let isOther = !image.os.isEmpty && image.os != os || !architecture.isEmpty && !image.architecture.isEmpty && image.architecture != architecture
        guard isOther else { return }
        throw ApusError(
            .notFound,
            "image with reference \(reference) was found but does not match the specified platform: wanted \(self), actual: \(image.os)/\(image.architecture)"
        )
    }
}
