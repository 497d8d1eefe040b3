/// The registry of an image's name.
enum ImageReference {
    /// The host that a reference names, or `docker.io`.
    static func registry(_ reference: String) -> String {
        let (first, rest) = reference.cut(at: "/")
        guard rest != nil, first.contains(".") || first.contains(":") || first == "localhost" else { return "docker.io" }
        return first
    }

    /// The name and the tag; `latest` when neither tag nor digest is given.
    static func split(_ reference: String) -> (name: String, tag: String) {
        let (name, digest) = reference.cut(at: "@")
        if let digest { return (name, digest) }
        let last = reference.lastIndex(of: "/").map { reference[reference.index(after: $0)...] } ?? reference[...]
        guard let colon = last.lastIndex(of: ":") else { return (reference, "latest") }
        return (String(reference[..<colon]), String(reference[reference.index(after: colon)...]))
    }
}
