/// Why a layer was not unpacked, for the exit status.
struct UnpackError: Error {
    enum Kind: Int32 {
        /// The machine failed, or the program was called wrongly.
        case machine = 1
        /// The archive is damaged, or it asks for something that is refused.
        case archive = 2
        /// The archive is larger than a limit.
        case limit = 3
    }

    var kind: Kind
    var message: String

    init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }
}
