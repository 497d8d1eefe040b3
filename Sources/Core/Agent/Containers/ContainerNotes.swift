import Coding
import PluginAPI

/// What the engine itself must know of a container again after a restart; kept in the annotations of its configuration, so that there is no
/// second database.
struct ContainerNotes: FieldCoded {
    static let annotation = "apus.notes"

    var restartPolicyName = ""
    var maximumRetryCount: Int64 = 0
    var publishedPorts: [ContainerPort] = []
    var exposedPorts: [String] = []
    var entrypoint: [String] = []
    var command: [String] = []
    var networkMode = ""
    var taskID: ID = ""
    var serviceID: ID = ""
    /// Volumes made for this container alone.
    var anonymousVolumes: [String] = []
    /// Stand-ins for it in networks of the swarm, of a container that is no task; given back when it is removed.
    var attachments: [String] = []
    /// Its own resolvers, which the engine's name server asks for it; empty: the host's.
    var resolvers: [String] = []

    init() {}

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "RestartPolicy", &restartPolicyName)
        try coder.field(2, "MaximumRetryCount", &maximumRetryCount)
        try coder.field(3, "PublishedPorts", &publishedPorts)
        try coder.field(4, "ExposedPorts", &exposedPorts)
        try coder.field(5, "Entrypoint", &entrypoint)
        try coder.field(6, "Cmd", &command)
        try coder.field(7, "NetworkMode", &networkMode)
        try coder.field(8, "TaskID", &taskID)
        try coder.field(9, "ServiceID", &serviceID)
        try coder.field(10, "AnonymousVolumes", &anonymousVolumes)
        try coder.field(11, "Attachments", &attachments)
        try coder.field(12, "Resolvers", &resolvers)
    }

    var restartPolicy: ContainerRestartPolicy {
        get { ContainerRestartPolicy(name: .init(rawValue: restartPolicyName) ?? .no, maximumRetryCount: Int(maximumRetryCount)) }
        set {
            restartPolicyName = newValue.name.rawValue
            maximumRetryCount = Int64(newValue.maximumRetryCount)
        }
    }

    /// Those of a container; the zero value when it has none or they cannot be read.
    init(of configuration: ContainerConfiguration) {
        guard let text = configuration.annotations[Self.annotation], let json = try? JSONValue.parse(text),
            let notes = try? JSONFields.decode(ContainerNotes.self, from: json, unknownFields: .ignore, includeInternal: true)
        else {
            self.init()
            return
        }
        self = notes
    }

    func write(to configuration: inout ContainerConfiguration) {
        configuration.annotations[Self.annotation] = JSONFields.encode(self, includeInternal: true).text()
    }
}
