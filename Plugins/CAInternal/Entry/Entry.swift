import CAInternal
import PluginAPI

/// The C function that the engine calls.
@c(apus_plugin_entry)
public func entry(_ identity: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
    PluginFactory.entry(identity) { host in InternalAuthority(host: host) }
}
