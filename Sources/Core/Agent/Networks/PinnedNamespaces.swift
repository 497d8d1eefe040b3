import Files
import Namespaces
public import PluginAPI

/// Network namespaces pinned in the file system.
public struct PinnedNamespaces: SandboxProvider {
    public init() {}

    public func create(path: String) async throws(ApusError) {
        try await DedicatedThread.run { () throws(ApusError) -> Void in
            try Files.makeDirectory(Files.parent(path))
            if !NetworkNamespaces.isPinned(path: path) { try NetworkNamespaces.create(path: path) }
        }
    }

    public func remove(path: String) async throws(ApusError) {
        try await DedicatedThread.run { () throws(ApusError) -> Void in
            try NetworkNamespaces.remove(path: path)
        }
    }
}
