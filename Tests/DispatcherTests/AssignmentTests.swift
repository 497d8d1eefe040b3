import PluginAPI
import Testing
import Wire

@testable import Dispatcher

@Suite struct AssignmentTests {
    private func state(_ tasks: Task...) -> MemoryState { state(tasks) }
    private func state(_ tasks: [Task]) -> MemoryState {
        var state = MemoryState()
        for task in tasks { state.put(task) }
        return state
    }

    private func news(_ tasks: ID...) -> Mailbox<ID>.News { Mailbox<ID>.News(keys: Set(tasks)) }

    @Test func theWholeSetAndThenChanges() throws {
        var cursor = AssignmentCursor(node: "n1")
        var set = AssignmentSet(node: "n1")
        func tell(_ messages: [AssignmentsMessage]) throws { for message in messages { _ = try set.apply(message) } }
        var swarm = state(assigned("a"), assigned("b", .failed), assigned("other", node: "n2"), assigned("waiting", .pending))
        try tell(cursor.full(swarm))
        #expect(set.sorted.map(\.id) == ["a", "b"])

        // A status is no news to the node; a desire is.
        swarm.put(assigned("a", .running))
        #expect(cursor.changes(news("a"), swarm).isEmpty)
        var task = assigned("a", .running)
        task.desiredState = .shutdown
        swarm.put(task)
        try tell(cursor.changes(news("a"), swarm))
        #expect(set.tasks["a"]?.desiredState == .shutdown)

        swarm.drop("b")
        swarm.put(assigned("c"))
        try tell(cursor.changes(news("b", "c", "other"), swarm))
        #expect(set.sorted.map(\.id) == ["a", "c"])
        #expect(cursor.changes(news("b", "unheard"), swarm).isEmpty)

        try tell(cursor.changes(Mailbox<ID>.News(isEverything: true), state(assigned("d"))))
        #expect(set.sorted.map(\.id) == ["d"])
    }

    @Test func whatIsLargeComesInPartsAndCountsAsAWhole() throws {
        var cursor = AssignmentCursor(node: "n1")
        let tasks = (0..<50).map { number in
            var task = assigned("t\(number)")
            task.serviceID = ID("s\(number)")
            task.labels["filling"] = String(repeating: "x", count: 100_000)
            return task
        }
        let messages = cursor.full(state(tasks))
        #expect(messages.count > 3)
        #expect(messages.map(\.hasMore) == Array(repeating: true, count: messages.count - 1) + [false])
        var set = AssignmentSet(node: "n1")
        for message in messages.dropLast() {
            #expect(try set.apply(message) == false)
            #expect(set.tasks.isEmpty, "half a set would end the other half")
        }
        #expect(try set.apply(try #require(messages.last)))
        #expect(set.tasks.count == 50)

        // A part that is lost.
        var other = AssignmentSet(node: "n1")
        _ = try other.apply(messages[0])
        #expect(throws: ApusError.self) { try other.apply(messages[2]) }
        var third = AssignmentSet(node: "n1")
        _ = try third.apply(messages[0])
        #expect(throws: ApusError.self) { try third.apply(messages[0]) }
    }

    @Test func gapsAreNoticed() throws {
        func message(_ from: UInt64, _ to: UInt64, full: Bool = false) -> AssignmentsMessage {
            var message = AssignmentsMessage()
            message.isFull = full
            message.appliesTo = from
            message.resultsIn = to
            return message
        }
        var set = AssignmentSet(node: "n1")
        #expect(throws: ApusError.self, "a change of nothing") { try set.apply(message(0, 1)) }
        _ = try set.apply(message(0, 1, full: true))
        _ = try set.apply(message(1, 2))
        for bad in [message(1, 2), message(3, 4), message(2, 2), message(2, 1), message(0, 0, full: true)] {
            #expect(throws: ApusError.self) { try set.apply(bad) }
            #expect(set.version == 2)
        }
        _ = try set.apply(message(2, 3))
    }

    @Test func tasksOfOthersAreNotTaken() throws {
        var message = AssignmentsMessage()
        message.isFull = true
        message.resultsIn = 1
        message.tasks = [assigned("mine"), assigned("theirs", node: "n2"), assigned("")]
        var set = AssignmentSet(node: "n1")
        _ = try set.apply(message)
        #expect(set.sorted.map(\.id) == ["mine"])
    }

    @Test func aMailboxIsBounded() {
        let mailbox = Mailbox<ID>()
        for number in 0...Mailbox<ID>.limit { mailbox.add([ID("t\(number)")]) }
        let news = mailbox.take()
        #expect(news.isEverything && news.keys.isEmpty)
        #expect(mailbox.take().isEmpty)
    }
}
