import ArgumentParser
import Coding
import PluginAPI

struct SwarmJoinCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "join", abstract: "Take this node into a swarm.",
        discussion: "A manager shows the whole command with `apus swarm join-token worker` or `manager`.")

    @Option(help: "The token that `apus swarm join-token` shows.") var token: String
    @Option(help: ArgumentHelp("Address that other nodes use.", valueName: "ip|interface[:port]")) var advertiseAddr = ""
    @Option(help: ArgumentHelp("Address to listen on.", valueName: "ip|interface[:port]")) var listenAddr = "0.0.0.0:2377"
    @Option(help: ArgumentHelp("Address for traffic between containers.", valueName: "ip|interface")) var dataPathAddr = ""
    @Option(help: "Whether this node takes tasks: active, pause or drain.", transform: WordFlag.parse) var availability: NodeAvailability?
    @Argument(help: ArgumentHelp("A manager; more of them are asked when one is away (port: 2377).", valueName: "host[:port]")) var managers: [String]

    func run(with context: CommandContext) async throws {
        guard token.hasPrefix("SWMTKN-") else {
            throw ApusError(.invalidArgument, "--token \(token): it is no join token; a manager shows it with `apus swarm join-token worker`")
        }
        var body: JSONValue = [
            "JoinToken": .string(token), "RemoteAddrs": JSONValue(managers), "AdvertiseAddr": .string(advertiseAddr),
            "ListenAddr": .string(listenAddr), "DataPathAddr": .string(dataPathAddr),
        ]
        if let availability { body["Availability"] = .string(availability.rawValue) }
        try await context.client.post("/swarm/join", body: body)
        // It has joined: that the role cannot be seen is no failure.
        let isManager = (try? await context.client.get("/info"))?["Swarm"]?["ControlAvailable"]?.bool
        context.console.line("This node joined a swarm\(isManager.map { $0 ? " as a manager" : " as a worker" } ?? "").")
    }
}

struct SwarmJoinTokenCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "join-token", abstract: "Show the command that adds a node, or change its token.")

    @Flag(help: "Make a new token; the old one is no longer accepted.") var rotate = false
    @Flag(name: [.customShort("q"), .long], help: "Show only the token.") var quiet = false
    @Argument(help: "worker or manager.") var role: String

    func run(with context: CommandContext) async throws {
        guard ["worker", "manager"].contains(role) else { throw ApusError(.invalidArgument, "\"\(role)\" is not a role: write worker or manager") }
        if rotate {
            try await context.changeSwarm([role == "worker" ? "rotateWorkerToken" : "rotateManagerToken": "true"]) { _ in }
            if !quiet { context.console.line("The \(role) join token is another one now; nodes that have joined stay.\n") }
        }
        let joining = try await SwarmJoining(context.client)
        if quiet {
            context.console.line(try joining.token(role: role))
        } else {
            for line in try joining.lines(role: role) { context.console.line(line) }
        }
    }
}

struct SwarmLeaveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "leave", abstract: "Take this node out of the swarm.")

    @Flag(name: [.customShort("f"), .long], help: "Leave although this node is a manager; the last one ends the swarm.") var force = false

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        query.add("force", force)
        try await context.client.post("/swarm/leave", query)
        context.console.line("Node left the swarm.")
    }
}

// MARK: Locking

struct SwarmUnlockCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "unlock", abstract: "Unlock this manager with the key of its swarm.",
        discussion: "The key is asked for on a terminal, and read from standard input otherwise.")

    func run(with context: CommandContext) async throws {
        let key = try context.secret("Please enter unlock key: ").trimmed
        guard key.hasPrefix("SWMKEY-") else {
            let what = key.isEmpty ? "the key is empty" : "this is not an unlock key: it begins with SWMKEY-"
            throw ApusError(.invalidArgument, "\(what); a manager that is not locked shows it with `apus swarm unlock-key`")
        }
        try await context.client.post("/swarm/unlock", body: ["UnlockKey": .string(key)])
        context.console.line("This manager is unlocked.")
    }
}

struct SwarmUnlockKeyCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "unlock-key", abstract: "Show the key that unlocks managers, or change it.")

    @Flag(help: "Make a new key; managers take it over by themselves.") var rotate = false
    @Flag(name: [.customShort("q"), .long], help: "Show only the key.") var quiet = false

    func run(with context: CommandContext) async throws {
        if rotate {
            try await context.changeSwarm(["rotateManagerUnlockKey": "true"]) { spec throws(ApusError) in
                guard spec.encryption.autoLockManagers else { throw UnlockKeyText.notLocked }
            }
            if !quiet {
                context.console.line("The unlock key is another one now. Keep the old one until all managers have taken the new one over.\n")
            }
        }
        guard let key = try await context.unlockKey() else { throw UnlockKeyText.notLocked }
        if quiet { context.console.line(key) } else { for line in UnlockKeyText.lines(key) { context.console.line(line) } }
    }
}

enum UnlockKeyText {
    static var notLocked: ApusError {
        ApusError(.conflict, "the managers of this swarm start without a key, so there is none; `apus swarm update --autolock` changes that")
    }

    static func lines(_ key: String) -> [String] {
        [
            "To unlock a manager after it restarts, run `apus swarm unlock` there and provide this key:", "", "    \(key)", "",
            "Keep it where it is safe: without it a manager that restarts cannot come back.",
        ]
    }
}

extension CommandContext {
    /// The key that unlocks managers; `nil` when they are not locked.
    func unlockKey() async throws(ApusError) -> String? {
        let key = try await client.get("/swarm/unlockkey")["UnlockKey"]?.string ?? ""
        return key.isEmpty ? nil : key
    }
}
