public import PluginAPI

/// A runtime that is several: containers may name the one that they run on.
public protocol RuntimeChoice: Sendable {
    /// The usual one when the name is empty.
    /// - Throws: `invalidArgument` when there is none of that name.
    func runtime(named name: String) throws(ApusError) -> any Runtime
}

extension ContainerConfiguration {
    static let runtimeAnnotation = "apus.runtime"

    /// The runtime plugin that the container asks for; empty: the usual one.
    public var runtimeName: String { annotations[Self.runtimeAnnotation] ?? "" }
}

extension ContainerEngine {
    /// The runtime of this name, for what belongs to no container yet: images.
    func runtime(named name: String) throws(ApusError) -> any Runtime {
        if let choice = runtime as? any RuntimeChoice { return try choice.runtime(named: name) }
        guard name.isEmpty else { throw ApusError(.invalidArgument, "there is no runtime \"\(name)\" on this node") }
        return runtime
    }
}
