import Files
import Glibc
import PluginAPI

extension Containers {
    /// Finds the containers of an earlier engine: running ones go on, ended ones get their exit codes, half-made ones are taken away.
    func recover() {
        var ended: [ID] = []
        for name in (try? Files.list(layout.containers)) ?? [] {
            let home = layout.home(name)
            do throws(ApusError) {
                if recover(try ContainerRecord.read(home.record)) { ended.append(ID(name)) }
            } catch {
                if error.code != .notFound { log(.warning, "container \(name) is removed: its record cannot be read: \(error.message)") }
                removeRemains(name)
            }
        }
        // On the workers, as all ends; but done before anybody asks how the containers are.
        let done = ThreadSignal()
        for id in ended { workers.submit(key: id.text) { self.endBlocking(id) } }
        for id in ended { workers.submit(key: id.text) { done.send() } }
        var left = UInt64(ended.count)
        while left > 0 {
            var ready = pollfd(fd: done.descriptor, events: Int16(POLLIN), revents: 0)
            poll(&ready, 1, -1)
            var count: UInt64 = 0
            if read(done.descriptor, &count, 8) == 8 { left -= min(left, count) }
        }
        for name in (try? Files.list(layout.bundles)) ?? [] where (try? table.record(ID(name))) == nil { removeRemains(name) }
        for name in (try? Files.list(layout.exits)) ?? [] where (try? table.record(ID(name))) == nil { unlink("\(layout.exits)/\(name)") }
    }

    /// - Returns: whether it ran when its engine ended, and has ended since.
    private func recover(_ stored: ContainerRecord) -> Bool {
        var record = stored
        let id = record.id.text
        if record.container.state.phase != .running {
            if Files.exists(layout.bundle(id).path), let adopted = started(record) {
                record = adopted
                keep(record)
            } else if Files.exists(layout.bundle(id).path) {
                // Between creation and start when the engine ended.
                abandon(record)
            }
        }
        table.insert(record)
        guard record.container.state.phase == .running else { return false }
        let isWatched = record.monitor?.isRunning ?? false
        if isWatched { watch(record) }
        // With an exit file, or without anybody who will write one.
        return Files.exists(layout.home(id).exit) || !isWatched
    }

    /// The record of a container that was let go just before its engine ended, which could not note it any more.
    private func started(_ record: ContainerRecord) -> ContainerRecord? {
        let bundle = layout.bundle(record.id.text)
        var status = stat()
        guard let text = try? Files.readText(bundle.processID), let number = Int32(text), let process = ProcessIdentity(running: number),
            let monitorText = try? Files.readText(bundle.monitorID), let monitorID = Int32(monitorText),
            let monitor = ProcessIdentity(running: monitorID), cgroups.processes(cgroup(record.configuration)).contains(number),
            // The runtime's pipe goes away with the start.
            !Files.exists(bundle.startPipe), stat(bundle.runtimeState, &status) == 0
        else { return nil }
        var record = record
        record.container.state = ContainerState()
        record.container.state.phase = .running
        record.container.state.processID = Int64(number)
        record.container.state.startedAt = Timestamp(nanoseconds: Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec))
        record.processStart = process.start
        record.monitorID = Int64(monitorID)
        record.monitorStart = monitor.start
        record.boot = ProcessIdentity.boot
        return record
    }

    /// Removes what is left of a container without a record.
    private func removeRemains(_ name: String) {
        var configuration = ContainerConfiguration()
        configuration.id = ID(name)
        abandon(ContainerRecord(configuration))
        do throws(ApusError) { try Files.removeTree(layout.home(name).path) } catch { log(.warning, error.message) }
    }
}
