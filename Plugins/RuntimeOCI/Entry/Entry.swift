import PluginAPI
import RuntimeOCI

/// The C entry point of the plugin.
@c(apus_plugin_entry)
public func entry(_ identity: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
    PluginFactory.entry(identity) { (host) throws(ApusError) in try RuntimeOCI(host: host) }
}
