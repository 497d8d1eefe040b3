import PluginAPI

/// The C function by which the engine makes the plugin.
@c(apus_plugin_entry)
public func entry(_ identity: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
    PluginFactory.entry(identity) { host in RoutedNetwork(host: host) }
}
