import PluginAPI
import Raft
import Synchronization
import Wire

/// Where the managers are: from whom this node joined, from the store, and remembered on disk, for after a restart of all managers
/// nobody knows what is committed before they have found each other.
final class MemberDirectory: Sendable {
    private let members: Mutex<[MemberID: GroupMember]>
    private let onChange: @Sendable ([GroupMember]) -> Void

    /// - Parameter onChange: called, outside of any lock, with all members in rising order.
    init(_ members: [GroupMember], onChange: @escaping @Sendable ([GroupMember]) -> Void) {
        self.members = Mutex(Self.table(members))
        self.onChange = onChange
    }

    private static func table(_ members: [GroupMember]) -> [MemberID: GroupMember] {
        Dictionary(members.filter { $0.memberID != 0 && !$0.address.isEmpty }.map { (MemberID($0.memberID), $0) }) { _, last in last }
    }

    /// `host:port`.
    func address(of member: MemberID) -> String? { members.withLock { $0[member]?.address } }
    func node(of member: MemberID) -> ID? { members.withLock { $0[member]?.nodeID } }
    func member(of node: ID) -> MemberID? { members.withLock { members in members.first { $0.value.nodeID == node }?.key } }
    var all: [GroupMember] { members.withLock { $0.values.sorted { $0.memberID < $1.memberID } } }

    /// Takes over what the store says. Nobody is forgotten while the store knows no manager at all: it is not filled yet.
    func replace(with wanted: [GroupMember]) {
        let table = Self.table(wanted)
        guard !table.isEmpty else { return }
        change { $0 = table }
    }

    func add(_ more: [GroupMember]) { change { $0.merge(Self.table(more)) { _, new in new } } }

    private func change(_ body: (inout [MemberID: GroupMember]) -> Void) {
        let changed = members.withLock { members -> [GroupMember]? in
            let before = members
            body(&members)
            return members == before ? nil : members.values.sorted { $0.memberID < $1.memberID }
        }
        if let changed { onChange(changed) }
    }
}
