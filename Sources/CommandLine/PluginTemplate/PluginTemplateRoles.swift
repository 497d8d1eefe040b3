import PluginAPI

/// What a new plugin does, by role: the least that compiles and says honestly what is missing.
enum PluginTemplateRoles {
    static func source(_ names: PluginTemplateNames) -> String {
        switch names.role {
        case .scheduler: scheduler(names.type)
        case .certificateAuthority: certificateAuthority(names.type)
        case .network: network(names.type)
        case .balancer: balancer(names.type)
        case .runtime: PluginTemplateRuntime.source(names.type)
        @unknown default: "// This version of apus has no template for the role \(names.role.rawValue).\n"
        }
    }

    private static func scheduler(_ type: String) -> String {
        """
        public import PluginAPI
        import Synchronization

        /// Places each task on the node that has the fewest tasks.
        public final class \(type): Scheduler {
            /// Nodes, what they carry and the filters; kept up to date by `apply`.
            private let view = Mutex(SchedulingView())

            public init(host: any HostServices) {}

            public func apply(_ changes: [SchedulingChange]) {
                view.withLock { $0.apply(changes) }
            }

            public func schedule(_ request: ScheduleRequest) throws(ApusError) -> ScheduleAnswer {
                // Of the nodes that fit, the one with the lowest rank gets the task: your idea of a good place goes here.
                view.withLock { view in
                    view.schedule(request) { node, task in NodeRank(node.taskCount) }
                }
            }
        }

        """
    }

    private static func certificateAuthority(_ type: String) -> String {
        """
        public import PluginAPI

        /// Signs the certificates of the swarm's nodes.
        public final class \(type): CertificateAuthority {
            private let host: any HostServices

            public init(host: any HostServices) {
                self.host = host
            }

            /// True for one that keeps its root key elsewhere; `createRoot` is then never called.
            public var isExternal: Bool { false }

            public func createRoot(_ request: CreateRootRequest) async throws(ApusError) -> RootMaterial {
                throw ApusError(.unimplemented, "\(type) does not make roots yet")
            }

            public func issue(_ request: IssueRequest) async throws(ApusError) -> IssueAnswer {
                throw ApusError(.unimplemented, "\(type) does not issue certificates yet")
            }
        }

        """
    }

    private static func network(_ type: String) -> String {
        """
        public import PluginAPI

        /// Makes networks and puts containers into them. Every call may come again for what is there, or gone, already: it then repairs, or succeeds.
        public final class \(type): NetworkDriver {
            private let host: any HostServices

            public init(host: any HostServices) {
                self.host = host
            }

            public func create(_ network: LocalNetwork) async throws(ApusError) {
                throw ApusError(.unimplemented, "\(type) does not make networks yet")
            }

            public func remove(_ network: LocalNetwork) async throws(ApusError) {
                host.log(.debug, "nothing to remove of network \\(network.name)")
            }

            public func attach(_ request: AttachRequest) async throws(ApusError) -> AttachAnswer {
                throw ApusError(.unimplemented, "\(type) does not attach containers yet")
            }

            public func detach(_ request: DetachRequest) async throws(ApusError) {
                host.log(.debug, "nothing to detach of container \\(request.containerID)")
            }
        }

        """
    }

    private static func balancer(_ type: String) -> String {
        """
        public import PluginAPI

        /// Spreads the connections to published ports over the tasks behind them.
        public final class \(type): LoadBalancer {
            private let host: any HostServices

            public init(host: any HostServices) {
                self.host = host
            }

            public func probe() async throws(ApusError) {
                throw ApusError(.unavailable, "\(type) does not know yet what it needs of the kernel")
            }

            public func apply(_ state: BalancerState) async throws(ApusError) {
                throw ApusError(.unimplemented, "\(type) does not balance \\(state.ports.count) ports yet")
            }
        }

        """
    }

    /// A test of what there is, with a host of its own.
    static func test(_ names: PluginTemplateNames) -> String {
        """
        import PluginAPI
        import Testing

        @testable import \(names.module)

        /// What the engine hands to a plugin, for tests.
        private struct TestHost: HostServices {
            var engineVersion: String { "test" }
            var configuration: [String: String] { [:] }
            var stateDirectory: String { "/tmp" }
            var runDirectory: String { "/tmp" }
            func log(_ level: LogLevel, _ message: String) {}
            func count(_ counter: String, by amount: Int) {}
        }

        @Suite struct \(names.type)Tests {
        \(check(names))
        }

        """
    }

    private static func check(_ names: PluginTemplateNames) -> String {
        switch names.role {
        case .scheduler:
            """
                @Test func withoutNodesEveryTaskHasAReason() throws {
                    let scheduler = \(names.type)(host: TestHost())
                    var task = Task()
                    task.id = "task"
                    let answer = try scheduler.schedule(ScheduleRequest(tasks: [task], now: .never))
                    #expect(answer.placements.isEmpty)
                    #expect(answer.reasons["task"]?.isEmpty == false)
                }
            """
        case .certificateAuthority:
            """
                @Test func sayWhatIsMissing() async {
                    let authority = \(names.type)(host: TestHost())
                    await #expect(throws: ApusError.self) { try await authority.createRoot(CreateRootRequest(clusterID: "swarm", now: .never)) }
                }
            """
        case .network:
            """
                @Test func removingWhatIsNotThereSucceeds() async throws {
                    let gateway = try #require(IPPrefix("172.30.0.1/16"))
                    try await \(names.type)(host: TestHost()).remove(LocalNetwork(id: "network", name: "mine", gateway: gateway))
                }
            """
        case .balancer:
            """
                @Test func sayWhatIsMissing() async {
                    let balancer = \(names.type)(host: TestHost())
                    await #expect(throws: ApusError.self) { try await balancer.apply(BalancerState()) }
                }
            """
        case .runtime:
            """
                @Test func anEmptyRuntimeHasNoContainers() async throws {
                    #expect(try await \(names.type)(host: TestHost()).containers().isEmpty)
                }
            """
        @unknown default: ""
        }
    }
}
