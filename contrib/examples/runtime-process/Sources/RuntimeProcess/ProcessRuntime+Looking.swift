import Glibc
public import PluginAPI

extension ProcessRuntime {
    public func execute(_ request: ExecuteRequest) async throws(ApusError) -> ExecuteAnswer {
        let record = try record(request.id)
        guard record.state.phase == .running, let process = record.process, process.isRunning else {
            throw ApusError(.conflict, "container \(request.id.short) is not running")
        }
        guard !request.arguments.isEmpty else { throw ApusError(.invalidArgument, "there is no command to execute") }
        let plan = try ProcessPlan(record.configuration)
        let output = "\(layout.folder(request.id))/execute-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        return try await Blocking.run { () throws(ApusError) in
            defer { unlink(output) }
            let user = try Self.user(request.user.isEmpty ? record.configuration.user : request.user)
            let command = plan.command(beside: process.number, as: user, request.arguments, request.environment)
            let child = try Spawn.start(command, environment: ["PATH=\(ProcessPlan.defaultPath)"], files: [1: output, 2: output])
            guard let code = Spawn.wait(child, atMost: request.timeout) else {
                kill(-child, SIGKILL)
                _ = Spawn.wait(child)
                throw ApusError(.timedOut, "the command did not end in \(request.timeout)")
            }
            let said = File.bytes(output, limit: max(1, request.outputLimit)) ?? []
            return ExecuteAnswer(exitCode: code, output: Array(said.prefix(request.outputLimit)))
        }
    }

    public func logs(_ request: LogRequest) async throws(ApusError) {
        _ = try record(request.id)
        let cancellation = Cancellation()
        let path = "\(layout.folder(request.id))/log"
        let result: Result<Void, ApusError> = await withTaskCancellationHandler {
            do throws(ApusError) {
                try await Blocking.run { () throws(ApusError) in
                    let reader = LogReader(
                        request,
                        isRunning: { [weak self] in
                            self?.state.withLock { !$0.isShutDown && ($0.records[request.id].map { $0.state.phase != .exited } ?? false) } ?? false
                        }, isCancelled: { cancellation.value })
                    try reader.run(path)
                }
                return .success(())
            } catch {
                return .failure(error)
            }
        } onCancel: {
            cancellation.set()
        }
        try result.get()
    }

    public func statistics(_ id: ID) async throws(ApusError) -> ContainerStatistics {
        guard let process = try record(id).process else { throw ApusError(.conflict, "container \(id.short) is not running") }
        return try await Blocking.run { () throws(ApusError) in
            var statistics = ContainerStatistics()
            let ticks = UInt64(max(1, sysconf(Int32(_SC_CLK_TCK))))
            for member in process.session {
                statistics.processes += 1
                statistics.processorTime += .nanoseconds(Int64(member.ticks.multipliedReportingOverflow(by: 1_000_000_000 / ticks).partialValue))
                statistics.memoryBytes += member.pages &* UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
            }
            return statistics
        }
    }
}
