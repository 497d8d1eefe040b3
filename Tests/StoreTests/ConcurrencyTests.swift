import PluginAPI
import Raft
import Store
import Testing

@Suite struct ConcurrencyTests {
    @Test func sixtyFourWritersLoseNothing() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory) { $0.snapshotInterval = 200 })
        let counter = try await store.create(makeService("counter"))
        let writers = 64
        let rounds = 10
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<writers {
                group.addTask {
                    for round in 0..<rounds {
                        try await store.update { transaction throws(ApusError) in
                            // Read, add, write: only one after the other adds up.
                            guard var service = transaction.snapshot.services[counter.id] else { throw ApusError(.notFound, "gone") }
                            service.spec.labels["count"] = String((Int(service.spec.labels["count"] ?? "0") ?? 0) + 1)
                            try transaction.update(.service(service), matching: service.version)
                            try transaction.create(.task(makeTask(of: counter.id, slot: UInt64(writer * rounds + round + 1))))
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let snapshot = store.read()
        #expect(snapshot.services[counter.id]?.spec.labels["count"] == String(writers * rounds))
        #expect(snapshot.tasks(ofService: counter.id).count == writers * rounds)
        await store.close()
        let again = try await ObjectStore.open(configuration(directory))
        #expect(again.read().services[counter.id] == snapshot.services[counter.id])
        #expect(Set(again.read().tasks.values) == Set(snapshot.tasks.values))
        #expect(again.read().version == snapshot.version)
        await again.close()
    }

    @Test func aNewNameIsGivenToOneOfManyOnly() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        let winners = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<32 {
                group.addTask { (try? await store.create(makeService("wanted"))) != nil }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(winners == 1)
        #expect(store.read().services.count == 1)
        await store.close()
    }
}
