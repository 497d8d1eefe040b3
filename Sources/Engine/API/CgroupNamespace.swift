import PluginAPI

/// Whether a container sees the host's cgroups or its own alone (`HostConfig.CgroupnsMode`).
enum CgroupNamespace {
    /// What a container gets is settled by the machine: a namespace of its own where the cgroups are unified, unless it is privileged.
    ///
    /// - Parameter wanted: empty, `private` or `host`.
    /// - Throws: `unimplemented` for the other one.
    static func check(_ wanted: String, isPrivileged: Bool, cgroupVersion: Int) throws(ApusError) {
        let given = cgroupVersion == 2 && !isPrivileged ? "private" : "host"
        guard wanted.isEmpty || wanted == given else {
            let kind = isPrivileged ? "a privileged container" : "a container on a machine with cgroups of version \(cgroupVersion)"
            throw ApusError(.unimplemented, "HostConfig.CgroupnsMode=\(wanted) for \(kind) is not in this version of Apus; it has \(given)")
        }
    }
}
