import GRPCCore
import Glibc
import NIOPosix
import PluginAPI
import Synchronization

@testable import Transport

/// Programs of others that the transport is tried against.
enum PeerPrograms {
    static let folder = #filePath.split(separator: "/").dropLast().map { "/" + $0 }.joined()
    /// A Python with grpcio, as a shell calls it: with what `contrib/peers.sh` has fetched, otherwise Debian's own.
    static let python: String = {
        let fetched =
            getenv("APUS_PEERS").map { String(cString: $0) } ?? #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined() + "/.build/peers"
        return access(fetched + "/grpc", R_OK) == 0 ? "PYTHONPATH='\(fetched)' timeout 200 python3" : "timeout 200 /usr/bin/python3"
    }()

    /// `make test` sets `APUS_COMPLETE`: nothing is skipped there, what is missing fails.
    static let mustBeComplete = getenv("APUS_COMPLETE") != nil
    static var hasGRPCIO: Bool { mustBeComplete || python.hasPrefix("PYTHONPATH") || access("/usr/lib/python3/dist-packages/grpc", R_OK) == 0 }
    static var hasNGHTTP2: Bool { mustBeComplete || access("/usr/bin/h2load", X_OK) == 0 && access("/usr/bin/nghttp", X_OK) == 0 }

    /// Runs a command of the shell; its output and error output, and its status. The text is a test's own.
    static func run(_ command: String) async throws -> (output: String, status: Int32) {
        try await NIOThreadPool.singleton.runIfActive {
            guard let pipe = popen("exec 2>&1; \(command)", "r") else { return ("popen failed", -1) }
            var bytes: [UInt8] = []
            var piece = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = fread(&piece, 1, piece.count, pipe)
                guard count > 0 else { break }
                bytes += piece[..<count]
            }
            let status = pclose(pipe)
            return (String(decoding: bytes, as: UTF8.self), status >> 8 & 255)
        }
    }

    /// A folder with root.pem, certificate.pem and key.pem for the time of `body`.
    static func withFolder<Result>(
        _ authority: TestAuthority, _ identity: TransportCredentials.Identity, _ body: (String) async throws -> Result
    ) async throws -> Result {
        var template = Array("/tmp/apus-test-peer-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw RPCError(code: .internalError, message: "no folder") }
        let folder = String(cString: made)
        let files = [("root.pem", authority.rootPEM), ("certificate.pem", identity.certificateChain), ("key.pem", identity.privateKey)]
        for (name, text) in files {
            guard let file = fopen("\(folder)/\(name)", "w") else { continue }
            fputs(text, file)
            fclose(file)
        }
        defer {
            for (name, _) in files { unlink("\(folder)/\(name)") }
            for name in ["port", "stop"] { unlink("\(folder)/\(name)") }
            rmdir(folder)
        }
        return try await body(folder)
    }
}
