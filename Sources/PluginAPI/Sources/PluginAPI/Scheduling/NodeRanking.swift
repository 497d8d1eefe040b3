/// How good a node is for a task: the lowest rank gets it. Numbers are compared in order; equal ranks go by the node's id.
@frozen
public struct NodeRank: Sendable, Hashable, Comparable {
    public var first: Int64
    public var second: Int64
    public var third: Int64

    @inlinable
    public init(_ first: Int64, _ second: Int64 = 0, _ third: Int64 = 0) {
        self.first = first
        self.second = second
        self.third = third
    }

    @inlinable
    public init(_ first: Int, _ second: Int = 0, _ third: Int = 0) {
        self.init(Int64(first), Int64(second), Int64(third))
    }

    @inlinable
    public static func < (left: NodeRank, right: NodeRank) -> Bool {
        if left.first != right.first { return left.first < right.first }
        if left.second != right.second { return left.second < right.second }
        return left.third < right.third
    }
}

/// A node that fits, waiting for its turn.
struct Candidate {
    let slot: Int
    let id: ID
    /// Tasks of this version fail here again and again: the last resort.
    let isFailing: Bool
    var rank: NodeRank

    func precedes(_ other: Candidate) -> Bool {
        if isFailing != other.isFailing { return other.isFailing }
        if rank != other.rank { return rank < other.rank }
        return id < other.id
    }
}

/// A binary heap of candidates, the best on top.
struct CandidateHeap {
    private var items: [Candidate] = []

    init(_ items: [Candidate]) {
        self.items = items
        for index in stride(from: items.count / 2 - 1, through: 0, by: -1) { sink(index) }
    }

    var best: Candidate? { items.first }

    mutating func removeBest() {
        guard let last = items.popLast(), !items.isEmpty else { return }
        items[0] = last
        sink(0)
    }

    mutating func updateBest(rank: NodeRank) {
        guard !items.isEmpty else { return }
        items[0].rank = rank
        sink(0)
    }

    private mutating func sink(_ start: Int) {
        var index = start
        while true {
            var least = index
            for child in [2 * index + 1, 2 * index + 2] where child < items.count && items[child].precedes(items[least]) { least = child }
            guard least != index else { return }
            items.swapAt(index, least)
            index = least
        }
    }
}

/// The candidates as a tree: one level for each placement preference, one branch for each value of its label, heaps at the leaves.
struct PreferenceTree {
    private var branches: [PreferenceTree] = []
    private var heap = CandidateHeap([])
    /// Tasks of the service in the whole branch, also on nodes that take no more.
    private var taskCount = 0

    /// `labels`: for every level, the value that a slot has. `counts`: tasks of the service for each slot.
    init(_ candidates: [Candidate], counts: [Int: Int], levels: Int, label: (_ level: Int, _ slot: Int) -> String) {
        self.init(candidates[...], counts: Array(counts), level: 0, levels: levels, label: label)
    }

    private init(
        _ candidates: ArraySlice<Candidate>, counts: [(key: Int, value: Int)], level: Int, levels: Int,
        label: (_ level: Int, _ slot: Int) -> String
    ) {
        guard level < levels else {
            heap = CandidateHeap(Array(candidates))
            taskCount = counts.reduce(0) { $0 + $1.value }
            return
        }
        taskCount = counts.reduce(0) { $0 + $1.value }
        let groups = Dictionary(grouping: candidates) { label(level, $0.slot) }
        let countGroups = Dictionary(grouping: counts) { label(level, $0.key) }
        for value in groups.keys.sorted() {
            branches.append(
                PreferenceTree((groups[value] ?? [])[...], counts: countGroups[value] ?? [], level: level + 1, levels: levels, label: label))
        }
    }

    /// Takes the best node of the branch with the fewest tasks. `use` places the task and returns the node's new rank, or `nil` when it takes no more.
    mutating func take(_ use: (Candidate) -> NodeRank?) -> Bool {
        if branches.isEmpty {
            guard let best = heap.best else { return false }
            taskCount += 1
            if let rank = use(best) { heap.updateBest(rank: rank) } else { heap.removeBest() }
            return true
        }
        while let index = branches.indices.min(by: { branches[$0].taskCount < branches[$1].taskCount }) {
            if branches[index].take(use) {
                taskCount += 1
                return true
            }
            branches.remove(at: index)
        }
        return false
    }
}
