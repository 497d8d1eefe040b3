import CLTDL
import Glibc
import OpenSSL
import PluginAPI
import Synchronization

/// A plugin's image in memory. Swift images cannot be unloaded, so it stays until the process ends.
final class LoadedPlugin: Sendable {
    let manifest: PluginManifest
    let sha256: String
    let factory: PluginFactory
    /// Kept open: the loader knows the image by the name of this descriptor, and a later file with the same number would be taken for it.
    private let file: PluginFile

    init(manifest: PluginManifest, sha256: String, factory: PluginFactory, file: PluginFile) {
        self.manifest = manifest
        self.sha256 = sha256
        self.factory = factory
        self.file = file
    }
}

/// Loads plugins with libltdl. Only the plugin thread may call it.
enum PluginLoader {
    /// libltdl's count of initializations only goes up; once is enough.
    private static let isReady = Mutex(false)
    /// Files whose load has been tried, which may have left an image behind; see `LoadedPlugin.file`.
    private static let kept = Mutex<[PluginFile]>([])

    /// Loads a file that has been checked, and asks it for its factory.
    static func load(_ file: PluginFile, _ content: [UInt8], _ manifest: PluginManifest, sha256: String) throws(ApusError) -> LoadedPlugin {
        try prepare()
        var advice: lt_dladvise?
        guard lt_dladvise_init(&advice) == 0, lt_dladvise_local(&advice) == 0, lt_dladvise_resident(&advice) == 0 else {
            throw ApusError(.failed, "libltdl has no memory left")
        }
        defer { lt_dladvise_destroy(&advice) }
        guard let handle = lt_dlopenadvise("/proc/self/fd/\(file.descriptor)", advice) else {
            let reason = try LoadDiagnosis.reason(ELFImage(content))
            throw ApusError(
                .failed, reason ?? "the dynamic loader refuses it, though all that it needs is there: the file may be damaged; build it again")
        }
        kept.withLock { $0.append(file) }
        guard let symbol = lt_dlsym(handle, PluginRecordLayout.entryPoint) else {
            throw ApusError(.failed, "it has no entry point \(PluginRecordLayout.entryPoint)")
        }
        typealias Entry = @convention(c) (UnsafeRawPointer) -> UnsafeMutableRawPointer?
        let entry = unsafeBitCast(symbol, to: Entry.self)
        guard let result = entry(PluginFactory.identity) else {
            throw ApusError(
                .failed, "it has a PluginAPI of its own, whose types are not the engine's: link the dynamic product of the package PluginAPI")
        }
        // An object begins with the address of its class.
        guard result.load(as: UnsafeRawPointer.self) == PluginFactory.identity else {
            throw ApusError(.failed, "its entry point returned something else than a PluginFactory: write it with PluginFactory.entry")
        }
        let factory = Unmanaged<PluginFactory>.fromOpaque(result).takeRetainedValue()
        return LoadedPlugin(manifest: manifest, sha256: sha256, factory: factory, file: file)
    }

    private static func prepare() throws(ApusError) {
        let isReady = isReady.withLock { isReady in
            if !isReady { isReady = lt_dlinit() == 0 }
            return isReady
        }
        guard isReady else { throw ApusError(.failed, "libltdl could not be started") }
    }
}
