import Logging
import PluginAPI

/// Brings a store and the reconciler together: reads what was committed, plans, commits, waits.
///
/// While one commit is written the next events gather, so work comes in batches exactly when there is much of it, and a single change is taken up at once.
final class ManagerLoop<Store: SwarmStore, Clock: ManagerClock>: Sendable {
    private let store: Store
    private let clock: Clock
    private let makeScheduler: @Sendable () -> any Scheduler
    private let logger: Logger
    private let inbox = Inbox()

    init(store: Store, clock: Clock, scheduler: @escaping @Sendable () -> any Scheduler, logger: Logger) {
        self.store = store
        self.clock = clock
        makeScheduler = scheduler
        self.logger = logger
    }

    func schedulerChanged() { inbox.addSchedulerChange() }

    /// Works until it is cancelled.
    func run() async {
        while !ConcurrentTask.isCancelled {
            let (state, commits) = store.watchEvents()
            _ = inbox.take()
            await withTaskGroup(of: Void.self) { group in
                group.addTask { [inbox] in
                    for await events in commits { inbox.add(events) }
                    inbox.close()
                }
                group.addTask { await self.work(from: state) }
                await group.next()
                // Whichever ended first, the watch has ended or this is cancelled: the other one has nothing left to do.
                group.cancelAll()
            }
            guard !ConcurrentTask.isCancelled else { return }
            logger.warning("the manager lost its watch of the store and starts over")
            await clock.sleep(until: clock.now() + .milliseconds(100))
        }
    }

    private func work(from start: Store.State) async {
        var reconciler = Reconciler(scheduler: makeScheduler())
        reconciler.load(start)
        var failures = 0
        while !ConcurrentTask.isCancelled {
            let news = inbox.take()
            if news.isClosed { return }
            let began = ContinuousClock.now
            let state = store.read()
            if news.schedulerChanged {
                logger.info("another scheduler takes over")
                reconciler.load(state, scheduler: makeScheduler())
            }
            reconciler.note(news.events, in: state)
            let plan = reconciler.plan(state, now: clock.now())
            let effort = ContinuousClock.now - began
            if !plan.isEmpty {
                let outcome = await store.apply(plan.units, now: clock.now())
                reconciler.takeBack(outcome.notApplied, store.read())
                if let error = outcome.error {
                    guard !ConcurrentTask.isCancelled else { return }
                    failures += 1
                    let pause = Duration.milliseconds(min(5000, 50 << min(failures, 7)))
                    logger.warning("the plan could not be committed: \(error.message)", metadata: ["again-in": "\(pause)"])
                    await clock.sleep(until: clock.now() + pause)
                    continue
                }
                failures = 0
            }
            if reconciler.hasWork(now: clock.now()) { continue }
            await inbox.wait(until: reconciler.nextWake, clock)
            // When planning is expensive, let as much time pass for more news as it took, up to the scheduler's 50 ms.
            if effort > .milliseconds(5) { await clock.sleep(until: clock.now() + min(effort, .milliseconds(50))) }
        }
    }
}
