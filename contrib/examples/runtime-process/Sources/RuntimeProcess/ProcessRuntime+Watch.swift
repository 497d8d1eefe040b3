import Glibc
import PluginAPI
import Synchronization

extension ProcessRuntime {
    /// What an earlier engine left: containers that never ran, that run, that have ended meanwhile. Called once, before anybody else.
    func takeBack() {
        for name in File.names(in: layout.containers) {
            let id = ID(name)
            let folder = layout.folder(id)
            guard let bytes = File.bytes("\(folder)/configuration") else {
                // Half made, or half removed.
                File.removeFolder(folder)
                unlink(layout.exit(id))
                continue
            }
            do throws(ApusError) {
                var record = Record(configuration: try FieldArchive.value(ContainerConfiguration.self, bytes))
                let lines = (File.text("\(folder)/process") ?? "").split(separator: "\n").map { String($0) }
                let noted = lines.first.flatMap { ProcessIdentity($0) }
                if let process = noted ?? monitor.unnoted(id) {
                    record.process = process
                    record.state.phase = .running
                    record.state.processID = Int64(process.number)
                    record.state.startedAt = lines.dropFirst().first.flatMap { Timestamp($0) } ?? File.time("\(folder)/pid") ?? .now
                    if noted == nil { try File.write("\(process.text)\n\(record.state.startedAt)", to: "\(folder)/process") }
                    // Gone with an earlier start of the machine, or together with its conmon.
                    if isLost(id, process) { try File.write("255", to: layout.exit(id)) }
                }
                let found = record
                state.withLock { $0.records[id] = found }
            } catch {
                host.log(.error, "container \(id.short) cannot be taken back: \(error.message)")
            }
        }
        collect()
    }

    /// Sees to it that ends are noticed: conmon writes a file for each. A thread of its own, until `shutDown`.
    func watch() throws(ApusError) {
        let descriptor = inotify_init1(O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0, inotify_add_watch(descriptor, layout.exits, UInt32(IN_MOVED_TO | IN_CLOSE_WRITE | IN_CREATE)) >= 0 else {
            let error = File.error("watch \(layout.exits)")
            if descriptor >= 0 { close(descriptor) }
            throw error
        }
        let failure = Blocking.start { [weak self] in
            defer { close(descriptor) }
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                let isSilent = poll(&ready, 1, 1000) == 0
                while read(descriptor, &buffer, buffer.count) > 0 {}
                guard let self, !self.state.withLock({ $0.isShutDown }) else { return }
                self.collect(looksForLost: isSilent)
            }
        }
        guard failure == 0 else {
            close(descriptor)
            throw ApusError(.unavailable, "no thread: \(String(cString: strerror(failure)))")
        }
    }

    /// Takes note of every end that conmon has written down.
    /// - Parameter looksForLost: whether processes count that are gone without that, because conmon is gone as well.
    func collect(looksForLost: Bool = false) {
        let running = state.withLock { state in
            state.records.compactMap { id, record in record.state.phase == .running ? record.process.map { (id, $0) } : nil }
        }
        for (id, process) in running {
            if looksForLost, isLost(id, process) { try? File.write("255", to: layout.exit(id)) }
            guard let code = (File.text(layout.exit(id))).flatMap({ Int64($0.prefix { $0 != "\n" }) }) else { continue }
            // What it has left behind ends with it, as in a container.
            process.killSession()
            end(id, code: code, at: File.time(layout.exit(id)) ?? .now)
        }
    }

    /// Whether a process is gone, and nobody is left who would write down how it ended. conmon does so before it ends itself: hence the order.
    private func isLost(_ id: ID, _ process: ProcessIdentity) -> Bool {
        !process.isRunning && !monitor.isWatching(id) && File.text(layout.exit(id)) == nil
    }

    private func end(_ id: ID, code: Int64, at time: Timestamp) {
        let ended = state.withLock { state -> (ContainerState, [AsyncStream<ContainerState>.Continuation])? in
            guard var record = state.records[id], record.state.phase == .running else { return nil }
            record.state.phase = .exited
            record.state.processID = 0
            record.state.exitCode = code
            // The clock of the file system lags by a few milliseconds.
            record.state.finishedAt = max(time, record.state.startedAt)
            let waiters = record.waiters
            record.waiters = []
            record.process = nil
            state.records[id] = record
            return (record.state, waiters)
        }
        guard let (final, waiters) = ended else { return }
        for waiter in waiters {
            waiter.yield(final)
            waiter.finish()
        }
        publish(.ended, id, final)
        host.count("ends", by: 1)
    }
}
