import Fuzzing
import PluginAPI
import Testing

@testable import Dispatcher

/// The leader's books of tasks that are to serve no more.
@Suite struct WithdrawalTests {
    /// The books by reference, so that an expectation can write into them.
    private final class Books {
        var value: Withdrawals
        init(expecting nodes: Set<ID> = []) { value = Withdrawals(expecting: nodes) }

        var unfinished: Set<ID> { value.unfinished }
        var all: Set<ID> { value.all }
        func withdrawn(on node: ID) -> Set<ID> { value.withdrawn(on: node) }
        func untold(_ session: ID) -> Set<ID> { value.untold(session) }
        func takeCompleted() -> [ID: Set<ID>] { value.takeCompleted() }
        func begin(_ task: ID, on node: ID, telling sessions: [ID]) { value.begin(task, on: node, telling: sessions) }
        func forget(_ task: ID) { value.forget(task) }
        func told(_ session: ID, version: UInt64, of tasks: Set<ID>, stopped: Set<ID>) -> Bool {
            value.told(session, version: version, of: tasks, stopped: stopped)
        }
        func opened(_ session: ID, version: UInt64, unfinished tasks: Set<ID>, knowing known: Set<ID>) -> Bool {
            value.opened(session, version: version, unfinished: tasks, knowing: known)
        }
        func confirm(_ session: ID, version: UInt64) { value.confirm(session, version: version) }
        func gone(_ session: ID) { value.gone(session) }
    }

    @Test func everybodyWhoWasToldConfirms() {
        let books = Books()
        books.begin("t", on: "owner", telling: ["a", "b", "owner"])
        #expect(books.unfinished == ["t"])
        #expect(books.untold("a") == ["t"])
        #expect(books.told("a", version: 3, of: ["t"], stopped: ["t"]))
        #expect(books.told("b", version: 9, of: ["t"], stopped: ["t"]))
        #expect(books.told("owner", version: 2, of: ["t"], stopped: ["t"]))
        #expect(books.untold("a") == [])
        books.confirm("a", version: 2)
        books.confirm("b", version: 20)
        books.confirm("owner", version: 2)
        #expect(books.takeCompleted() == [:], "a has confirmed an older table only")
        books.confirm("a", version: 4)
        #expect(books.takeCompleted() == ["owner": ["t"]], "a later table counts too")
        #expect(books.takeCompleted() == [:], "once")
        #expect(books.withdrawn(on: "owner") == ["t"])
        #expect(books.withdrawn(on: "a") == [])
        books.forget("t")
        #expect(books.withdrawn(on: "owner") == [] && books.all == [])
    }

    @Test func whomItNeverServedIsNotWaitedFor() {
        let books = Books()
        books.begin("nobody", on: "owner", telling: [])
        #expect(books.takeCompleted() == ["owner": ["nobody"]])
        books.begin("t", on: "owner", telling: ["a"])
        #expect(!books.told("a", version: 3, of: ["t"], stopped: []), "no confirmation")
        #expect(books.takeCompleted() == ["owner": ["t"]])
        // A change that was made before the task was to leave says nothing of it.
        books.begin("u", on: "owner", telling: ["a"])
        #expect(!books.told("a", version: 4, of: [], stopped: ["u"]))
        #expect(books.untold("a") == ["u"])
        books.confirm("a", version: 99)
        #expect(books.takeCompleted() == [:])
    }

    @Test func whoGoesIsNotWaitedFor() {
        let books = Books()
        books.begin("t", on: "owner", telling: ["a", "b"])
        #expect(books.told("a", version: 1, of: ["t"], stopped: ["t"]))
        books.gone("a")
        #expect(books.takeCompleted() == [:])
        books.gone("b")
        #expect(books.takeCompleted() == ["owner": ["t"]], "told or not")
        books.begin("u", on: "owner", telling: ["a"])
        books.forget("u")
        books.gone("a")
        books.confirm("a", version: 1)
        #expect(books.takeCompleted() == [:], "it has ended by itself")
    }

    @Test func whoComesBackConfirmsAWholeTable() {
        let books = Books()
        books.begin("t", on: "owner", telling: ["a"])
        books.begin("elsewhere", on: "owner", telling: ["a"])
        #expect(books.told("a", version: 5, of: ["t"], stopped: ["t"]))
        // Its stream broke. The new table has the task that it may have in an old one; what is not in the new one it cannot reach.
        #expect(books.opened("a", version: 6, unfinished: ["t", "elsewhere"], knowing: ["t"]))
        #expect(books.takeCompleted() == ["owner": ["elsewhere"]])
        books.confirm("a", version: 5)
        #expect(books.takeCompleted() == [:])
        books.confirm("a", version: 6)
        #expect(books.takeCompleted() == ["owner": ["t"]])
        #expect(!books.opened("a", version: 7, unfinished: [], knowing: []))
        // One that was begun after the table was made keeps waiting.
        books.begin("late", on: "owner", telling: ["a"])
        #expect(!books.opened("a", version: 8, unfinished: [], knowing: []))
        #expect(books.untold("a") == ["late"])
    }

    @Test func aNewLeaderWaitsForThoseWhoMayHaveBeenTold() {
        let books = Books(expecting: ["a", "b", "c"])
        books.begin("t", on: "owner", telling: [])
        #expect(books.takeCompleted() == [:])
        #expect(books.opened("a", version: 1, unfinished: ["t"], knowing: ["t"]))
        #expect(!books.opened("b", version: 1, unfinished: ["t"], knowing: []))
        books.confirm("a", version: 1)
        #expect(books.takeCompleted() == [:], "c has not come")
        books.gone("c")
        #expect(books.takeCompleted() == ["owner": ["t"]])
    }

    /// Whatever the order, a task is withdrawn exactly when nobody is left who was told that it serves and has not confirmed.
    @Test(arguments: 1...50 as ClosedRange<UInt64>)
    func nobodyIsForgottenAndNothingHangs(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        let books = Books()
        let nodes = (0..<5).map { ID("n\($0)") }
        var versions = Dictionary(uniqueKeysWithValues: nodes.map { ($0, UInt64(1)) })
        /// What each task waits for, done in the most simple way: a version of a node, 0 until it is told.
        var model: [ID: [ID: UInt64]] = [:]
        var done: Set<ID> = []
        for step in 0..<500 {
            let node = nodes.randomElement(using: &generator) ?? "n0"
            switch Int.random(in: 0..<6, using: &generator) {
            case 0:
                let task = ID("t\(step)")
                let told = nodes.filter { _ in Bool.random(using: &generator) }
                books.begin(task, on: "owner", telling: told)
                model[task] = Dictionary(uniqueKeysWithValues: told.map { ($0, 0) })
            case 1, 2:
                versions[node, default: 1] += 1
                let version = versions[node] ?? 1
                let untold = books.untold(node)
                #expect(untold == Set(model.keys.filter { model[$0]?[node] == 0 }), "seed \(seed)")
                let stopped = untold.filter { _ in Bool.random(using: &generator) }
                #expect(books.told(node, version: version, of: untold, stopped: stopped) == !stopped.isEmpty)
                for task in untold { model[task]?[node] = stopped.contains(task) ? version : nil }
            case 3:
                let version = UInt64.random(in: 1...(versions[node] ?? 1), using: &generator)
                books.confirm(node, version: version)
                for task in model.keys { if let wanted = model[task]?[node], wanted > 0, wanted <= version { model[task]?[node] = nil } }
            case 4:
                guard Int.random(in: 0..<5, using: &generator) == 0 else { continue }
                books.gone(node)
                for task in model.keys { model[task]?[node] = nil }
            default:
                guard Int.random(in: 0..<5, using: &generator) == 0, let task = model.keys.sorted().randomElement(using: &generator) else { continue }
                books.forget(task)
                model[task] = nil
                done.remove(task)
            }
            for tasks in books.takeCompleted().values { done.formUnion(tasks) }
            #expect(done == Set(model.keys.filter { model[$0]?.isEmpty ?? true }), "seed \(seed), step \(step)")
        }
    }
}
