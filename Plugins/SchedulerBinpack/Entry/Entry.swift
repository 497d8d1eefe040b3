import PluginAPI
import SchedulerBinpack

/// The C entry point of the plugin.
@c(apus_plugin_entry)
public func entry(_ identity: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
    PluginFactory.entry(identity) { _ in BinpackScheduler() }
}
