import ArgumentParser
import Coding
import PluginAPI

struct SwarmCACommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "ca", abstract: "Show the root certificate of the swarm, or go over to another one.",
        discussion: """
            With --rotate the nodes get certificates of a new root while everything goes on: one that is made for it, the one in --ca-cert and \
            --ca-key, or that of --external-ca. Without --external-ca the swarm signs certificates itself.
            """)

    @Flag(help: "Go over to another root.") var rotate = false
    @Option(name: .customLong("ca-cert"), help: ArgumentHelp("The new root certificate, PEM.", valueName: "file")) var certificateFile: String?
    @Option(name: .customLong("ca-key"), help: ArgumentHelp("Its key, PEM.", valueName: "file")) var keyFile: String?
    @Option(help: ArgumentHelp("Signers outside of the swarm: protocol=cfssl,url=https://ca.example/sign,cacert=root.pem.", valueName: "spec"))
    var externalCA: [String] = []
    @Option(parsing: .unconditional, help: ArgumentHelp("How long certificates of nodes are valid.", valueName: "duration"), transform: DurationText.parse)
    var certExpiry: Duration?
    @Flag(name: [.short, .long], help: "Do not wait for the nodes.") var detach = false
    @Flag(name: [.short, .long], help: "Show no progress.") var quiet = false

    func run(with context: CommandContext) async throws {
        guard rotate else {
            guard certificateFile == nil, keyFile == nil, externalCA.isEmpty, certExpiry == nil, !detach, !quiet else {
                throw ApusError(.invalidArgument, "this goes with --rotate only; alone, `apus swarm ca` shows the root certificate")
            }
            try await show(context)
            return
        }
        let authorities = try ExternalCAFlag.parse(externalCA)
        let certificate = try certificateFile.map { path throws(ApusError) in try LocalFile.text(path) } ?? ""
        let key = try keyFile.map { path throws(ApusError) in try LocalFile.text(path) } ?? ""
        if !authorities.isEmpty, !key.isEmpty {
            throw ApusError(.invalidArgument, "an external authority keeps its key to itself: leave --ca-key out")
        }
        if authorities.isEmpty, certificate.isEmpty != key.isEmpty {
            throw ApusError(
                .invalidArgument,
                key.isEmpty ? "the swarm cannot sign with --ca-cert alone: add --ca-key or --external-ca" : "--ca-key needs --ca-cert")
        }
        let baseline = RootRotationProgress.issuers(try await context.client.get("/swarm"), try await context.nodes())
        let changed = try await context.changeSwarm { spec in
            if let certExpiry { spec.ca.nodeCertificateExpiry = certExpiry }
            spec.ca.signingCertificate = certificate
            spec.ca.signingKey = key
            spec.ca.externalCAs = authorities.map { authority in
                var authority = authority
                if authority.caCertificate.isEmpty { authority.caCertificate = certificate }
                return authority
            }
            spec.ca.forceRotate += 1
        }
        if authorities.isEmpty, !changed.before.ca.externalCAs.isEmpty {
            context.console.line("The swarm signs certificates itself from now on.")
        }
        if detach {
            context.console.line("The nodes go over to the new root in the background; `apus info` shows whether they have.")
        } else {
            try await RootRotationFollower(context: context, baseline: baseline, isQuiet: quiet).follow()
        }
    }

    private func show(_ context: CommandContext) async throws(ApusError) {
        let swarm = try await context.client.get("/swarm")
        guard let root = swarm["TLSInfo"]?["TrustRoot"]?.string?.trimmed, !root.isEmpty else {
            throw ApusError(.failed, "the engine shows no root certificate of the swarm")
        }
        context.console.line(root)
        if swarm["RootRotationInProgress"]?.bool == true {
            context.console.errorLine("The swarm is going over to another root; this is the one before. `apus node inspect` shows how far a node is.")
        }
    }
}

extension CommandContext {
    /// All nodes, or those that the query lets through.
    func nodes(_ query: Query = [:]) async throws(ApusError) -> [Node] {
        try (try await client.get("/nodes", query).array ?? []).map { json throws(ApusError) in
            try JSONFields.decode(Node.self, from: json, unknownFields: .ignore)
        }
    }
}

/// How far the nodes are with the certificates of a new root, from what the API says at one moment.
struct RootRotationProgress: Sendable, Hashable {
    /// Keys of authorities, as nodes name them.
    typealias Issuers = Set<[UInt8]>

    /// Names of the nodes that have one, and of those that do not, with what there is to say of them.
    private(set) var done: [String] = []
    private(set) var waiting: [String] = []
    private(set) var isOver: Bool

    var total: Int { done.count + waiting.count }

    /// Who has signed before the rotation. An engine may name the new root at once or only at the end, so the old ones are what is known for sure.
    static func issuers(_ swarm: JSONValue, _ nodes: [Node]) -> Issuers {
        var issuers = Issuers(nodes.compactMap { $0.description.tls?.issuerPublicKey })
        if let key = clusterIssuer(swarm) { issuers.insert(key) }
        return issuers
    }

    private static func clusterIssuer(_ swarm: JSONValue) -> [UInt8]? {
        (try? JSONFields.decode(Cluster.self, from: swarm, unknownFields: .ignore))?.tls.map(\.issuerPublicKey)
    }

    init(swarm: JSONValue, nodes: [Node], baseline: Issuers) {
        isOver = swarm["RootRotationInProgress"]?.bool != true
        let target = Self.clusterIssuer(swarm).flatMap { baseline.contains($0) ? nil : $0 }
        for node in nodes.sorted(by: { ($0.description.hostname, $0.id) < ($1.description.hostname, $1.id) }) {
            // Who waits to be accepted gets its first certificate from the new root.
            guard node.certificate.membership == .accepted else { continue }
            if node.description.tls == nil, node.certificate.state == .none || node.certificate.serial.isEmpty { continue }
            let name = node.description.hostname.isEmpty ? node.id.short : node.description.hostname
            let issuer = node.description.tls?.issuerPublicKey
            if let issuer, target.map({ $0 == issuer }) ?? !baseline.contains(issuer) {
                done.append(name)
            } else {
                let isAway = node.status.state == .down || node.status.state == .disconnected
                waiting.append(isAway ? "\(name) (\(node.status.state.rawValue): start it, or let go of it with `apus node rm`)" : name)
            }
        }
    }

    /// The number alone, and with the nodes that are waited for.
    var summary: String { "\(done.count) of \(total) nodes have a certificate of the new root" }
    var text: String {
        let named = waiting.prefix(3).joined(separator: ", ") + (waiting.count > 3 ? " and \(waiting.count - 3) more" : "")
        return (waiting.isEmpty ? summary : "\(summary); waiting for \(named)").printable
    }
}

/// Follows a rotation to its end.
struct RootRotationFollower: Sendable {
    let context: CommandContext
    let baseline: RootRotationProgress.Issuers
    let isQuiet: Bool

    private static let interval = Duration.milliseconds(500)

    func follow() async throws {
        try await context.watching("This goes on in the background; `apus info` shows whether it is over.") { try await loop() }
    }

    private func loop() async throws {
        var shown: String?
        var live = LiveLines()
        var patience = Patience()
        while true {
            let progress: RootRotationProgress
            do throws(ApusError) {
                let swarm = try await context.client.get("/swarm")
                progress = RootRotationProgress(swarm: swarm, nodes: try await context.nodes(), baseline: baseline)
                patience.end()
            } catch {
                try patience.bear(error, now: context.now())
                try await context.sleep(Self.interval)
                continue
            }
            // At the end nodes may not have said yet what they have: that they all do is what ends it.
            let text = progress.isOver ? "All nodes have certificates of the new root." : progress.text
            if !isQuiet, text != shown {
                if context.console.isTerminal {
                    let columns = context.console.columns
                    var lines = [text.shortened(to: columns)]
                    if !progress.isOver, progress.total > 0 {
                        let share = Double(progress.done.count) / Double(progress.total)
                        lines.insert(ServiceProgressText.bar(share, width: max(1, min(50, columns - 2))), at: 0)
                    }
                    context.console.text(live.replacing(with: lines))
                } else {
                    context.console.line(text)
                }
                shown = text
            }
            if progress.isOver { return }
            try await context.sleep(Self.interval)
        }
    }
}
