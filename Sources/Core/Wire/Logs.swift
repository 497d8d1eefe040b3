public import GRPCCore
public import PluginAPI

extension DispatcherMethods {
    /// `LogsRequest`: what is to be read of the node's logs.
    public static let logs = MethodDescriptor(service: service, method: "Logs", type: .serverStreaming)
    /// `PublishLogsMessage`: pieces of a log, from the node to the leader.
    public static let publishLogs = MethodDescriptor(service: service, method: "PublishLogs", type: .clientStreaming)
    /// `ReadLogsRequest`: a manager reads the log of a task through the leader.
    public static let readLogs = MethodDescriptor(service: service, method: "ReadLogs", type: .serverStreaming)
}

/// Asks for what the leader wants to read of this node's logs.
public struct LogsRequest: FieldCoded {
    public var sessionID: ID = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
    }
}

/// Somebody reads the log of a task, or does not any more.
public struct LogSubscription: FieldCoded {
    /// The leader's; the pieces come with it.
    public var id: ID = ""
    /// Nobody reads it any more; of the rest only the id counts.
    public var isEnd: Bool = false
    public var taskID: ID = ""
    /// Whether lines of the standard output are wanted.
    public var standardOutput: Bool = false
    /// Whether lines of the standard error output are wanted.
    public var standardError: Bool = false
    /// Also lines that are yet to come.
    public var follow: Bool = false
    /// RFC 3339 time and a space before each line.
    public var timestamps: Bool = false
    /// The last lines only; `nil`: all.
    public var tail: Int64?
    /// Only lines of this time and later; `never`: all.
    public var since: Timestamp = .never
    /// Only lines of this time and earlier; `never`: all.
    public var until: Timestamp = .never
    /// Put before each line, after the time.
    public var linePrefix: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "id", &id)
        try coder.field(2, "is_end", &isEnd)
        try coder.field(3, "task_id", &taskID)
        try coder.field(4, "standard_output", &standardOutput)
        try coder.field(5, "standard_error", &standardError)
        try coder.field(6, "follow", &follow)
        try coder.field(7, "timestamps", &timestamps)
        try coder.field(8, "tail", &tail)
        try coder.field(9, "since", &since)
        try coder.field(10, "until", &until)
        try coder.field(11, "line_prefix", &linePrefix)
    }
}

/// A piece of a log.
public struct PublishLogsMessage: FieldCoded {
    public var sessionID: ID = ""
    /// Of `LogSubscription`; one stream is for one.
    public var subscriptionID: ID = ""
    /// Whole frames, as the Engine API has them; none in the first message.
    public var data: [UInt8] = []
    /// Why there is no more, unless the log has come to its end.
    public var error: String = ""
    /// The log has come to its end. A stream that ends without one was broken off, whatever the transport says.
    public var isComplete: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
        try coder.field(2, "subscription_id", &subscriptionID)
        try coder.field(3, "data", &data)
        try coder.field(4, "error", &error)
        try coder.field(5, "is_complete", &isComplete)
    }
}

/// All of it was read.
public struct PublishLogsResponse: FieldCoded {
    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}

/// Another manager reads the log of a task.
public struct ReadLogsRequest: FieldCoded {
    /// Where the task runs.
    public var nodeID: ID = ""
    /// The leader gives it an id.
    public var subscription = LogSubscription()

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "node_id", &nodeID)
        try coder.field(2, "subscription", &subscription)
    }
}

/// A piece of the log that is read.
public struct LogChunk: FieldCoded {
    /// Whole frames.
    public var data: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "data", &data)
    }
}
