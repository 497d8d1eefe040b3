import PluginAPI

/// The checks of a service's template.
struct TaskSpecValidation {
    let spec: TaskSpec

    func check() throws(ApusError) {
        guard spec.runtime != "plugin", spec.runtime != "attachment", spec.runtime.isEmpty || ServiceValidation.isNameComponent(spec.runtime) else {
            throw ApusError(
                .unimplemented,
                "TaskSpec: the runtime \"\(ServiceValidation.printable(spec.runtime))\" is not supported; container is, and every runtime plugin by its name"
            )
        }
        guard let container = spec.container else { throw ApusError(.invalidArgument, "TaskSpec: missing runtime: ContainerSpec must be provided") }
        try ContainerSpecValidation(container, of: .service, sharesNetwork: spec.networks.contains { $0.target == "host" }).check()
        try checkResources()
        try checkRestartPolicy()
        try checkPlacement()
        try checkLogDriver()
    }

    private func checkResources() throws(ApusError) {
        guard let resources = spec.resources else { return }
        for (name, amounts) in [("Limits", resources.limits), ("Reservations", resources.reservations)] {
            guard let amounts else { continue }
            guard amounts.genericResources.isEmpty else {
                throw ApusError(.unimplemented, "Resources.\(name).GenericResources: generic resources are not supported yet")
            }
            if amounts.nanoCPUs != 0, amounts.nanoCPUs < 1_000_000 {
                throw ApusError(.invalidArgument, "invalid cpu value \(Double(amounts.nanoCPUs) / 1e9): Must be at least 0.001")
            }
            // swarmkit takes four, and then no node can run the task.
            if amounts.memoryBytes != 0, amounts.memoryBytes < 6 << 20 {
                throw ApusError(.invalidArgument, "invalid memory value \(amounts.memoryBytes): Must be at least 6MiB")
            }
            guard amounts.pids >= 0 else { throw ApusError(.invalidArgument, "Resources.\(name).Pids: \(amounts.pids) is negative") }
        }
        if let pids = resources.reservations?.pids, pids != 0 {
            throw ApusError(.invalidArgument, "Resources.Reservations.Pids: processes can be limited, not reserved")
        }
        if let limits = resources.limits, let reserved = resources.reservations {
            if limits.memoryBytes > 0, reserved.memoryBytes > limits.memoryBytes {
                throw ApusError(
                    .invalidArgument, "Resources: the memory reserved, \(reserved.memoryBytes), is more than the limit of \(limits.memoryBytes)")
            }
            if limits.nanoCPUs > 0, reserved.nanoCPUs > limits.nanoCPUs {
                throw ApusError(.invalidArgument, "Resources: the CPU reserved, \(reserved.nanoCPUs), is more than the limit of \(limits.nanoCPUs)")
            }
        }
    }

    private func checkRestartPolicy() throws(ApusError) {
        guard let policy = spec.restartPolicy else { return }
        guard policy.delay ?? .zero >= .zero else { throw ApusError(.invalidArgument, "TaskSpec: restart-delay cannot be negative") }
        guard policy.window ?? .zero >= .zero else { throw ApusError(.invalidArgument, "TaskSpec: restart-window cannot be negative") }
        guard policy.maxAttempts ?? 0 <= 10_000 else { throw ApusError(.invalidArgument, "TaskSpec: restart-max-attempts cannot be more than 10000") }
    }

    private func checkPlacement() throws(ApusError) {
        guard let placement = spec.placement else { return }
        _ = try Constraint.parse(placement.constraints)
        for preference in placement.preferences {
            guard let spread = preference.spread else {
                throw ApusError(.invalidArgument, "Placement.Preferences: a preference without Spread means nothing")
            }
            guard spread.isValid else {
                throw ApusError(
                    .invalidArgument,
                    "Placement.Preferences: \"\(ServiceValidation.printable(spread.descriptor))\" is neither node.labels.<label> nor engine.labels.<label>"
                )
            }
        }
    }

    private func checkLogDriver() throws(ApusError) {
        guard let driver = spec.logDriver else { return }
        try LogDriverValidation(driver).check()
    }
}
