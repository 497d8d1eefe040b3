import PluginAPI
import Raft
import Store
import Testing

@Suite struct ModelTests {
    /// Random transactions on the store and on plain dictionaries come to the same, also after the store was closed and opened.
    @Test(arguments: 0..<12 as Range<UInt64>)
    func randomTransactions(_ seed: UInt64) async throws {
        var generator = SeededGenerator(seed: seed)
        let directory = try TemporaryDirectory()
        let settings = configuration(directory) { $0.snapshotInterval = 40 }
        var store = try await ObjectStore.open(settings)
        var services: [ID: Service] = [:]
        var tasks: [ID: Task] = [:]
        for step in 0..<150 {
            var newServices = services
            var newTasks = tasks
            var changes: [Change] = []
            var mustFail = false
            for _ in 0..<Int.random(in: 1...4, using: &generator) where !mustFail {
                switch Int.random(in: 0..<7, using: &generator) {
                case 0:
                    let service = makeService("name\(Int.random(in: 0..<12, using: &generator))", id: ID("s\(step)-\(changes.count)"))
                    mustFail = newServices.values.contains { $0.spec.name == service.spec.name }
                    newServices[service.id] = service
                    changes.append(.create(.service(service)))
                case 1:
                    guard var service = newServices.values.sorted(by: { $0.id < $1.id }).randomElement(using: &generator) else { continue }
                    service.spec.name = "name\(Int.random(in: 0..<12, using: &generator))"
                    service.spec.labels["step"] = "\(step)"
                    mustFail = newServices.values.contains { $0.spec.name == service.spec.name && $0.id != service.id }
                    newServices[service.id] = service
                    changes.append(.update(.service(service)))
                case 2:
                    guard let service = newServices.values.sorted(by: { $0.id < $1.id }).randomElement(using: &generator) else { continue }
                    newServices[service.id] = nil
                    changes.append(.remove(.service, service.id))
                case 3, 4:
                    var task = makeTask(
                        of: ID("service\(Int.random(in: 0..<3, using: &generator))"), on: ID("node\(Int.random(in: 0..<3, using: &generator))"))
                    task.id = ID("t\(step)-\(changes.count)")
                    newTasks[task.id] = task
                    changes.append(.create(.task(task)))
                case 5:
                    guard var task = newTasks.values.sorted(by: { $0.id < $1.id }).randomElement(using: &generator) else { continue }
                    task.nodeID = ID("node\(Int.random(in: 0..<3, using: &generator))")
                    task.status.state = .running
                    newTasks[task.id] = task
                    changes.append(.update(.task(task)))
                default:
                    let id = newTasks.keys.sorted().randomElement(using: &generator) ?? "missing"
                    mustFail = newTasks[id] == nil
                    newTasks[id] = nil
                    changes.append(.remove(.task, id))
                }
            }
            let planned = changes
            do {
                try await store.update { transaction throws(ApusError) in
                    for change in planned { try change.make(in: &transaction) }
                }
                #expect(!mustFail, "seed \(seed), step \(step)")
                (services, tasks) = (newServices, newTasks)
            } catch {
                #expect(mustFail, "seed \(seed), step \(step): \(error)")
            }
            if Int.random(in: 0..<25, using: &generator) == 0 {
                let before = store.read()
                await store.close()
                store = try await ObjectStore.open(settings)
                #expect(store.read().version == before.version)
                #expect(Set(store.read().services.values) == Set(before.services.values))
                #expect(Set(store.read().tasks.values) == Set(before.tasks.values))
            }
            try check(store.read(), services, tasks, "seed \(seed), step \(step)")
        }
        await store.close()
    }

    private enum Change {
        case create(StoredObject)
        case update(StoredObject)
        case remove(ObjectKind, ID)

        func make(in transaction: inout StoreTransaction) throws(ApusError) {
            switch self {
            case .create(let object): try transaction.create(object)
            case .update(let object): try transaction.update(object)
            case .remove(let kind, let id): try transaction.remove(kind, id)
            }
        }
    }

    private func check(_ snapshot: StoreSnapshot, _ services: [ID: Service], _ tasks: [ID: Task], _ place: Comment) throws {
        func bare(_ service: Service) -> Service {
            var copy = service
            (copy.version, copy.createdAt, copy.updatedAt) = (Version(), .never, .never)
            return copy
        }
        func bare(_ task: Task) -> Task {
            var copy = task
            (copy.version, copy.createdAt, copy.updatedAt) = (Version(), .never, .never)
            return copy
        }
        #expect(Dictionary(uniqueKeysWithValues: snapshot.services.values.map { ($0.id, bare($0)) }) == services.mapValues { bare($0) }, place)
        #expect(Dictionary(uniqueKeysWithValues: snapshot.tasks.values.map { ($0.id, bare($0)) }) == tasks.mapValues { bare($0) }, place)
        for number in 0..<12 {
            #expect(snapshot.service(named: "name\(number)")?.id == services.values.first { $0.spec.name == "name\(number)" }?.id, place)
        }
        for number in 0..<3 {
            #expect(
                snapshot.tasks(onNode: ID("node\(number)")).map(\.id) == tasks.values.filter { $0.nodeID == ID("node\(number)") }.map(\.id).sorted(),
                place)
            #expect(
                snapshot.tasks(ofService: ID("service\(number)")).map(\.id)
                    == tasks.values.filter { $0.serviceID == ID("service\(number)") }.map(\.id).sorted(), place)
        }
    }
}
