import CLinux
import Events
import Glibc
import PluginAPI
import Security
import Store

/// Tells the changes of the store as events of the Engine API.
enum StoreEvents {
    /// Until cancelled, or until the store is closed.
    static func publish(from store: ObjectStore, to events: EventHub) async {
        // A stream ends when its reader was too slow; what was missed then is missed, as for every other listener.
        while !ConcurrentTask.isCancelled {
            for await commit in store.watch().commits {
                for change in commit.changes {
                    if let event = event(of: change) { events.publish(event) }
                    for event in identityEvents(of: change) { events.publish(EngineEvent(event)) }
                }
            }
        }
    }

    /// What becomes of certificates and roots: from the record, so that every manager tells it.
    static func identityEvents(of change: StoreChange) -> [IdentityEvent] {
        switch change {
        case .created(.node(let node)): IdentityEvent.events(of: node, from: nil, time: .now)
        case .updated(.node(let new), from: .node(let old)): IdentityEvent.events(of: new, from: old, time: .now)
        case .updated(.cluster(let new), from: .cluster(let old)): IdentityEvent.events(of: new, from: old, time: .now)
        default: []
        }
    }

    static func event(of change: StoreChange) -> EngineEvent? {
        switch change {
        case .created(let object): make(object, "create")
        case .removed(let object): make(object, "remove")
        case .updated(let object, let previous): update(object, previous)
        }
    }

    private static func update(_ object: StoredObject, _ previous: StoredObject) -> EngineEvent? {
        switch (object, previous) {
        case (.service(let new), .service(let old)):
            if new.pendingDelete, !old.pendingDelete { return make(object, "remove") }
            guard var event = make(object, "update") else { return nil }
            if new.updateStatus?.state != old.updateStatus?.state {
                event.attributes["updatestate.new"] = new.updateStatus?.state.rawValue
                event.attributes["updatestate.old"] = old.updateStatus?.state.rawValue
            }
            return event
        case (.node(let new), .node(let old)):
            guard var event = make(object, "update") else { return nil }
            if new.status.state != old.status.state {
                event.attributes["state.new"] = new.status.state.rawValue
                event.attributes["state.old"] = old.status.state.rawValue
            }
            if new.spec.availability != old.spec.availability {
                event.attributes["availability.new"] = new.spec.availability.rawValue
                event.attributes["availability.old"] = old.spec.availability.rawValue
            }
            return event
        default:
            return make(object, "update")
        }
    }

    /// Tasks are told by their containers' events, as Docker does.
    private static func make(_ object: StoredObject, _ action: String) -> EngineEvent? {
        let type: String
        let name: String
        switch object {
        case .service(let service): (type, name) = ("service", service.spec.name)
        case .node(let node): (type, name) = ("node", node.description.hostname)
        case .network(let network): (type, name) = ("network", network.spec.name)
        case .secret(let secret): (type, name) = ("secret", secret.spec.name)
        case .config(let config): (type, name) = ("config", config.spec.name)
        case .cluster, .task: return nil
        }
        return EngineEvent(type: type, action: action, actorID: object.id.text, attributes: ["name": name], scope: "swarm", time: .now)
    }
}

extension EngineEvent {
    init(_ event: IdentityEvent) {
        self.init(
            type: event.type, action: event.kind.rawValue, actorID: event.nodeID.text, attributes: event.attributes, scope: "swarm", time: event.time)
    }
}

extension Timestamp {
    /// The system's clock.
    static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}
