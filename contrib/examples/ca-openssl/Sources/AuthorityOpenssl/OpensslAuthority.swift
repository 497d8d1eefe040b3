public import PluginAPI

/// Signs with the `openssl` command, as an administrator would by hand, and keeps openssl's own index of everything that it issued:
/// `index.txt` in the plugin's state folder.
public final class OpensslAuthority: CertificateAuthority {
    private let host: any HostServices
    private let program: String
    private let workshop: Workshop

    /// Setting `program`: the path of the command, `/usr/bin/openssl`.
    public init(host: any HostServices) {
        self.host = host
        program = host.configuration["program"] ?? "/usr/bin/openssl"
        workshop = Workshop(runDirectory: host.runDirectory)
    }

    public var isExternal: Bool { false }

    /// A key on P-256 and a root that signs itself. The swarm's store keeps both.
    public func createRoot(_ request: CreateRootRequest) async throws(ApusError) -> RootMaterial {
        let folder = try workshop.open()
        defer { workshop.close(folder) }
        let days = max(1, request.lifetime.components.seconds / 86400)
        try await openssl(
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "root.key", "-out", "root.pem",
                "-days", "\(days)", "-subj", "/CN=swarm-ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            ], in: folder)
        var root = RootMaterial()
        root.certificate = try workshop.read("root.pem", in: folder)
        root.key = try workshop.read("root.key", in: folder)
        host.log(.info, "made a root with \(program)")
        return root
    }

    /// `openssl ca` with the names and the lifetime that are asked for; of the request only the key counts.
    public func issue(_ request: IssueRequest) async throws(ApusError) -> IssueAnswer {
        guard !request.root.key.isEmpty else { throw ApusError(.unavailable, "the swarm has no root key to sign with") }
        let unit = request.role == .manager ? "swarm-manager" : "swarm-worker"
        let names = [request.nodeID.text, request.clusterID.text]
        // They become a part of the command's configuration.
        guard names.allSatisfy({ Self.isPlain($0) }) else {
            throw ApusError(.invalidArgument, "a node's or a swarm's id has other characters than letters, digits, - and _")
        }
        let folder = try workshop.open()
        defer { workshop.close(folder) }
        try workshop.write(request.signingRequest, to: "node.csr", in: folder)
        try workshop.write(request.root.certificate, to: "root.pem", in: folder)
        try workshop.write(request.root.key, to: "root.key", in: folder)
        let hosts = [unit, request.nodeID.text] + (request.role == .manager ? ["swarm-ca"] : [])
        try workshop.write(Self.settings(hosts), to: "ca.cnf", in: folder)
        try workshop.write("", to: "index.txt", in: folder)
        // An hour early, for clocks that are behind.
        let begin = Timestamp(nanoseconds: request.now.nanoseconds - 3_600_000_000_000)
        let end = request.now + request.lifetime
        try await openssl(
            [
                "ca", "-batch", "-notext", "-config", "ca.cnf", "-in", "node.csr", "-out", "node.pem", "-cert", "root.pem", "-keyfile", "root.key",
                "-startdate", Self.generalized(begin), "-enddate", Self.generalized(end), "-subj",
                "/O=\(request.clusterID)/OU=\(unit)/CN=\(request.nodeID)",
            ], in: folder)
        try workshop.append(try workshop.read("index.txt", in: folder), to: "\(host.stateDirectory)/index.txt")
        host.count("certificates", by: 1)
        return IssueAnswer(certificateChain: try workshop.read("node.pem", in: folder), expiresAt: end)
    }

    private func openssl(_ arguments: [String], in folder: String) async throws(ApusError) {
        let result = await Command.run(program, arguments, directory: folder)
        guard result.status == 0 else {
            throw ApusError(.failed, "\(program) \(arguments[0]) failed (\(result.status)): \(result.output.suffix(400))")
        }
    }

    private static func isPlain(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 64
            && text.utf8.allSatisfy { (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45 || $0 == 95 }
    }

    /// `20260131120000Z`: RFC 3339 without its signs and its fraction.
    static func generalized(_ time: Timestamp) -> String {
        let digits = time.description.utf8.prefix(19).filter { (48...57).contains($0) }
        return String(decoding: digits, as: UTF8.self) + "Z"
    }

    private static func settings(_ hosts: [String]) -> String {
        """
        [ca]
        default_ca = swarm
        [swarm]
        database = index.txt
        new_certs_dir = .
        default_md = sha256
        unique_subject = no
        rand_serial = yes
        policy = names
        copy_extensions = none
        x509_extensions = node
        [names]
        organizationName = supplied
        organizationalUnitName = supplied
        commonName = supplied
        [node]
        basicConstraints = critical,CA:FALSE
        keyUsage = critical,digitalSignature,keyEncipherment
        extendedKeyUsage = serverAuth,clientAuth
        subjectKeyIdentifier = hash
        authorityKeyIdentifier = keyid
        subjectAltName = \(hosts.map { "DNS:\($0)" }.joined(separator: ","))

        """
    }
}
