import Glibc
import PluginAPI

/// What a machine runs: `linux/amd64`, `linux/arm/v7`.
package struct ImagePlatform: Hashable, Sendable, CustomStringConvertible {
    package var os: String
    package var architecture: String
    package var variant: String

    package init(os: String, architecture: String, variant: String = "") {
        self.os = os
        self.architecture = architecture
        self.variant = variant
    }

    /// - Throws: `invalidArgument` for anything but `os/architecture` and `os/architecture/variant`.
    package init(_ text: String) throws(ApusError) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard (2...3).contains(parts.count), !parts.contains("") else {
            throw ApusError(.invalidArgument, "\"\(ImageReference.printable(text))\" is not a platform such as linux/amd64 or linux/arm/v7")
        }
        self.init(os: parts[0], architecture: parts[1], variant: parts.count == 3 ? parts[2] : "")
    }

    package var description: String { "\(os)/\(architecture)" + (variant.isEmpty ? "" : "/\(variant)") }

    /// This machine's.
    package static let current: ImagePlatform = {
        var name = utsname()
        uname(&name)
        let machine = withUnsafeBytes(of: &name.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        switch machine {
        case "x86_64": return ImagePlatform(os: "linux", architecture: "amd64")
        case "aarch64": return ImagePlatform(os: "linux", architecture: "arm64", variant: "v8")
        case "armv7l": return ImagePlatform(os: "linux", architecture: "arm", variant: "v7")
        case "armv6l": return ImagePlatform(os: "linux", architecture: "arm", variant: "v6")
        case "i686", "i386": return ImagePlatform(os: "linux", architecture: "386")
        case "riscv64", "ppc64le", "s390x": return ImagePlatform(os: "linux", architecture: machine)
        default: return ImagePlatform(os: "linux", architecture: machine)
        }
    }()

    /// How well an image for `candidate` runs here: less is better, `nil` not at all.
    package func distance(to candidate: ImagePlatform) -> Int? {
        guard os == candidate.os, architecture == candidate.architecture else { return nil }
        if variant == candidate.variant { return 0 }
        switch architecture {
        case "arm":
            // Newer processors run what was built for older ones.
            guard let own = Int(variant.drop { $0 == "v" }) else { return candidate.variant.isEmpty ? 1 : nil }
            guard let other = Int(candidate.variant.isEmpty ? "7" : candidate.variant.drop { $0 == "v" }), other <= own else { return nil }
            return own - other + 1
        case "arm64":
            return ["", "v8"].contains(candidate.variant) ? 1 : nil
        case "amd64":
            // The base level; v2 and later ask for instructions that nobody has looked for.
            return ["", "v1"].contains(candidate.variant) ? 1 : nil
        default:
            return candidate.variant.isEmpty ? 1 : nil
        }
    }
}
