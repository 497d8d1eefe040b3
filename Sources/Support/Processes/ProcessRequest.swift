/// A program to start.
public struct ProcessRequest: Sendable {
    /// A path, or a name that is searched in PATH.
    public var executable: String
    /// Without the program's own name.
    public var arguments: [String]
    /// `NAME=value` each; `nil` hands on our own.
    public var environment: [String]?
    public var workingDirectory: String?
    /// The child's descriptor to ours. 0, 1 and 2 are /dev/null unless given; nothing else is inherited.
    public var descriptors: [Int32: Int32]
    /// In a session of its own, so that signals to our terminal or group do not reach it.
    public var newSession: Bool

    public init(
        _ executable: String, _ arguments: [String] = [], environment: [String]? = nil, workingDirectory: String? = nil,
        descriptors: [Int32: Int32] = [:], newSession: Bool = false
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.descriptors = descriptors
        self.newSession = newSession
    }
}

/// How a program ended and what it wrote.
public struct ProcessResult: Sendable {
    /// 128 and the signal when a signal ended it.
    public var exitCode: Int32
    public var output: [UInt8]
    public var errorOutput: [UInt8]

    public var text: String { String(decoding: output, as: UTF8.self) }
    public var errorText: String { String(decoding: errorOutput, as: UTF8.self) }
}
