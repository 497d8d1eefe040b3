import Coding
import Files
import Glibc
import PluginAPI
import Processes

/// Runs `apus-unpack`, the only program that reads layers.
struct LayerUnpacker: Sendable {
    /// What a layer turned out to be.
    struct Result: Sendable, Hashable {
        /// The digest of the tar, decompressed.
        var difference: ContentDigest
        /// Bytes of its files.
        var size: Int64
        var entries: Int64
    }

    let configuration: ImageStoreConfiguration

    /// Unpacks what a descriptor gives into a new folder; after an error the folder is gone.
    /// - Parameter isPlain: an archive of files to be read by the engine, not a layer.
    func unpack(_ input: Int32, into directory: String, isPlain: Bool = false) async throws(ApusError) -> Result {
        do throws(ApusError) {
            let permissions: UInt32 = isPlain ? 0o700 : 0o755
            let folder = try await onBlockingThread { () throws(ApusError) in
                // Exactly these, whatever the umask is: the uppermost layer's root is the container's.
                guard mkdir(directory, 0o700) == 0, chmod(directory, permissions) == 0 else { throw Files.lastError("cannot make \(directory)") }
                let folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                guard folder >= 0 else { throw Files.lastError("cannot open \(directory)") }
                return Descriptor(folder)
            }
            defer { folder.close() }
            return try await run(input, folder.number, isPlain)
        } catch {
            await remove(directory)
            throw error
        }
    }

    func remove(_ directory: String) async {
        let log = configuration.log
        try? await onBlockingThread { () throws(ApusError) in
            guard Files.exists(directory) else { return }
            do throws(ApusError) {
                try Files.removeTree(directory)
            } catch {
                log(.warning, "images: \(error.message)")
            }
        }
    }

    private func run(_ input: Int32, _ folder: Int32, _ isPlain: Bool) async throws(ApusError) -> Result {
        var arguments = [
            "--directory", "3", "--input", "4", "--maximum-entries", "\(configuration.maximumEntries)", "--maximum-bytes",
            "\(configuration.maximumBytes)",
            "--maximum-ratio", "\(configuration.maximumRatio)", "--ratio-floor", "\(configuration.ratioFloor)",
        ]
        if isPlain { arguments.append("--plain") }
        if configuration.isDurable, !isPlain { arguments.append("--sync") }
        // Where the Swift runtime is, if it is not where the program looks; nothing else of our environment.
        let environment = getenv("LD_LIBRARY_PATH").map { ["LD_LIBRARY_PATH=\(String(cString: $0))"] } ?? []
        let request = ProcessRequest(configuration.unpackPath, arguments, environment: environment, descriptors: [3: folder, 4: input])
        let result: ProcessResult
        do throws(ApusError) {
            result = try await Processes.run(request, outputLimit: 64 << 10)
        } catch {
            throw error.code == .notFound
                ? ApusError(
                    .failed,
                    "\(configuration.unpackPath) is missing: it unpacks layers and belongs to the installation; set unpack-path if it is elsewhere")
                : error
        }
        let reason = ImageReference.printable(String(result.errorText.prefix { $0 != "\n" }))
        switch result.exitCode {
        case 0:
            guard let json = try? JSONValue.parse(result.output), let difference = json["diffID"]?.string.flatMap({ ContentDigest($0) }),
                let size = json["size"]?.integer, let entries = json["entries"]?.integer
            else { throw ApusError(.failed, "apus-unpack answered what is no report") }
            return Result(difference: difference, size: size, entries: entries)
        case 2: throw ApusError(.corrupt, "the layer is refused: \(reason)")
        case 3: throw ApusError(.tooLarge, "the layer is refused: \(reason)")
        case 128 + SIGSYS: throw ApusError(.failed, "apus-unpack was ended by its jail: it made a system call that it may not make")
        case 129...: throw ApusError(.failed, "apus-unpack was ended by signal \(result.exitCode - 128)")
        default: throw ApusError(.failed, "the layer cannot be unpacked: \(reason.isEmpty ? "apus-unpack ended with \(result.exitCode)" : reason)")
        }
    }
}
