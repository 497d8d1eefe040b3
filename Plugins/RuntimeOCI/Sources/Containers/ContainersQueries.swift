import Files
import PluginAPI
import Processes

extension Containers {
    func statistics(_ id: ID) throws(ApusError) -> ContainerStatistics {
        let record = try table.record(id)
        // As Docker: all zero for one that does not run.
        guard record.container.state.phase == .running else { return ContainerStatistics() }
        return cgroups.statistics(cgroup(record.configuration))
    }

    /// Bytes on disk of writable layers and volumes.
    func diskUsage() async throws(ApusError) -> RuntimeDiskUsage {
        let ids = table.all().map(\.id)
        let usage: Result<RuntimeDiskUsage, ApusError> = await onThread(named: "apus-usage") {
            do throws(ApusError) {
                var usage = RuntimeDiskUsage(volumes: try self.volumes.sizes())
                for id in ids { usage.containers[id] = DiskUsage.bytes(below: self.layout.home(id.text).upper) }
                return .success(usage)
            } catch {
                return .failure(error)
            }
        }
        return try usage.get()
    }

    func createVolume(_ volume: Volume) async throws(ApusError) -> Volume {
        try await workers.run(key: "volume:\(volume.name)") { () throws(ApusError) in try self.volumes.create(volume, now: .now()) }
    }

    func removeVolume(named name: String) async throws(ApusError) {
        try await workers.run(key: "volume:\(name)") { () throws(ApusError) in try self.removeVolume(name) }
    }
}
