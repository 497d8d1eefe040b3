import PluginAPI

/// Kernel parameters (sysctls) that a container may set: those that each of its namespaces has for itself.
///
/// The OCI runtime refuses all others, but not before the start.
struct KernelParameters {
    let values: [String: String]
    /// Whether the container uses the host's network namespace.
    var sharesNetwork = false
    /// Whether the container uses the host's IPC namespace.
    var sharesMessages = false

    /// Of the IPC namespace (ipc_namespaces(7)).
    private static let messages: Set<String> = [
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
    ]

    /// - Throws: `invalidArgument`.
    func check() throws(ApusError) {
        for (key, value) in values.sorted(by: { $0.key < $1.key }) {
            let shown = ServiceValidation.printable(key)
            guard !key.isEmpty, key.utf8.allSatisfy({ ServiceValidation.isAlphanumeric($0) || ".-_/".utf8.contains($0) }), !key.contains("..") else {
                throw ApusError(.invalidArgument, "sysctl \"\(shown)\" is not the name of a kernel parameter")
            }
            guard !value.isEmpty, !ServiceValidation.hasControlCharacters(value.filter { $0 != "\t" }) else {
                throw ApusError(.invalidArgument, "sysctl \(shown): \"\(ServiceValidation.printable(value))\" is not a value")
            }
            // Both spellings are the kernel's: net.ipv4.ip_forward and net/ipv4/ip_forward.
            let name = key.contains("/") && !key.contains(".") ? String(key.map { $0 == "/" ? "." : $0 }) : key
            if name.hasPrefix("net.") {
                guard !sharesNetwork else {
                    throw ApusError(.invalidArgument, "sysctl \(shown) cannot be set: the container is in the host's network namespace")
                }
            } else if name.hasPrefix("fs.mqueue.") || Self.messages.contains(name) {
                guard !sharesMessages else {
                    throw ApusError(.invalidArgument, "sysctl \(shown) cannot be set: the container is in the host's IPC namespace")
                }
            } else if name != "kernel.domainname" {
                throw ApusError(
                    .invalidArgument,
                    "sysctl \(shown) is the whole machine's: a container can set net.*, fs.mqueue.*, the limits of System V IPC and kernel.domainname")
            }
        }
    }
}
