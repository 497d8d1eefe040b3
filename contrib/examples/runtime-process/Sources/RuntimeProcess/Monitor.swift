import Glibc
import PluginAPI

/// Starts processes by way of conmon(8), which stays as the process's parent: it writes the log and the exit code, and needs no engine for it.
///
/// conmon expects an OCI runtime to create a container; a script of a few lines stands in for one, and starts the command.
struct Monitor: Sendable {
    let layout: Layout
    let program: String

    /// A container's folder is the bundle. The command's words are in a file with a zero after each.
    private static let script = """
        #!/bin/bash
        while [ $# -gt 0 ]; do
            case $1 in
            --bundle) bundle=$2; shift ;;
            --pid-file) pidfile=$2; shift ;;
            esac
            shift
        done
        mapfile -d '' -t command <"$bundle/command" || exit
        # A session of its own, by which everything that it starts is found again.
        /usr/bin/setsid -- "${command[@]}" &
        printf %s $! >"$pidfile"

        """

    func install() throws(ApusError) { try File.write(Self.script, to: layout.script, mode: 0o700) }

    /// Starts the command. Blocks until it runs.
    /// - Parameter time: what is noted as its start.
    /// - Throws: `failed` with what conmon said.
    func launch(_ id: ID, _ command: [String], at time: Timestamp) throws(ApusError) -> ProcessIdentity {
        let folder = layout.folder(id)
        for stale in [layout.exit(id), "\(folder)/pid", "\(folder)/process", "\(folder)/answer", "\(folder)/complaints"] { unlink(stale) }
        try File.write(command.flatMap { Array($0.utf8) + [0] }, to: "\(folder)/command")
        defer { unlink("\(folder)/command") }
        let answer = "\(folder)/answer"
        guard mkfifo(answer, 0o600) == 0 else { throw File.error("make \(answer)") }
        defer { unlink(answer) }
        let reader = open(answer, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        guard reader >= 0 else { throw File.error("open \(answer)") }
        defer { close(reader) }
        let arguments = [
            program, "--cid", id.text, "--cuuid", id.text, "--name", id.text, "--runtime", layout.script, "--bundle", folder,
            "--container-pidfile", "\(folder)/pid", "--conmon-pidfile", "\(folder)/monitor", "--exit-dir", layout.exits,
            "--log-path", "k8s-file:\(folder)/log", "--log-level", "error", "--full-attach", "--no-sync-log",
        ]
        // It goes into the background by itself; the first one ends at once.
        let first = try Spawn.start(
            arguments, environment: ["PATH=\(ProcessPlan.defaultPath)", "_OCI_SYNCPIPE=3"], files: [2: "\(folder)/complaints", 3: answer])
        _ = Spawn.wait(first)
        Self.waitForAnswer(reader)
        guard let number = (File.text("\(folder)/pid")).flatMap({ Int32($0) }), number > 0 else {
            let said = File.text("\(folder)/complaints") ?? ""
            throw ApusError(.failed, "\(program) started nothing: \(said.isEmpty ? "it gave no reason" : String(said.suffix(400)))")
        }
        // One that has ended in the meantime is a process as well, if a short one: conmon has written how it ended.
        let identity = ProcessIdentity(running: number) ?? ProcessIdentity(ended: number)
        try File.write("\(identity.text)\n\(time)", to: "\(folder)/process")
        return identity
    }

    /// conmon says `{"pid": …}` when the script has done its part, or closes its end.
    private static func waitForAnswer(_ reader: Int32) {
        let end = ContinuousClock.now + .seconds(30)
        var buffer = [UInt8](repeating: 0, count: 256)
        while ContinuousClock.now < end {
            var ready = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, 100) > 0 else { continue }
            let count = read(reader, &buffer, buffer.count)
            if count == 0 || buffer.prefix(max(0, count)).contains(UInt8(ascii: "\n")) { return }
        }
    }

    /// Whether a container's conmon is there, which writes down its process's end.
    func isWatching(_ id: ID) -> Bool {
        guard let number = (File.text("\(layout.folder(id))/monitor")).flatMap({ Int32($0) }), ProcessIdentity(running: number) != nil else { return false }
        return File.text("/proc/\(number)/cmdline")?.contains(id.text) ?? false
    }

    /// What an engine that ended at the wrong moment has started and not noted.
    func unnoted(_ id: ID) -> ProcessIdentity? {
        guard let number = (File.text("\(layout.folder(id))/pid")).flatMap({ Int32($0) }), let stat = ProcessStat(of: number),
            let parent = File.text("/proc/\(stat.parent)/cmdline"), parent.contains(id.text)
        else { return nil }
        return ProcessIdentity(running: number)
    }
}

/// Where things are, below the plugin's state folder.
struct Layout: Sendable {
    let root: String

    var script: String { "\(root)/runtime" }
    var exits: String { "\(root)/exits" }
    var containers: String { "\(root)/containers" }
    /// A file whose name is no container's, to wake who watches.
    var bell: String { "\(exits)/bell" }

    func folder(_ id: ID) -> String { "\(containers)/\(id)" }
    /// The exit code, when it has ended.
    func exit(_ id: ID) -> String { "\(exits)/\(id)" }
}
