import PluginAPI

/// A container in the engine's memory.
struct ContainerRecord: Sendable {
    var configuration: ContainerConfiguration
    var notes: ContainerNotes
    var state: ContainerState
    var health: HealthMonitor?
    /// The user wants it to stay ended.
    var isStoppedByUser = false
    var restartCount = 0
    var backoff = RestartBackoff()
    var isRestarting = false
    var isBeingRemoved = false
    /// It holds its host ports: it runs, or is about to.
    var holdsPorts = false
    /// Its interfaces are in place.
    var isAttached = false
    /// Whether it takes connections of the ports that its service publishes.
    var isServing = false
    /// Counts the ends, for those who wait for the next one.
    var ends: UInt64 = 0
    /// The end whose consequences were drawn (network given back, restart decided).
    var handledEnds: UInt64 = 0

    init(_ container: Container) {
        configuration = container.configuration
        state = container.state
        notes = ContainerNotes(of: container.configuration)
    }

    var id: ID { configuration.id }
    var isRunning: Bool { state.phase == .running || state.phase == .paused }

    var observation: ContainerObservation {
        ContainerObservation(state: state, health: health?.status ?? .none)
    }

    var details: ContainerDetails {
        ContainerDetails(
            configuration: configuration, state: state, health: health?.summary, restartPolicy: notes.restartPolicy, restartCount: restartCount,
            isRestarting: isRestarting, isBeingRemoved: isBeingRemoved, publishedPorts: notes.publishedPorts, exposedPorts: notes.exposedPorts,
            entrypoint: notes.entrypoint, command: notes.command, networkMode: notes.networkMode, taskID: notes.taskID, serviceID: notes.serviceID)
    }

    /// What a report of the runtime changes.
    enum Change: Sendable, Hashable {
        case nothing, started, ended
    }

    /// Takes a state that the runtime reported, perhaps late: a start that is known to have ended already, or an end of an earlier run, changes
    /// nothing.
    mutating func merge(_ new: ContainerState) -> Change {
        switch new.phase {
        case .running, .paused:
            if isRunning {
                state = new
                return .nothing
            }
            if !state.finishedAt.isNever, new.startedAt <= state.startedAt { return .nothing }
            state = new
            return .started
        case .exited, .dead:
            if !isRunning, !state.finishedAt.isNever, new.startedAt <= state.startedAt { return .nothing }
            if isRunning, !new.startedAt.isNever, new.startedAt < state.startedAt { return .nothing }
            if !isRunning, state.phase == .created, new.startedAt.isNever {
                // It never ran: a failed start.
                state = new
                return .nothing
            }
            state = new
            ends += 1
            return .ended
        case .created:
            return .nothing
        @unknown default:
            return .nothing
        }
    }
}
