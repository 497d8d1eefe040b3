import Files
import Glibc
import PluginAPI

/// Why a shared object could not be loaded, found by looking for what it needs as the dynamic loader does: libltdl's own reason is
/// "file not found" for everything.
///
/// Runs on the plugin thread after a failed load, and may itself load libraries that the object names; the loader would have done the same.
enum LoadDiagnosis {
    /// One sentence that names what is missing; `nil` when nothing was found to be missing.
    static func reason(_ image: ELFImage) throws(ApusError) -> String? {
        let dynamic = try image.dynamic()
        var handles: [UnsafeMutableRawPointer] = []
        for name in dynamic.needed {
            guard let handle = open(name, dynamic.searchPath) else { return missingLibrary(name, dynamic.searchPath) }
            handles.append(handle)
        }
        var missing: [String] = []
        for symbol in try image.symbols() where symbol.isUndefined && !symbol.isWeak && !isFound(symbol, handles) {
            missing.append(readable(symbol.name) + (symbol.version.isEmpty ? "" : " (version \(symbol.version))"))
        }
        guard let first = missing.first else { return nil }
        let others = missing.count == 1 ? "" : ", and \(missing.count - 1) more"
        return "no library has the function or variable \(first)\(others): the plugin, or a library that it needs, is of another version"
    }

    /// The library, from what is loaded, the object's own folders, or the system's.
    private static func open(_ name: String, _ searchPath: [String]) -> UnsafeMutableRawPointer? {
        if let handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD) { return handle }
        if !name.contains("/") {
            for path in candidates(name, searchPath) {
                if Files.exists(path), let handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL) { return handle }
            }
        }
        return dlopen(name, RTLD_LAZY | RTLD_LOCAL)
    }

    /// `$ORIGIN` leads to /proc/self/fd, because that is where the plugin is loaded from; the loader expands it likewise.
    private static func candidates(_ name: String, _ searchPath: [String]) -> [String] {
        searchPath.filter { !$0.contains("$") }.map { "\($0)/\(name)" }
    }

    /// Either the library itself or one that it needs in turn.
    private static func missingLibrary(_ name: String, _ searchPath: [String], depth: Int = 0) -> String {
        let absent = "the library \(name), which the plugin needs, cannot be found or loaded: install it"
        let folders = [
            "/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
            "/usr/local/lib",
        ]
        let paths = name.contains("/") ? [name] : candidates(name, searchPath + folders)
        guard depth < 8, let path = paths.first(where: { Files.exists($0) }) else { return absent }
        guard let bytes = try? Files.read(path), let dynamic = try? ELFImage(bytes).dynamic() else {
            return "the library \(path), which the plugin needs, is damaged: install it again"
        }
        for needed in dynamic.needed where open(needed, dynamic.searchPath) == nil {
            return missingLibrary(needed, dynamic.searchPath, depth: depth + 1)
        }
        return absent
    }

    private static func isFound(_ symbol: ELFImage.Symbol, _ handles: [UnsafeMutableRawPointer]) -> Bool {
        // Of a handle, the library's own needs are searched too, as the loader does for the plugin. A null handle is the global scope.
        for handle in [nil] + handles.map(Optional.some) {
            if address(of: symbol, handle) != nil { return true }
        }
        return false
    }

    private static func address(of symbol: ELFImage.Symbol, _ handle: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        // dlvsym is an extension of glibc, which Swift's importer leaves out.
        typealias Find = @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>, UnsafePointer<CChar>) -> UnsafeMutableRawPointer?
        guard !symbol.version.isEmpty, let find = dlsym(nil, "dlvsym") else { return dlsym(handle, symbol.name) }
        return unsafeBitCast(find, to: Find.self)(handle, symbol.name, symbol.version)
    }

    /// A Swift symbol as Swift writes it; others as they are.
    private static func readable(_ symbol: String) -> String {
        typealias Demangle =
            @convention(c) (UnsafePointer<CChar>, Int, UnsafeMutablePointer<CChar>?, UnsafeMutablePointer<Int>?, UInt32) -> UnsafeMutablePointer<
                CChar
            >?
        guard symbol.hasPrefix("$s"), let address = dlsym(nil, "swift_demangle") else { return symbol }
        let demangle = unsafeBitCast(address, to: Demangle.self)
        guard let text = demangle(symbol, symbol.utf8.count, nil, nil, 0) else { return symbol }
        defer { free(text) }
        return String(cString: text)
    }
}
