/// Where the runtime keeps things: what survives a reboot under the state directory, what belongs to running containers under the run directory.
struct RuntimeLayout: Sendable {
    let state: String
    let run: String

    /// One folder per container.
    var containers: String { "\(state)/containers" }
    var volumes: String { "\(state)/volumes" }
    var images: String { "\(state)/images" }
    /// The OCI runtime's own state (`--root`).
    var runtimeRoot: String { "\(run)/oci" }
    /// conmon writes one file per ended container here.
    var exits: String { "\(run)/exits" }
    /// One folder per started container.
    var bundles: String { "\(run)/bundles" }

    func home(_ id: String) -> ContainerHome { ContainerHome(path: "\(containers)/\(id)") }
    func bundle(_ id: String) -> ContainerBundle {
        ContainerBundle(path: "\(bundles)/\(id)", runtimeState: "\(runtimeRoot)/\(id)", exitFile: "\(exits)/\(id)")
    }
}

/// A container's own folder: record, writable layer, log, files that are mounted into it.
struct ContainerHome: Sendable {
    let path: String

    var record: String { "\(path)/container.json" }
    var upper: String { "\(path)/upper" }
    var work: String { "\(path)/work" }
    /// Short names for the layers, when their paths are too long for one mount call.
    var layers: String { "\(path)/layers" }
    var empty: String { "\(path)/empty" }
    var hosts: String { "\(path)/hosts" }
    var resolver: String { "\(path)/resolv.conf" }
    var hostname: String { "\(path)/hostname" }
    var logs: String { "\(path)/log" }
    var log: String { "\(logs)/container.log" }
    /// Written by conmon: the exit code.
    var exit: String { "\(path)/exit" }
    /// Made by conmon when the kernel killed a process for want of memory.
    var outOfMemory: String { "\(path)/oom" }
}

/// What exists while a container runs: the OCI bundle with conmon's pipes, and the OCI runtime's state.
struct ContainerBundle: Sendable {
    let path: String
    let runtimeState: String
    let exitFile: String

    var specification: String { "\(path)/config.json" }
    var root: String { "\(path)/rootfs" }
    var processID: String { "\(path)/pid" }
    var monitorID: String { "\(path)/conmon.pid" }
    /// conmon's control pipe.
    var control: String { "\(path)/ctl" }
    /// The OCI runtime holds the container's first process here until it is started.
    var startPipe: String { "\(runtimeState)/exec.fifo" }
}
