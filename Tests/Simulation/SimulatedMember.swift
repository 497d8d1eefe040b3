@testable import Raft

/// A core with its disk, its state machine, and outputs that wait to be carried out.
struct SimulatedMember {
    struct Work {
        var output: RaftOutput
        /// What came with a leader's snapshot.
        var restored: Registers?
    }

    let id: MemberID
    var core: RaftCore
    var disk: SimulatedDisk
    var registers = Registers()
    /// Since the last restart.
    var queue: [Work] = []
    var isUp = true
    var isSlow = false
    /// Reads that are confirmed and wait for the state machine.
    var confirmed: [(id: UInt64, index: UInt64)] = []
    /// The committed index that the checks have seen.
    var checkedCommit: UInt64 = 0
}

/// What is on its way.
struct SimulatedMessage {
    var message: RaftMessage
    /// With `installSnapshot`.
    var registers: Registers?
}

/// How much of what there is in a run.
struct SimulationProfile {
    var voters = 3
    var spares = 0
    var steps = 0
    var lossPercent = 0
    var duplicatePercent = 0
    var reorderPercent = 0
    /// How often it is a leader that crashes or is cut off.
    var leaderPercent = 0
    /// Weights of what happens in a step.
    var tick = 60
    var work = 400
    var deliver = 400
    var client = 90
    var crash = 0
    var restart = 12
    var partition = 0
    var heal = 6
    var membership = 0
    var transfer = 0
    var snapshot = 0
    var slow = 0
    var connection = 0

    /// A different kind of bad day for each seed: some faults much, some not at all.
    init(isStorm: Bool, using generator: inout SeededGenerator) {
        func maybe(_ values: Int...) -> Int { values.randomElement(using: &generator) ?? 0 }
        voters = maybe(3, 3, 3, 5, 2, 1, 4)
        spares = maybe(0, 1, 2)
        steps = maybe(800, 1600, 3200)
        lossPercent = maybe(0, 0, 5, 20)
        duplicatePercent = maybe(0, 5, 15)
        reorderPercent = maybe(0, 10, 40)
        tick = maybe(40, 100, 160)
        work = maybe(150, 400, 600)
        client = maybe(40, 90, 180)
        crash = maybe(0, 2, 6, 10)
        restart = maybe(4, 12)
        heal = maybe(1, 2, 6)
        partition = maybe(0, 2, 4, 8)
        membership = spares == 0 ? maybe(0, 0, 8) : maybe(8, 25)
        transfer = maybe(0, 0, 3, 8)
        snapshot = maybe(0, 4, 15)
        slow = maybe(0, 3)
        connection = maybe(0, 0, 5)
        guard isStorm || maybe(0, 1, 2) == 0 else { return }
        // A storm: leaders come and go before their entries are everywhere.
        voters = maybe(3, 5, 5)
        steps = maybe(2000, 4000)
        // More messages than arrive would only drown each other: a tick makes about two.
        tick = maybe(100, 160)
        work = 400
        deliver = 450
        client = maybe(60, 120)
        crash = maybe(3, 8)
        restart = maybe(10, 30)
        partition = maybe(5, 12)
        heal = maybe(4, 12)
        reorderPercent = maybe(0, 10, 60)
        leaderPercent = maybe(0, 0, 70)
    }
}

/// What happened in runs, together.
struct SimulationCounts: Sendable, Equatable {
    var runs = 0
    var steps = 0
    var elections = 0
    var committed = 0
    var writes = 0
    var reads = 0
    var restarts = 0
    var membershipChanges = 0
    var snapshotsInstalled = 0
    var partitions = 0
    var messagesLost = 0

    static func += (left: inout Self, right: Self) {
        left.runs += right.runs
        left.steps += right.steps
        left.elections += right.elections
        left.committed += right.committed
        left.writes += right.writes
        left.reads += right.reads
        left.restarts += right.restarts
        left.membershipChanges += right.membershipChanges
        left.snapshotsInstalled += right.snapshotsInstalled
        left.partitions += right.partitions
        left.messagesLost += right.messagesLost
    }

    var text: String {
        "\(runs) runs, \(steps) steps, \(elections) elections, \(committed) entries committed, \(writes) writes and \(reads) reads answered, "
            + "\(restarts) restarts, \(membershipChanges) membership changes, \(snapshotsInstalled) snapshots installed, "
            + "\(partitions) partitions, \(messagesLost) messages lost"
    }
}
