import Files
import Namespaces
public import PluginAPI

/// Network namespaces pinned in the file system.
public struct PinnedNamespaces: SandboxProvider {
    public init() {}

    /// Makes a namespace and pins it there, with the folder for it; one that is there is kept.
    public func create(path: String) async throws(ApusError) {
        try await DedicatedThread.run { () throws(ApusError) -> Void in
            try Files.makeDirectory(Files.parent(path))
            if !NetworkNamespaces.isPinned(path: path) { try NetworkNamespaces.create(path: path) }
        }
    }

    /// Takes the pin away; the namespace goes with the last process in it.
    public func remove(path: String) async throws(ApusError) {
        try await DedicatedThread.run { () throws(ApusError) -> Void in
            try NetworkNamespaces.remove(path: path)
        }
    }
}
