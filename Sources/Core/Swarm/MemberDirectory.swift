import Logging
import PluginAPI
import Raft
import Synchronization
import Wire

/// Who the managers are, and where.
///
/// The group's own log says it, from the moment a member has the entry, committed or not: with that alone a group finds itself again after all its
/// members were killed. What the log does not tell (a group that was made before it told, and a member that is on its way in) comes from the one
/// through whom this node joined, from the store, and from what was remembered on disk.
final class MemberDirectory: Sendable {
    private struct State {
        /// Set once, when the store is open.
        weak var node: RaftNode?
        var remembered: [MemberID: GroupMember]
        /// What managers that are in nothing of this said of themselves, the newest last; in memory only.
        var strangers: [GroupMember] = []
    }

    private static let strangerLimit = 16

    private let state: Mutex<State>
    private let file: NodeRecordFile
    private let logger: Logger

    init(_ file: NodeRecordFile, logger: Logger) {
        state = Mutex(State(remembered: Self.table(file.record.members)))
        self.file = file
        self.logger = logger
    }

    private static func table(_ members: [GroupMember]) -> [MemberID: GroupMember] {
        Dictionary(members.filter { $0.memberID != 0 && !$0.address.isEmpty }.map { (MemberID($0.memberID), $0) }) { _, last in last }
    }

    /// Tells whose log it is. Called once, before anybody is looked for.
    func attach(_ node: RaftNode) {
        let members = node.membership.all
        state.withLock { state in
            state.node = node
            // Files of earlier engines have lost digits of large numbers; the group knows them.
            for (number, member) in state.remembered where !members.contains(number) {
                guard let whole = members.first(where: { Double($0.number) == Double(number.number) }) else { continue }
                state.remembered[number] = nil
                var repaired = member
                repaired.memberID = whole.number
                state.remembered[whole] = repaired
            }
        }
    }

    /// Everybody, by what is surest.
    private var known: [MemberID: GroupMember] {
        let (node, remembered) = state.withLock { ($0.node, $0.remembered) }
        return Self.merge(node?.membership, remembered)
    }

    private static func merge(_ membership: Membership?, _ remembered: [MemberID: GroupMember]) -> [MemberID: GroupMember] {
        var known = remembered
        for (number, contact) in membership?.contacts ?? [:] {
            var member = GroupMember()
            member.memberID = number.number
            member.nodeID = contact.node
            member.address = contact.address
            known[number] = member
        }
        return known
    }

    /// `host:port`.
    func address(of member: MemberID) -> String? {
        known[member]?.address ?? state.withLock { state in state.strangers.last { $0.memberID == member.number }?.address }
    }
    func node(of member: MemberID) -> ID? { known[member]?.nodeID }
    var all: [GroupMember] { known.values.sorted { $0.memberID < $1.memberID } }

    /// Takes over what the store says.
    /// - Parameter isNewest: Whether the store holds everything that was decided. Until then it may be long out of date, as after a restart: it can
    ///   tell of members that nobody else tells of, but changes nothing and forgets nobody.
    func follow(_ wanted: [GroupMember], isNewest: Bool) {
        let table = Self.table(wanted)
        change { remembered, membership in
            guard isNewest else { return remembered.merge(table) { known, _ in known } }
            // Members of the group are never forgotten, whatever the store says.
            let kept = Self.merge(membership, remembered).filter { membership?.all.contains($0.key) == true }
            remembered = kept.merging(table) { known, told in membership?.contacts[MemberID(known.memberID)] == nil ? told : known }
        }
    }

    func add(_ more: [GroupMember]) { change { remembered, _ in remembered.merge(Self.table(more)) { _, new in new } } }

    /// What a manager says of where it is, whom nobody else may have told of yet: it could not be answered otherwise.
    func heard(_ node: ID, _ member: MemberID, _ address: String) {
        guard known[member] == nil else { return }
        var stranger = GroupMember()
        stranger.memberID = member.number
        stranger.nodeID = node
        stranger.address = address
        let heard = stranger
        state.withLock { state in
            state.strangers.removeAll { $0.memberID == heard.memberID }
            state.strangers.append(heard)
            if state.strangers.count > Self.strangerLimit { state.strangers.removeFirst() }
        }
    }

    private func change(_ body: (inout [MemberID: GroupMember], Membership?) -> Void) {
        let node = state.withLock { $0.node }
        let membership = node?.membership
        state.withLock { state in body(&state.remembered, membership) }
        do throws(ApusError) {
            // Looked up under the file's lock: whoever writes last writes what is newest.
            try file.update { $0.members = all }
        } catch {
            logger.error("the managers could not be remembered: \(error.message)")
        }
    }
}
