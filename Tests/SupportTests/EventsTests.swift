import Events
import PluginAPI
import Testing

@Suite struct EventsTests {
    /// A reader that is cancelled holds its task's lock, which whoever publishes needs to wake it: neither may wait for the other.
    @Test func readersLeaveWhileEventsArePublished() async {
        let hub = EventHub()
        await withTaskGroup(of: Void.self) { group in
            let publishing = ConcurrentTask {
                while !ConcurrentTask.isCancelled {
                    hub.publish(EngineEvent(type: "node", action: "update", actorID: "x", time: .never))
                    await ConcurrentTask.yield()
                }
            }
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<3000 {
                        let reader = ConcurrentTask { for await _ in hub.subscribe().following {} }
                        await ConcurrentTask.yield()
                        reader.cancel()
                        await reader.value
                    }
                }
            }
            await group.waitForAll()
            publishing.cancel()
            await publishing.value
        }
        #expect(hub.subscribe().recent.count == EventHub.remembered)
    }
}
