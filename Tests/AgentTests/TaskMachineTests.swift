import Fuzzing
import PluginAPI
import Testing

@testable import Agent

/// The machine with what it has said so far.
private struct Played {
    var machine: TaskMachine
    var reports: [TaskMachine.Report] = []
    var performed: [TaskMachine.Action] = []
    var served: [Bool] = []
    var cancels = 0
    var isFinished = false

    init(reported: TaskState = .assigned, desired: TaskState = .running, container: ContainerDetails? = nil) {
        machine = TaskMachine(reported: reported, desired: desired, container: container)
        take(machine.begin())
    }

    mutating func play(_ input: TaskMachine.Input) { take(machine.step(input)) }

    private mutating func take(_ outputs: [TaskMachine.Output]) {
        for output in outputs {
            switch output {
            case .report(let report): reports.append(report)
            case .perform(let action): performed.append(action)
            case .serve(let serve): served.append(serve)
            case .cancelAction: cancels += 1
            case .finish: isFinished = true
            }
        }
    }

    var states: [TaskState] { reports.map(\.state) }

    static func running() -> Played {
        var played = Played()
        played.play(.prepared("c"))
        played.play(.observed(observation(.running)))
        played.play(.started(isWell: true))
        return played
    }

    static func observation(_ phase: ContainerPhase, _ health: HealthState = .none, exitCode: Int64 = 0) -> ContainerObservation {
        var state = ContainerState()
        state.phase = phase
        state.exitCode = exitCode
        return ContainerObservation(state: state, health: health)
    }

    static func container(_ phase: ContainerPhase, exitCode: Int64 = 0) -> ContainerDetails {
        var container = Container()
        container.configuration.id = "c"
        container.state.phase = phase
        container.state.exitCode = exitCode
        return ContainerRecord(container).details
    }
}

@Suite struct TaskMachineTests {
    @Test func fromAssignedToRunning() {
        let played = Played.running()
        #expect(played.states == [.accepted, .preparing, .ready, .starting, .running])
        #expect(played.performed == [.prepare, .start])
        #expect(played.served == [true])
    }

    @Test func desiredReadyOnlyPrepares() {
        var played = Played(desired: .ready)
        played.play(.prepared("c"))
        #expect(played.states == [.accepted, .preparing, .ready])
        played.play(.desired(.running))
        #expect(played.performed == [.prepare, .start])
    }

    @Test func desiredNeverGoesBack() {
        var played = Played.running()
        played.play(.desired(.shutdown))
        played.play(.desired(.running))
        played.play(.stopped)
        #expect(played.states.last == .shutdown)
        #expect(played.performed == [.prepare, .start, .stop])
    }

    @Test func prepareFails() {
        var played = Played()
        played.play(.prepareFailed(ApusError(.notFound, "No such image: x:latest")))
        #expect(played.reports.last == TaskMachine.Report(state: .rejected, message: "preparing", error: "No such image: x:latest"))
        #expect(played.performed == [.prepare])
    }

    @Test func startFails() {
        var played = Played()
        played.play(.prepared("c"))
        played.play(.startFailed(ApusError(.failed, "runc: no")))
        #expect(played.reports.last == TaskMachine.Report(state: .failed, message: "starting", error: "runc: no"))
        #expect(played.performed == [.prepare, .start])
    }

    @Test func endsAtOnceBeforeTheStartReturns() {
        var played = Played()
        played.play(.prepared("c"))
        played.play(.observed(Played.observation(.running)))
        played.play(.observed(Played.observation(.exited, exitCode: 3)))
        played.play(.started(isWell: true))
        #expect(played.states.last == .failed)
        #expect(played.reports.last?.error == "task: non-zero exit (3)")
        #expect(played.reports.last?.exitCode == 3)
        #expect(played.served == [], "it never took connections")
    }

    @Test func endsAtOnceAndIsSeenOnlyEnded() {
        var played = Played()
        played.play(.prepared("c"))
        played.play(.observed(Played.observation(.exited, exitCode: 0)))
        played.play(.started(isWell: true))
        #expect(played.states.last == .complete)
    }

    @Test func endsLater() {
        var played = Played.running()
        played.play(.observed(Played.observation(.exited, exitCode: 0)))
        #expect(played.states.last == .complete)
        #expect(played.served == [true, false])
        played.play(.observed(Played.observation(.exited, exitCode: 0)))
        #expect(played.reports.count { $0.state == .complete } == 1)
    }

    @Test func withAHealthCheckItRunsWhenItIsHealthy() {
        var played = Played()
        played.play(.prepared("c"))
        played.play(.observed(Played.observation(.running, .starting)))
        played.play(.started(isWell: false))
        #expect(played.states.last == .starting)
        #expect(played.served == [])
        played.play(.observed(Played.observation(.running, .healthy)))
        #expect(played.states.last == .running)
        #expect(played.served == [true])
    }

    @Test func unhealthyLeavesTheBalancerAndFails() {
        var played = Played.running()
        played.play(.observed(Played.observation(.running, .unhealthy)))
        #expect(played.served == [true, false])
        #expect(played.performed.last == .stop)
        played.play(.observed(Played.observation(.exited, .unhealthy, exitCode: 143)))
        played.play(.stopped)
        #expect(played.states.last == .failed)
        #expect(played.reports.last?.error == "task: non-zero exit (143): unhealthy container")
    }

    @Test func unhealthyFromTheStart() {
        var played = Played()
        played.play(.prepared("c"))
        played.play(.observed(Played.observation(.running, .starting)))
        played.play(.started(isWell: false))
        played.play(.observed(Played.observation(.running, .unhealthy)))
        played.play(.stopped)
        #expect(!played.states.contains(.running))
        #expect(played.states.last == .failed)
    }

    @Test func shutdownStopsAndKeepsTheContainer() {
        var played = Played.running()
        played.play(.desired(.shutdown))
        #expect(played.performed.last == .stop)
        #expect(played.states.last == .running)
        played.play(.observed(Played.observation(.exited, exitCode: 143)))
        #expect(played.states.last == .running)
        played.play(.stopped)
        #expect(played.states.last == .shutdown)
        #expect(played.reports.last?.exitCode == 143)
        #expect(played.performed == [.prepare, .start, .stop])
        played.play(.gone)
        #expect(played.performed.last == .remove)
        played.play(.removed)
        #expect(played.isFinished)
    }

    @Test func removeRemovesTheContainer() {
        var played = Played.running()
        played.play(.desired(.remove))
        played.play(.stopped)
        #expect(played.states.last == .shutdown)
        #expect(played.performed.last == .remove)
        played.play(.removed)
        #expect(!played.isFinished)
        played.play(.gone)
        #expect(played.isFinished)
    }

    @Test func shutdownDuringThePreparation() {
        var played = Played()
        played.play(.desired(.shutdown))
        played.play(.desired(.shutdown))
        #expect(played.cancels == 1)
        played.play(.prepareFailed(ApusError(.cancelled, "cancelled")))
        #expect(played.states == [.accepted, .preparing, .shutdown])
        #expect(played.performed == [.prepare])
    }

    @Test func shutdownDuringTheStart() {
        var played = Played()
        played.play(.prepared("c"))
        played.play(.desired(.shutdown))
        #expect(played.cancels == 1)
        played.play(.observed(Played.observation(.running)))
        played.play(.started(isWell: true))
        #expect(played.performed.last == .stop)
        #expect(played.served == [])
        played.play(.stopped)
        #expect(played.states.last == .shutdown)
    }

    @Test func shutdownBeforeAnything() {
        let played = Played(desired: .shutdown)
        #expect(played.states == [.shutdown])
        #expect(played.performed == [])
    }

    @Test func stopIsAskedForUntilItWorks() {
        var played = Played.running()
        played.play(.desired(.shutdown))
        played.play(.stopFailed(ApusError(.timedOut, "no")))
        #expect(played.performed == [.prepare, .start, .stop, .stop])
        played.play(.stopped)
        #expect(played.states.last == .shutdown)
    }

    @Test func removedByTheUser() {
        var played = Played.running()
        var gone = Played.observation(.exited)
        gone.isRemoved = true
        played.play(.observed(gone))
        #expect(played.states.last == .failed)
        #expect(played.served == [true, false])
    }

    @Test func adoptedRunning() {
        let played = Played(reported: .running, container: Played.container(.running))
        #expect(played.reports == [])
        #expect(played.performed == [])
        #expect(played.served == [true])
    }

    @Test func adoptedWithAStateThatTheManagerDoesNotKnow() {
        var played = Played(reported: .starting, container: Played.container(.running))
        played.play(.observed(Played.observation(.running)))
        #expect(played.states == [.running])
        #expect(played.performed == [])
    }

    @Test func endedMeanwhile() {
        let failed = Played(reported: .running, container: Played.container(.exited, exitCode: 7))
        #expect(failed.reports == [TaskMachine.Report(state: .failed, message: "started", error: "task: non-zero exit (7)", exitCode: 7)])
        let complete = Played(reported: .running, container: Played.container(.exited))
        #expect(complete.states == [.complete])
    }

    @Test func goneMeanwhile() {
        let played = Played(reported: .running)
        #expect(played.states == [.failed])
        #expect(played.performed == [])
    }

    @Test func preparedMeanwhile() {
        let played = Played(reported: .preparing, container: Played.container(.created))
        #expect(played.performed == [.start])
        let crashed = Played(reported: .preparing)
        #expect(crashed.performed == [.prepare])
    }

    @Test func anEndedTaskIsLeftAlone() {
        let played = Played(reported: .failed, container: Played.container(.exited, exitCode: 1))
        #expect(played.reports == [])
        #expect(played.performed == [])
    }

    @Test func anEndedTaskWhoseContainerRunsIsStopped() {
        let played = Played(reported: .failed, container: Played.container(.running))
        #expect(played.performed == [.stop])
    }

    /// Whatever comes in whatever order, states only move forward, only one action is under way, and nothing serves that does not run.
    @Test(arguments: 0..<200) func anyOrder(_ seed: Int) {
        var generator = SplitMix64(seed: UInt64(seed))
        var machine = TaskMachine(reported: .assigned, desired: .running, container: nil)
        var active: TaskMachine.Action?
        var last = TaskState.assigned
        var container: ContainerPhase?
        func check(_ outputs: [TaskMachine.Output]) {
            for output in outputs {
                switch output {
                case .report(let report):
                    #expect(report.state > last)
                    last = report.state
                case .perform(let action):
                    #expect(active == nil)
                    active = action
                default: break
                }
            }
        }
        check(machine.begin())
        for _ in 0..<60 {
            let input: TaskMachine.Input
            switch Int.random(in: 0..<9, using: &generator) {
            case 0: input = .desired([.running, .shutdown, .remove].randomElement(using: &generator) ?? .running)
            case 1 where container != nil:
                container = .exited
                input = .observed(Played.observation(.exited, exitCode: Int64.random(in: 0...2, using: &generator)))
            case 2 where container == .running: input = .observed(Played.observation(.running, .unhealthy))
            case 3...8:
                guard let action = active else { continue }
                active = nil
                let works = Int.random(in: 0..<4, using: &generator) > 0
                let error = ApusError(.failed, "no")
                switch action {
                case .prepare:
                    if works { container = .created }
                    input = works ? .prepared("c") : .prepareFailed(error)
                case .start:
                    if works { container = .running }
                    input = works ? .started(isWell: true) : .startFailed(error)
                case .stop:
                    if works { container = .exited }
                    input = works ? .stopped : .stopFailed(error)
                case .remove:
                    if works { container = nil }
                    input = works ? .removed : .removeFailed(error)
                }
            default: continue
            }
            check(machine.step(input))
            if machine.isServing { #expect(machine.stage == .running) }
        }
    }
}
