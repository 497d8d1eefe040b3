import Logging
import Namespaces
import PluginAPI
import Synchronization

extension ContainerEngine {
    var memoryFiles: MemoryFiles { MemoryFiles(folder: configuration.executionRoot + "/secrets") }

    /// Writes the files of a container that is being made, and mounts them into it, each read-only at its path.
    func addFiles(_ files: [ContainerFile], to container: inout ContainerConfiguration) async throws(ApusError) {
        guard !files.isEmpty else { return }
        let (memory, id) = (memoryFiles, container.id)
        try await DedicatedThread.run { () throws(ApusError) -> Void in try memory.write(files, for: id) }
        for (number, file) in files.enumerated() {
            var mount = Mount()
            mount.kind = .bind
            mount.source = memory.path(number, of: id)
            mount.target = file.path
            mount.readOnly = true
            container.mounts.append(mount)
        }
    }

    /// Puts the files of a container there again that went with a restart of the machine.
    func restoreFiles(_ files: [ContainerFile], of container: ID) async throws(ApusError) {
        guard !files.isEmpty else { return }
        let memory = memoryFiles
        try await DedicatedThread.run { () throws(ApusError) -> Void in
            if !memory.exist(for: container) { try memory.write(files, for: container) }
        }
    }

    /// Nothing of a container's files stays after it.
    func removeFiles(of container: ID) async {
        let (memory, logger) = (memoryFiles, logger)
        do throws(ApusError) {
            try await DedicatedThread.run { () throws(ApusError) -> Void in
                if memory.exist(for: container) { try memory.remove(container) }
            }
        } catch {
            logger.error("the secrets and configs of container \(container) stay in memory: \(error.message)")
        }
    }

    /// Files of containers that are gone.
    func removeStrayFiles() async {
        let (memory, logger) = (memoryFiles, logger)
        let known = state.withLock { Set($0.records.keys) }
        do throws(ApusError) {
            try await DedicatedThread.run { () throws(ApusError) -> Void in try memory.removeAll(except: known) }
        } catch {
            logger.error("secrets and configs of containers that are gone stay in memory: \(error.message)")
        }
    }

    /// Removes the files of all containers, and the folder.
    public func removeAllFiles() async throws(ApusError) {
        let memory = memoryFiles
        try await DedicatedThread.run { () throws(ApusError) -> Void in try memory.removeFolder() }
    }
}
