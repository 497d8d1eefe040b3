import Coding
import PluginAPI
import Testing

@testable import CommandLine

@Suite struct ServiceProgressTests {
    private func service(_ replicas: UInt64, image: String = "nginx", status: UpdateState? = nil, message: String = "") -> Service {
        var service = Service()
        service.id = "s1"
        service.spec.name = "web"
        var replicated = ReplicatedService()
        replicated.replicas = replicas
        service.spec.mode.replicated = replicated
        var container = ContainerSpec()
        container.image = image
        service.spec.task.container = container
        if let status {
            var update = UpdateStatus()
            update.state = status
            update.message = message
            service.updateStatus = update
        }
        return service
    }

    private func task(
        _ slot: UInt64, _ state: TaskState, desired: TaskState = .running, image: String = "nginx", id: String = "", created: Int64 = 1,
        error: String = ""
    ) -> Task {
        var task = Task()
        task.id = ID(id.isEmpty ? "t\(slot)-\(created)" : id)
        task.slot = slot
        task.status.state = state
        task.status.error = error
        task.desiredState = desired
        task.createdAt = Timestamp(nanoseconds: created)
        var container = ContainerSpec()
        container.image = image
        task.spec.container = container
        return task
    }

    @Test func convergesWhenEverySlotRuns() {
        let half = ServiceProgress(service: service(2), tasks: [task(1, .running), task(2, .preparing)], baseline: .init())
        #expect(half.done == 1 && half.total == 2 && !half.isConverged && half.outcome == nil)
        let whole = ServiceProgress(service: service(2), tasks: [task(1, .running), task(2, .running)], baseline: .init())
        #expect(whole.isConverged && whole.outcome == nil)
        #expect(!ServiceProgress(service: service(2), tasks: [task(1, .running)], baseline: .init()).isConverged)
        #expect(ServiceProgress(service: service(0), tasks: [], baseline: .init()).isConverged)
    }

    @Test func scalingDownWaitsForTheRest() {
        let tasks = [task(1, .running), task(2, .running)]
        #expect(!ServiceProgress(service: service(1), tasks: tasks, baseline: .init()).isConverged)
        #expect(ServiceProgress(service: service(1), tasks: [tasks[0], task(2, .running, desired: .remove)], baseline: .init()).isConverged)
    }

    @Test func aFailedTaskShowsItsReason() {
        let tasks = [task(1, .rejected, desired: .shutdown, created: 1, error: "No such image: nginx"), task(1, .preparing, created: 2)]
        let progress = ServiceProgress(service: service(1), tasks: tasks, baseline: .init())
        #expect(progress.slots == [.init(state: .preparing, error: "No such image: nginx", isDone: false)])
        let ended = ServiceProgress(service: service(1), tasks: [tasks[0]], baseline: .init())
        #expect(ended.slots == [.init(state: nil, error: "No such image: nginx", isDone: false)])
    }

    @Test func oldTasksDoNotCountAfterAnUpdate() {
        let baseline = ServiceProgress.Baseline(replacedTasks: ["t1-1", "t2-1"])
        let updated = service(2, image: "nginx:2")
        let old = ServiceProgress(service: updated, tasks: [task(1, .running), task(2, .running)], baseline: baseline)
        #expect(old.done == 0 && !old.isConverged)
        let half = ServiceProgress(service: updated, tasks: [task(1, .running, image: "nginx:2", created: 2), task(2, .running)], baseline: baseline)
        #expect(half.done == 1)
        let tasks = [task(1, .running, image: "nginx:2", created: 2), task(2, .running, image: "nginx:2", created: 2)]
        #expect(ServiceProgress(service: updated, tasks: tasks, baseline: baseline).isConverged)
        let watched = ServiceProgress(service: service(2, image: "nginx:2", status: .updating), tasks: tasks, baseline: baseline)
        #expect(watched.done == 2 && watched.isUpdating && !watched.isConverged)
        let completed = ServiceProgress(service: service(2, image: "nginx:2", status: .completed), tasks: tasks, baseline: baseline)
        #expect(completed.outcome == .completed)
    }

    @Test func pausesAndRollbacksFail() throws {
        let baseline = ServiceProgress.Baseline(replacedTasks: ["t1-1"])
        let failing = task(1, .failed, desired: .shutdown, image: "nginx:2", created: 2, error: "exit 1")
        let paused = ServiceProgress(
            service: service(1, image: "nginx:2", status: .paused, message: "task failed"), tasks: [failing], baseline: baseline)
        #expect(paused.outcome == .failed("the update is paused: task failed; exit 1"))
        let back = ServiceProgress(
            service: service(1, status: .rollbackCompleted, message: "back"), tasks: [task(1, .running, created: 3)], baseline: baseline)
        guard case .failed = back.outcome else { throw ApusError(.failed, "\(String(describing: back.outcome))") }
        let asked = ServiceProgress(
            service: service(1, status: .rollbackCompleted), tasks: [task(1, .running, created: 3)],
            baseline: .init(replacedTasks: ["t1-1"], isRollback: true))
        #expect(asked.outcome == .completed)
    }

    @Test func aStatusFromBeforeTheUpdateSaysNothing() {
        let before = service(1, status: .paused)
        let baseline = ServiceProgress.Baseline(updateStatus: before.updateStatus)
        #expect(ServiceProgress(service: before, tasks: [task(1, .starting)], baseline: baseline).outcome == nil)
    }

    @Test func text() {
        let progress = ServiceProgress(service: service(2), tasks: [task(1, .running), task(2, .preparing)], baseline: .init())
        let lines = ServiceProgressText.lines(progress, columns: 60)
        #expect(lines[0] == "overall progress: 1 out of 2 tasks")
        #expect(lines[1].hasPrefix("1/2: ") && lines[1].contains("running") && lines[1].hasSuffix("=]"))
        #expect(lines.allSatisfy { $0.count < 60 })
        #expect(ServiceProgressText.bar(0.5, width: 10) == "[====>     ]")
        #expect(ServiceProgressText.bar(0, width: 4) == "[    ]" && ServiceProgressText.bar(1, width: 4) == "[====]")
        #expect(ServiceProgressText.changes(from: nil, to: progress) == ["1/2: running", "2/2: preparing", "overall progress: 1 out of 2 tasks"])
        #expect(ServiceProgressText.changes(from: progress, to: progress).isEmpty)
        let many = ServiceProgress(service: service(50), tasks: [], baseline: .init())
        #expect(ServiceProgressText.lines(many, columns: 60) == ["overall progress: 0 out of 50 tasks"])
        var live = LiveLines()
        #expect(live.replacing(with: ["a", "b"]) == "\r\u{1b}[2Ka\n\r\u{1b}[2Kb\n")
        #expect(live.replacing(with: ["a", "b"]) == "")
        #expect(live.replacing(with: ["c"]) == "\u{1b}[2A\r\u{1b}[2Kc\n\u{1b}[J")
    }
}
