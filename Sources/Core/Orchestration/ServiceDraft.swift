public import PluginAPI

/// The service objects that the API writes: they carry the bookkeeping that the orchestrator relies on.
public enum ServiceDraft {
    /// A new service.
    public static func create(_ spec: ServiceSpec, id: ID = ID.random()) -> Service {
        var service = Service()
        service.id = id
        service.spec = spec
        service.specVersion = Version(index: 1)
        service.endpoint.spec = spec.endpoint ?? EndpointSpec()
        return service
    }

    /// A service with a new spec. What it was is kept for a rollback, and an update under way or paused starts anew.
    public static func update(_ service: Service, to spec: ServiceSpec) -> Service {
        var changed = service
        changed.previousSpec = service.spec
        changed.spec = spec
        changed.endpoint.spec = spec.endpoint ?? EndpointSpec()
        changed.updateStatus = nil
        changed.specVersion = nextVersion(service, spec)
        return changed
    }

    /// A service with the spec that it had before; the present one becomes the previous.
    ///
    /// Throws `invalidArgument` when there is none.
    public static func rollback(_ service: Service, now: Timestamp) throws(ApusError) -> Service {
        guard let previous = service.previousSpec else {
            throw ApusError(.invalidArgument, "service \"\(service.spec.name)\" has no previous spec to roll back to")
        }
        var changed = update(service, to: previous)
        changed.updateStatus = status(now, "manually requested rollback")
        return changed
    }

    /// What a failed update with the action `rollback` leads to. There is no way back from it but a new update.
    static func automaticRollback(of service: Service, now: Timestamp, message: String) -> Service? {
        guard let previous = service.previousSpec else { return nil }
        var changed = update(service, to: previous)
        changed.previousSpec = nil
        changed.updateStatus = status(now, message)
        return changed
    }

    private static func status(_ now: Timestamp, _ message: String) -> UpdateStatus {
        var status = UpdateStatus()
        status.state = .rollbackStarted
        status.startedAt = now
        status.message = message
        return status
    }

    /// The version counts changes that replace tasks; scaling does not.
    private static func nextVersion(_ service: Service, _ spec: ServiceSpec) -> Version {
        let before = TaskTemplate(service)
        var changed = service
        changed.spec = spec
        let after = TaskTemplate(changed)
        let isSame =
            before.spec.makesTheSameTask(as: after.spec) && before.hostPorts == after.hostPorts && (before.hasIngressPorts || !after.hasIngressPorts)
        return Version(index: (service.specVersion?.index ?? 0) + (isSame ? 0 : 1))
    }
}
