import Files
import Glibc
import PluginAPI
import Processes

/// The programs that run containers: an OCI runtime and conmon, which watches over what it starts.
struct RuntimeTools: Sendable {
    enum Kind: String, Sendable {
        case runc, crun, other
    }

    var runtime: String
    var kind: Kind
    var conmon: String

    private static let folders = [
        "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin", "/usr/libexec", "/usr/libexec/podman",
    ]

    /// - Parameter configuration: `runtime` and `conmon`, names or paths that override the choice.
    /// - Throws: `unavailable` with the Debian package that is missing.
    static func find(configuration: [String: String], cgroupVersion: Int) throws(ApusError) -> RuntimeTools {
        // crun is small and fast, and knows only unified cgroups well; runc knows both versions.
        let wanted = configuration["runtime"].flatMap { $0.isEmpty ? nil : $0 } ?? (cgroupVersion == 2 && path(of: "crun") != nil ? "crun" : "runc")
        guard let runtime = path(of: wanted) else {
            throw ApusError(
                .unavailable, "no OCI runtime: \(wanted) was not found; install the Debian package \(cgroupVersion == 2 ? "crun" : "runc")")
        }
        let wantedConmon = configuration["conmon"].flatMap { $0.isEmpty ? nil : $0 } ?? "conmon"
        guard let conmon = path(of: wantedConmon) else {
            throw ApusError(.unavailable, "\(wantedConmon) was not found; install the Debian package conmon")
        }
        let name = runtime.split(separator: "/").last.map(String.init) ?? ""
        return RuntimeTools(runtime: runtime, kind: Kind(rawValue: name) ?? .other, conmon: conmon)
    }

    private static func path(of name: String) -> String? {
        if name.hasPrefix("/") { return access(name, X_OK) == 0 ? name : nil }
        let search = (getenv("PATH").map { String(cString: $0) } ?? "").split(separator: ":").map(String.init) + folders
        return search.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    /// A small init for containers, from Debian's tini or docker.io.
    static func initPath() -> String? {
        ["/usr/bin/tini-static", "/usr/libexec/docker/docker-init", "/usr/bin/docker-init"].first { access($0, X_OK) == 0 }
    }

    /// `runc 1.1.5` of `runc version 1.1.5+ds1`.
    static func version(of program: String) async -> String {
        guard let result = try? await Processes.run(ProcessRequest(program, ["--version"]), timeout: .seconds(10)) else { return "" }
        let words = result.text.split(separator: "\n").first?.split(separator: " ") ?? []
        guard words.count >= 3 else { return "" }
        return "\(words[0]) \(words[2].prefix { $0.isNumber || $0 == "." })"
    }
}
