import Dispatcher
import Orchestration
import PluginAPI

/// The secrets and configs of a task as files of its container. Pure.
enum TaskFiles {
    /// - Throws: `notFound` for one that the managers did not send: it was removed.
    static func files(of spec: ContainerSpec, from assigned: AssignedFiles) throws(ApusError) -> [ContainerFile] {
        var files: [ContainerFile] = []
        for reference in spec.secrets {
            guard let secret = assigned.secrets[reference.secretID] else { throw missing("secret", reference.secretName, reference.secretID) }
            let target = reference.file ?? FileTarget()
            files.append(try file(target, at: FileReferences.path(ofSecret: named(target, secret.spec.name)), secret.spec.data, isNew: reference.file == nil))
        }
        for reference in spec.configs {
            guard let config = assigned.configs[reference.configID] else { throw missing("config", reference.configName, reference.configID) }
            let target = reference.file ?? FileTarget()
            files.append(try file(target, at: FileReferences.path(ofConfig: named(target, config.spec.name)), config.spec.data, isNew: reference.file == nil))
        }
        return files
    }

    private static func named(_ target: FileTarget, _ name: String) -> FileTarget {
        var target = target
        if target.name.isEmpty { target.name = name }
        return target
    }

    private static func file(_ target: FileTarget, at path: String, _ content: [UInt8], isNew: Bool) throws(ApusError) -> ContainerFile {
        guard let uid = UInt32(target.uid.isEmpty ? "0" : target.uid), let gid = UInt32(target.gid.isEmpty ? "0" : target.gid) else {
            throw ApusError(.invalidArgument, "\(path): the owner \(target.uid):\(target.gid) is not two numbers")
        }
        return ContainerFile(path: path, content: content, uid: uid, gid: gid, mode: isNew ? 0o444 : UInt32(truncatingIfNeeded: target.mode & 0o7777))
    }

    private static func missing(_ kind: String, _ name: String, _ id: ID) -> ApusError {
        ApusError(.notFound, "\(kind) \(name.isEmpty ? id.text : name) is not there: it was removed from the swarm")
    }
}
