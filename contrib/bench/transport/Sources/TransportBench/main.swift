// One side of a measurement; run.sh puts them together.
//   TransportBench certificates FOLDER
//   TransportBench ours|nio serve FOLDER          prints its port, then serves until it is killed
//   TransportBench ours|nio load FOLDER PORT      prints "NAME NUMBER" lines
import GRPCCore
import GRPCNIOTransportHTTP2
import Glibc
import Logging
import NIOCore
import OpenSSL
import PluginAPI
import Transport

let arguments = CommandLine.arguments

func text(_ path: String) -> String {
    guard let file = fopen(path, "r") else { return "" }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes.prefix(count), as: UTF8.self)
}

func write(_ text: String, _ path: String) {
    guard let file = fopen(path, "w") else { return }
    fputs(text, file)
    fclose(file)
}

if arguments.count == 3, arguments[1] == "certificates" {
    let folder = arguments[2]
    let key = try PrivateKey.generate()
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    let now = Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000)
    let root = try CertificateSigning.selfSigned(key: key, subject: DistinguishedName(commonName: "ca"), now: now, lifetime: .seconds(86_400))
    write(try root.pem(), "\(folder)/root.pem")
    for name in ["server", "client"] {
        let own = try PrivateKey.generate()
        let subject = DistinguishedName(commonName: name, organizationalUnit: "swarm-manager", organization: "bench")
        let certificate = try CertificateSigning.sign(
            CertificateRequest(key: own, subject: subject), subject: subject, alternativeNames: ["localhost"], authority: root, authorityKey: key,
            now: now,
            lifetime: .seconds(86_000))
        write(try certificate.pem(), "\(folder)/\(name).pem")
        write(try own.pem(), "\(folder)/\(name).key")
    }
    exit(0)
}

guard arguments.count >= 4 else {
    print("see the head of main.swift")
    exit(2)
}
let folder = arguments[3]
let isOurs = arguments[1] == "ours"
var logger = Logger(label: "bench")
logger.logLevel = .critical

func source(_ name: String) -> TLSConfig.CertificateSource { .bytes(Array(text("\(folder)/\(name)").utf8), format: .pem) }
func key(_ name: String) -> TLSConfig.PrivateKeySource { .bytes(Array(text("\(folder)/\(name)").utf8), format: .pem) }

if arguments[2] == "serve" {
    var configuration = TransportConfiguration()
    // A thousand handshakes at once from one address are what is measured here.
    configuration.strangers.connectionsPerAddress = 100_000
    configuration.strangers.connections = 100_000
    if isOurs {
        let credentials = try TransportCredentials(
            roots: text("\(folder)/root.pem"),
            identity: .init(certificateChain: text("\(folder)/server.pem"), privateKey: text("\(folder)/server.key")))
        let transport = NodeServerTransport(host: "127.0.0.1", port: 0, security: .tls(credentials), configuration: configuration, logger: logger)
        try await serve(transport) { try await transport.listeningAddress().port ?? 0 }
    } else {
        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: 0),
            transportSecurity: .mTLS(certificateChain: [source("server.pem")], privateKey: key("server.key")) {
                $0.trustRoots = .certificates([source("root.pem")])
                $0.clientCertificateVerification = .noHostnameVerification
            })
        try await serve(transport) { try await transport.listeningAddress.ipv4?.port ?? 0 }
    }
} else if arguments.count >= 5, let port = Int(arguments[4]) {
    if isOurs {
        let credentials = try TransportCredentials(
            roots: text("\(folder)/root.pem"),
            identity: .init(certificateChain: text("\(folder)/client.pem"), privateKey: text("\(folder)/client.key")))
        try await load { try NodeClientTransport(host: "127.0.0.1", port: port, security: .tls(credentials), logger: logger) }
    } else {
        try await load {
            try HTTP2ClientTransport.Posix(
                target: .ipv4(address: "127.0.0.1", port: port),
                transportSecurity: .mTLS(certificateChain: [source("client.pem")], privateKey: key("client.key")) {
                    $0.trustRoots = .certificates([source("root.pem")])
                    $0.serverCertificateVerification = .noHostnameVerification
                })
        }
    }
}
