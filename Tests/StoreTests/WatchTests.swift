import PluginAPI
import Raft
import Store
import Testing

@Suite struct WatchTests {
    private func rename(_ id: ID, _ label: String, _ store: ObjectStore) async throws {
        try await store.update { transaction throws(ApusError) in
            guard var service = transaction.snapshot.services[id] else { throw ApusError(.notFound, "gone") }
            service.spec.labels["label"] = label
            try transaction.update(.service(service))
        }
    }

    @Test func aWatcherSeesEveryCommitAfterItsSnapshotInOrder() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        let first = try await store.create(makeService("first"))
        let (snapshot, commits) = store.watch()
        #expect(snapshot.services.count == 1)
        let second = try await store.create(makeService("second"))
        try await rename(first.id, "new", store)
        try await store.update { transaction throws(ApusError) in try transaction.remove(.service, second.id) }
        await store.close()
        var seen: [StoreCommit] = []
        for await commit in commits { seen.append(commit) }
        #expect(seen.count == 3)
        #expect(seen.map(\.version) == seen.map(\.version).sorted())
        #expect(seen[0].changes == [.created(.service(second))])
        guard case .updated(.service(let after), from: .service(let before)) = seen[1].changes.first else {
            Issue.record("\(seen[1])")
            return
        }
        #expect(before == first)
        #expect(after.spec.labels == ["label": "new"])
        #expect(after.version == seen[1].version)
        #expect(seen[2].changes == [.removed(.service(second))])
    }

    @Test func manyWritersAreSeenByAllInTheSameOrderAndAddUpToTheState() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        let watches = (0..<4).map { _ in store.watch().commits }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<16 {
                group.addTask { for round in 0..<10 { try await store.create(makeService("s\(writer)-\(round)")) } }
            }
            try await group.waitForAll()
        }
        await store.close()
        var orders: [[StoreCommit]] = []
        for watch in watches {
            var seen: [StoreCommit] = []
            for await commit in watch { seen.append(commit) }
            orders.append(seen)
        }
        #expect(orders[0].count == 160)
        #expect(orders.allSatisfy { $0 == orders[0] })
        #expect(zip(orders[0], orders[0].dropFirst()).allSatisfy { $0.version < $1.version })
        let names = orders[0].flatMap(\.changes).compactMap { change -> String? in
            if case .created(.service(let service)) = change { service.spec.name } else { nil }
        }
        #expect(Set(names) == Set(store.read().services.values.map(\.spec.name)))
    }

    @Test func aWatchGoesOnFromAVersionThatIsRemembered() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory) { $0.historyLimit = 10 })
        let start = store.read().version
        var versions: [Version] = []
        for number in 0..<15 { versions.append(try await store.create(makeService("s\(number)")).version) }
        let resumed = try #require(store.watch(from: versions[9]))
        let fromNow = try #require(store.watch(from: versions[14]))
        #expect(store.watch(from: Version(index: versions[14].index + 1)) == nil)
        let all = try #require(store.watch(from: start))
        for number in 15..<25 { versions.append(try await store.create(makeService("s\(number)")).version) }
        // Too old by now.
        #expect(store.watch(from: start) == nil)
        await store.close()
        var seen: [Version] = []
        for await commit in resumed { seen.append(commit.version) }
        #expect(seen == Array(versions[10...]))
        seen = []
        for await commit in fromNow { seen.append(commit.version) }
        #expect(seen == Array(versions[15...]))
        seen = []
        for await commit in all { seen.append(commit.version) }
        #expect(seen == versions)
    }

    @Test func aWatcherThatFallsTooFarBehindIsEnded() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory) { $0.watchLimit = 5 })
        let (_, slow) = store.watch()
        let (_, fast) = store.watch()
        var fastSeen = 0
        var iterator = fast.makeAsyncIterator()
        for number in 0..<20 {
            try await store.create(makeService("s\(number)"))
            if await iterator.next() != nil { fastSeen += 1 }
        }
        #expect(fastSeen == 20)
        var slowSeen = 0
        for await _ in slow { slowSeen += 1 }
        #expect(slowSeen == 5)
        await store.close()
    }

    @Test func aWatchThatIsGivenUpIsForgotten() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        let (_, commits) = store.watch()
        let task = ConcurrentTask {
            var count = 0
            for await _ in commits { count += 1 }
            return count
        }
        try await store.create(makeService("a"))
        task.cancel()
        _ = await task.value
        try await store.create(makeService("b"))
        await store.close()
        // A watch of a closed store ends at once.
        for await _ in store.watch().commits { Issue.record("nothing can come") }
    }
}
