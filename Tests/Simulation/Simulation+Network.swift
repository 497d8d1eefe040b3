@testable import Raft

extension Simulation {
    /// Puts messages on their way; a snapshot goes with what the disk has.
    func transmit(_ index: Int, _ messages: [RaftMessage]) {
        for message in messages {
            guard case .installSnapshot(let metadata) = message.content else {
                network.append(SimulatedMessage(message: message))
                continue
            }
            if members[index].disk.snapshot == metadata {
                network.append(SimulatedMessage(message: message, registers: members[index].disk.registers))
            } else {
                // A newer one has replaced it.
                step(index, .unreachable(message.to))
            }
        }
        // A queue has a bound, and what falls out of it is lost.
        while network.count > 400 { lose(network.remove(at: random(100))) }
    }

    func lose(_ lost: SimulatedMessage) {
        counts.messagesLost += 1
        if case .installSnapshot = lost.message.content, let from = index(lost.message.from) { step(from, .unreachable(lost.message.to)) }
    }

    func deliver(_ position: Int) {
        let next = network.remove(at: position)
        guard let from = index(next.message.from), let to = index(next.message.to) else { return }
        guard !blocked.contains(from * members.count + to), !chance(lossPercent), members[to].isUp else { return lose(next) }
        // A repeated snapshot is possible too: a sender that did not hear that it arrived.
        if chance(profile.duplicatePercent) { network.append(next) }
        if case .installSnapshot = next.message.content {
            let output = step(to, .received(next.message), restored: next.registers)
            if output.restore != nil, next.registers == nil { checks.fail("a snapshot without content") }
            step(from, .snapshotDelivered(next.message.to))
        } else {
            step(to, .received(next.message))
        }
    }

    // MARK: What happens

    func chaos() {
        let weights: [(Int, (Simulation) -> Void)] = [
            (profile.tick, { $0.step($0.random($0.members.count), .tick) }),
            (profile.work, { $0.workSomewhere() }),
            (profile.deliver, { $0.deliverSomething() }),
            (profile.client, { $0.clientActs() }),
            (profile.crash, { $0.crash($0.victim()) }),
            (profile.restart, { $0.restart($0.random($0.members.count)) }),
            (profile.partition, { $0.partition() }),
            (profile.heal, { $0.blocked = [] }),
            (profile.membership, { $0.changeMembership() }),
            (profile.transfer, { $0.transfer() }),
            (profile.snapshot, { $0.takeSnapshot($0.random($0.members.count)) }),
            (profile.slow, { simulation in simulation.members[simulation.random(simulation.members.count)].isSlow.toggle() }),
            (profile.connection, { $0.breakConnection() }),
        ]
        var chosen = random(weights.reduce(0) { $0 + $1.0 })
        for (weight, action) in weights {
            if chosen < weight { return action(self) }
            chosen -= weight
        }
    }

    private func workSomewhere() {
        let index = random(members.count)
        if members[index].isSlow, !chance(10) { return }
        work(index)
    }

    private func deliverSomething() {
        guard !network.isEmpty else { return }
        deliver(chance(reorderPercent) ? random(network.count) : 0)
    }

    /// In a storm it is mostly the leader that is hit.
    private func victim() -> Int { chance(profile.leaderPercent) ? someLeader() ?? random(members.count) : random(members.count) }

    private func partition() {
        counts.partitions += 1
        let count = members.count
        let one = victim()
        switch random(4) {
        case 0:
            // One is cut off.
            for other in 0..<count where other != one {
                blocked.insert(one * count + other)
                blocked.insert(other * count + one)
            }
        case 1:
            // One hears nothing, or is not heard.
            let hears = chance(50)
            for other in 0..<count where other != one { blocked.insert(hears ? one * count + other : other * count + one) }
        case 2:
            // Two sides.
            let side = random(1 << count)
            for from in 0..<count {
                for to in 0..<count where (side >> from) & 1 != (side >> to) & 1 { blocked.insert(from * count + to) }
            }
        default:
            blocked.insert(one * count + random(count))
        }
        note("partition \(blocked.sorted())")
    }

    private func breakConnection() {
        step(random(members.count), .unreachable(members[random(members.count)].id))
    }

    /// A member that believes to lead; sometimes there are two.
    func someLeader() -> Int? { members.indices.filter { members[$0].isUp && members[$0].core.role == .leader }.randomElement(using: &generator) }

    private func changeMembership() {
        guard let leader = someLeader() else { return }
        let id = members[random(members.count)].id
        let change: MembershipChange
        let membership = members[leader].core.membership
        if membership.learners.contains(id) {
            change = chance(75) ? .promote(id) : .remove(id)
        } else if membership.voters.contains(id) {
            change = .remove(id)
        } else {
            change = .addLearner(id)
        }
        let output = step(leader, .changeMembers(id: 0, change))
        counts.membershipChanges += output.accepted.count
    }

    private func transfer() {
        guard let leader = someLeader() else { return }
        step(leader, .transferLeadership(to: members[random(members.count)].id))
    }

    private func clientActs() {
        // Impatience: it does not know what became of its request, and goes on.
        if chance(15) { clients.giveUp(using: &generator) }
        guard let client = clients.idle(using: &generator) else { return }
        let target = chance(70) ? someLeader() ?? random(members.count) : random(members.count)
        guard members[target].isUp else { return }
        let key = random(Registers.count)
        if chance(50) {
            guard let request = clients.beginWrite(client, key) else { return }
            let output = step(target, .propose(id: request.id, payload: Registers.command(key, request.value)))
            if let accepted = output.accepted.first(where: { $0.id == request.id }) {
                clients.accepted(request.id, target, accepted.position)
            }
        } else {
            guard let id = clients.beginRead(client, key, target) else { return }
            step(target, .readIndex(id: id))
        }
    }

    // MARK: The evening

    func calmTick() {
        for index in members.indices { step(index, .tick) }
        settle()
    }

    /// Until nothing is left to do.
    func settle() {
        var rounds = 0
        while checks.violation == nil {
            rounds += 1
            if rounds > 20_000 { return checks.fail("the group does not come to rest") }
            var isIdle = true
            for index in members.indices {
                while members[index].isUp, !members[index].queue.isEmpty {
                    work(index)
                    isIdle = false
                }
            }
            if !network.isEmpty {
                deliver(0)
                isIdle = false
            }
            if isIdle { return }
        }
    }

    /// Everybody comes back, the network is whole; then the group must work, and all must be equal.
    func heal() {
        blocked = []
        lossPercent = 0
        note("evening")
        for index in members.indices {
            members[index].isSlow = false
            restart(index)
        }
        // With election times this short draws are frequent, and a leader that was removed may first have to win once more.
        for _ in 0..<60 {
            for _ in 0..<settings.electionTicks { calmTick() }
            guard checks.violation == nil else { return }
            guard let leader = establishedLeader, !members[leader].core.isChangingMembership else { continue }
            return checkAgreement(leader)
        }
        checks.fail("no leader in the evening")
    }

    private var establishedLeader: Int? {
        members.indices.filter { members[$0].core.isEstablishedLeader }.max { members[$0].core.term < members[$1].core.term }
    }

    private func checkAgreement(_ leader: Int) {
        guard let last = step(leader, .propose(id: 0, payload: Registers.command(0, .max))).accepted.first else {
            return checks.fail("the leader of the evening accepts nothing")
        }
        for _ in 0..<5 * settings.electionTicks { calmTick() }
        guard checks.violation == nil else { return }
        let registers = members[leader].registers
        guard registers.position.index >= last.position.index else { return checks.fail("the last proposal is not decided") }
        for id in members[leader].core.membership.all.sorted() {
            guard let index = index(id) else { continue }
            if members[index].registers != registers { checks.fail("\(id) is not equal to the leader in the evening") }
        }
    }
}
