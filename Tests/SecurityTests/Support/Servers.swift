import Files
import Foundation
import Glibc
import PluginAPI

/// A program that listens on a port of the loopback until the test is over.
final class Server {
    private let process = Process()
    let port: Int

    /// Starts it, and waits until the port takes connections.
    init(_ program: String, _ arguments: (Int) -> [String], directory: String, log: String) async throws {
        var found = 0
        for _ in 0..<50 where found == 0 {
            let candidate = Int.random(in: 20000...31000)
            if Self.connects(to: candidate) == false { found = candidate }
        }
        port = found
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments(port)
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        let output = FileHandle(forWritingAtPath: log)
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let port = port
        try await eventually("\(program) listens") { Self.connects(to: port) }
    }

    func end() {
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    static func connects(to port: Int) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port)).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
        }
    }

    /// Answers a POST to `/NAME` with the file NAME of its folder; `/huge`, `/slow` and `/broken` as their names say.
    static let fake = """
        import http.server, sys, time, os
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get('Content-Length', 0)))
                name = self.path.strip('/')
                if name == 'slow':
                    time.sleep(300)
                if name == 'broken':
                    self.send_response(500); self.end_headers(); self.wfile.write(b'oops'); return
                self.send_response(200); self.end_headers()
                if name == 'huge':
                    try:
                        while True: self.wfile.write(b'{' * 65536)
                    except OSError: return
                self.wfile.write(open(os.path.join(sys.argv[2], name), 'rb').read())
            def log_message(self, *_): pass
        http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
        """
}
