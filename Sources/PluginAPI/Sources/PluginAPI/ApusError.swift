/// The one error of Apus: a code for programs, a message for people that says what to do.
///
/// Every role method throws this type, and the Engine API maps `code` to an HTTP status.
public struct ApusError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What kind of failure it is. The HTTP status of the Engine API is in brackets.
    public enum Code: String, Sendable, Hashable, CaseIterable {
        /// The request itself is wrong, and will be wrong again (400).
        case invalidArgument
        /// The caller did not say who it is (401).
        case unauthenticated
        /// The caller may not do this (403).
        case permissionDenied
        /// The named thing does not exist (404).
        case notFound
        /// The state of the thing forbids it: it exists already, is in use, has another version (409).
        case conflict
        /// The request is larger than what is accepted (413).
        case tooLarge
        /// The caller went away or asked for an end (499).
        case cancelled
        /// A defect or a failing machine (500).
        case failed
        /// Apus cannot do this yet; the message says what is missing (501).
        case unimplemented
        /// Not now: no leader, no swarm, a node that is away (503).
        case unavailable
        /// It took too long (504).
        case timedOut
        /// What was stored or received is damaged (500).
        case corrupt
    }

    /// What callers decide by; the message is for people.
    public var code: Code
    /// One sentence or two, without a trailing newline.
    public var message: String

    /// A message begins in lower case, names what is wrong, and says the next step where there is one.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }

    /// The same error with what was being done in front: `context: message`.
    public func during(_ context: String) -> ApusError { ApusError(code, "\(context): \(message)") }

    /// Any error as an `ApusError`; a foreign one becomes `failed`.
    public init(_ error: any Error) {
        if let error = error as? ApusError {
            self = error
        } else if error is CancellationError {
            self.init(.cancelled, "the operation was cancelled")
        } else {
            self.init(.failed, String(describing: error))
        }
    }
}
