import Concurrency
import PluginAPI
import Synchronization
import Testing

@Suite struct AsyncGateTests {
    @Test func oneIsInAtATimeAndAllGetIn() async {
        let gate = AsyncGate()
        let (inside, passed) = (Counter(), Counter())
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<200 {
                group.addTask {
                    await gate.enter()
                    let count = inside.add(1)
                    #expect(count == 1)
                    await ConcurrentTask.yield()
                    inside.add(-1)
                    passed.add(1)
                    gate.leave()
                }
            }
        }
        let (left, all) = (inside.add(0), passed.add(0))
        #expect(left == 0 && all == 200)
    }

    private final class Counter: Sendable {
        private let value = Mutex(0)

        @discardableResult
        func add(_ amount: Int) -> Int {
            value.withLock { value in
                value += amount
                return value
            }
        }
    }
}
