extension SchedulingView {
    /// The nodes that can take the task now, in the order of their ids. With a task that belongs to a node from the start, that node or none.
    public func candidates(for task: Task) -> [NodeInfo] {
        let requirements = TaskRequirements(task)
        if !task.nodeID.isEmpty {
            return node(task.nodeID).flatMap { requirements.obstacle(on: $0) == nil ? [$0] : nil } ?? []
        }
        return slots.filter { $0.facts.isKnown && requirements.obstacle(on: $0) == nil }.sorted { $0.id < $1.id }
    }

    /// Why no node takes the task, with counts; what `candidates` leaves out.
    public func reason(against task: Task) -> String { reason(against: task, TaskRequirements(task)) }

    /// Places the tasks: each on the node with the lowest rank of those that fit, and counts it there.
    ///
    /// Equal tasks, those of one version of a service, are filtered once and share a heap, so the work grows with groups × nodes and tasks × log(nodes).
    /// A rank may depend on the node and on the task's service, and on nothing else that a placement changes: it is asked again only for the node just chosen.
    /// Nodes on which five tasks of the version failed within five minutes come last; placement preferences come first, if they are honoured.
    /// Tasks that name a node (global services) go there or nowhere.
    public mutating func schedule(
        _ request: ScheduleRequest, honoursPreferences: Bool = true, ranking: (_ node: NodeInfo, _ task: Task) -> NodeRank
    ) -> ScheduleAnswer {
        var answer = ScheduleAnswer()
        answer.placements.reserveCapacity(request.tasks.count)
        for group in Self.groups(request.tasks) {
            let first = request.tasks[group[0]]
            let requirements = TaskRequirements(first)
            var floating: [Int] = []
            for index in group {
                let task = request.tasks[index]
                if task.nodeID.isEmpty {
                    floating.append(index)
                } else if let reason = settle(task, requirements) {
                    answer.reasons[task.id] = reason
                } else {
                    answer.placements[task.id] = task.nodeID
                }
            }
            guard !floating.isEmpty else { continue }
            var tree = tree(for: first, requirements, request.now, honoursPreferences, ranking)
            var placed = 0
            for index in floating {
                let task = request.tasks[index]
                let found = tree.take { candidate in
                    answer.placements[task.id] = candidate.id
                    place(task, on: candidate.id)
                    return requirements.obstacle(on: slots[candidate.slot]) == nil ? ranking(slots[candidate.slot], first) : nil
                }
                guard found else { break }
                placed += 1
            }
            guard placed < floating.count else { continue }
            let reason = reason(against: first, requirements)
            for index in floating[placed...] { answer.reasons[request.tasks[index].id] = reason }
        }
        return answer
    }

    /// Indexes of equal tasks, in the order in which the groups appear.
    private static func groups(_ tasks: [Task]) -> [[Int]] {
        var groups: [[Int]] = []
        var known: [ServiceVersion: [Int]] = [:]
        for index in tasks.indices {
            let key = ServiceVersion(tasks[index])
            if !tasks[index].serviceID.isEmpty,
                let group = known[key]?.first(where: {
                    tasks[groups[$0][0]].spec == tasks[index].spec && tasks[groups[$0][0]].ports == tasks[index].ports
                })
            {
                groups[group].append(index)
            } else {
                known[key, default: []].append(groups.count)
                groups.append([index])
            }
        }
        return groups
    }

    /// Places a task on the node that it names, or returns why not.
    private mutating func settle(_ task: Task, _ requirements: TaskRequirements) -> String? {
        guard let node = node(task.nodeID) else { return "no suitable node (node \(task.nodeID) is gone)" }
        if let obstacle = requirements.obstacle(on: node) {
            var tally = ObstacleTally()
            tally.count(obstacle)
            return tally.reason
        }
        place(task, on: task.nodeID)
        return nil
    }

    private func reason(against task: Task, _ requirements: TaskRequirements) -> String {
        var tally = ObstacleTally()
        for node in slots where node.facts.isKnown {
            if let obstacle = requirements.obstacle(on: node) { tally.count(obstacle) }
        }
        return tally.reason
    }

    private func tree(
        for task: Task, _ requirements: TaskRequirements, _ now: Timestamp, _ honoursPreferences: Bool, _ ranking: (NodeInfo, Task) -> NodeRank
    ) -> PreferenceTree {
        var candidates: [Candidate] = []
        for slot in slots.indices where slots[slot].facts.isKnown && requirements.obstacle(on: slots[slot]) == nil {
            let isFailing = slots[slot].recentFailures(of: task, now: now) >= NodeInfo.failureLimit
            candidates.append(Candidate(slot: slot, id: slots[slot].id, isFailing: isFailing, rank: ranking(slots[slot], task)))
        }
        let labels = honoursPreferences ? (task.spec.placement?.preferences ?? []).compactMap { $0.spread?.label } : []
        return PreferenceTree(candidates, counts: labels.isEmpty ? [:] : slots(ofService: task.serviceID), levels: labels.count) { level, slot in
            let node = slots[slot].facts.node
            switch labels[level] {
            case .node(let name): return node.spec.labels[name] ?? ""
            case .engine(let name): return node.description.engine.labels[name] ?? ""
            }
        }
    }
}

/// A label that tasks are spread over.
enum SpreadLabel: Sendable, Hashable {
    case node(String)
    case engine(String)
}

extension SpreadOver {
    /// `nil` unless the descriptor is `node.labels.<label>` or `engine.labels.<label>`.
    var label: SpreadLabel? {
        let words = descriptor.lowercased()
        if words.hasPrefix("node.labels."), words.utf8.count > 12 { return .node(String(descriptor.dropFirst(12))) }
        if words.hasPrefix("engine.labels."), words.utf8.count > 14 { return .engine(String(descriptor.dropFirst(14))) }
        return nil
    }

    /// Whether tasks can be spread over it: `node.labels.<label>` or `engine.labels.<label>`.
    public var isValid: Bool { label != nil }
}
