import CAExternal
import PluginAPI

/// The C function that the engine calls.
@c(apus_plugin_entry)
public func entry(_ identity: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
    PluginFactory.entry(identity) { host throws(ApusError) in try ExternalAuthority(host: host) }
}
