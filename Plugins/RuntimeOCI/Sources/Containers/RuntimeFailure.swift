import Coding
import PluginAPI

/// Why the OCI runtime did not start a process, in Docker's words.
struct RuntimeFailure: Sendable, Hashable {
    /// 127: there is no such program; 126: it may not be run; 128: anything else.
    var exitCode: Int64
    var message: String

    /// - Parameter output: what the OCI runtime wrote as its error: lines of JSON (`--log-format json`), or plain text.
    init(output: String) {
        var reason = ""
        for line in output.split(whereSeparator: \.isNewline) {
            let text = String(line)
            if let json = try? JSONValue.parse(text), let message = json["msg"]?.string {
                // The last error is the outermost one; warnings come before it.
                if json["level"]?.string == "error" || reason.isEmpty { reason = message }
            } else if reason.isEmpty || !text.hasPrefix("{") {
                reason = reason.isEmpty ? text : reason
            }
        }
        for prefix in ["runc create failed: ", "runc run failed: ", "exec failed: ", "container_linux.go: "] where reason.hasPrefix(prefix) {
            reason.removeFirst(prefix.count)
        }
        if reason.isEmpty { reason = "the OCI runtime failed without saying why" }
        message = Self.normalized(reason)
        let lower = message.lowercased()
        if lower.contains("executable file not found") || (lower.contains("exec") && lower.contains("no such file or directory")) {
            exitCode = 127
        } else if lower.contains("permission denied") || lower.contains("is a directory") {
            exitCode = 126
        } else {
            exitCode = 128
        }
    }

    /// crun says it in its own way: ``executable file `x` not found in $PATH: No such file or directory``.
    private static func normalized(_ text: String) -> String {
        let start = "executable file `"
        guard text.hasPrefix(start), text.contains(" not found") else { return text }
        let name = text.dropFirst(start.count).prefix { $0 != "`" && $0 != "'" }
        let reason = name.contains("/") ? "stat \(name): no such file or directory" : "executable file not found in $PATH"
        return "unable to start container process: exec: \"\(name)\": \(reason)"
    }

    var error: ApusError { ApusError(.invalidArgument, "failed to create task for container: OCI runtime create failed: \(message)") }
}
