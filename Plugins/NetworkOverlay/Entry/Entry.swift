import NetworkOverlay
import PluginAPI

/// What the host calls after it has loaded the plugin.
@c(apus_plugin_entry)
public func entry(_ identity: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
    PluginFactory.entry(identity) { (host) throws(ApusError) in try NetworkOverlay(host: host) }
}
