import PluginAPI

/// Names of containers: what is allowed, and one for those who did not choose.
enum ContainerName {
    /// Throws `invalidArgument` with the rule that is broken. Networks have the same rules.
    static func check(_ name: String, of thing: String = "container") throws(ApusError) {
        guard !name.isEmpty else { throw ApusError(.invalidArgument, "the name of the \(thing) is missing") }
        func isLetterOrDigit(_ byte: UInt8) -> Bool {
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
        }
        let bytes = Array(name.utf8)
        let isRight =
            bytes.count >= 2 && isLetterOrDigit(bytes[0])
            && bytes.dropFirst().allSatisfy { isLetterOrDigit($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") }
        guard isRight else {
            throw ApusError(.invalidArgument, "Invalid \(thing) name (\(printable(name))), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        }
        guard bytes.count <= 255 else { throw ApusError(.invalidArgument, "the \(thing) name is longer than 255 characters") }
    }

    /// A quality and a bird; after some tries with a number behind.
    static func generate(using generator: inout some RandomNumberGenerator, isTaken: (String) -> Bool) -> String {
        for attempt in 0... {
            let quality = qualities[Int.random(in: 0..<qualities.count, using: &generator)]
            let bird = birds[Int.random(in: 0..<birds.count, using: &generator)]
            let number = attempt < 6 ? "" : String(Int.random(in: 0..<(attempt < 12 ? 10 : 1_000_000), using: &generator))
            let name = "\(quality)_\(bird)\(number)"
            if !isTaken(name) { return name }
        }
        return ID.randomContainer().short
    }

    private static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(80).map { $0.value < 32 || $0.value == 127 ? "?" : $0 }))
    }

    static let qualities = [
        "agile", "airy", "ample", "arctic", "autumn", "azure", "brisk", "bronze", "calm", "candid", "cheerful", "clear", "coastal", "copper", "crisp",
        "curious",
        "dapper", "daring", "dawning", "deft", "dusky", "eager", "early", "earnest", "elegant", "fabled", "fair", "fearless", "fleet", "fluent",
        "free", "gentle",
        "gilded", "glad", "golden", "graceful", "hardy", "hazel", "high", "homing", "humble", "ivory", "jolly", "keen", "kind", "light", "lively",
        "lucid",
        "lunar", "mellow", "merry", "mild", "misty", "nimble", "noble", "northern", "patient", "placid", "plucky", "polar", "prompt", "proud",
        "quick", "quiet",
        "rapid", "ready", "restful", "roaming", "rosy", "rustic", "sable", "serene", "silent", "silver", "sleek", "snowy", "soaring", "solar",
        "southern", "spry",
        "steady", "sturdy", "sunny", "supple", "tawny", "tidal", "tireless", "tranquil", "trusty", "upland", "valiant", "velvet", "vivid",
        "wandering", "warm",
        "watchful", "western", "wild", "windy", "winged", "wise", "witty", "woodland", "zesty",
    ]

    static let birds = [
        "albatross", "auk", "avocet", "bittern", "blackbird", "bluetit", "bullfinch", "bunting", "bustard", "buzzard", "chaffinch", "chough", "coot",
        "cormorant",
        "corncrake", "crane", "crossbill", "cuckoo", "curlew", "dipper", "dotterel", "dove", "dunlin", "dunnock", "eagle", "egret", "eider", "falcon",
        "fieldfare", "finch", "firecrest", "flycatcher", "fulmar", "gadwall", "gannet", "godwit", "goldcrest", "goldfinch", "goosander", "goshawk",
        "grebe",
        "greenshank", "grouse", "guillemot", "harrier", "hawfinch", "heron", "hobby", "hoopoe", "ibis", "jackdaw", "jay", "kestrel", "kingfisher",
        "kite",
        "kittiwake", "knot", "lapwing", "lark", "linnet", "magpie", "mallard", "martin", "merlin", "moorhen", "nightingale", "nightjar", "nuthatch",
        "oriole",
        "osprey", "ouzel", "owl", "partridge", "pelican", "petrel", "pigeon", "pintail", "pipit", "plover", "pochard", "ptarmigan", "puffin", "quail",
        "raven",
        "redpoll", "redshank", "redstart", "redwing", "robin", "roller", "rook", "ruff", "sanderling", "sandpiper", "serin", "shearwater", "shelduck",
        "shoveler",
        "shrike", "siskin", "skua", "skylark", "snipe", "sparrow", "spoonbill", "starling", "stonechat", "stork", "swallow", "swan", "swift", "teal",
        "tern",
        "thrush", "treecreeper", "turnstone", "wagtail", "warbler", "waxwing", "wheatear", "whimbrel", "whinchat", "whitethroat", "wigeon",
        "woodcock",
        "woodpecker", "wren", "wryneck", "yellowhammer",
    ]
}

/// Names for what its user gives none.
public enum RandomName {
    /// An adjective and a noun that nobody has yet.
    public static func generate(isTaken: (String) -> Bool) -> String {
        var generator = SystemRandomNumberGenerator()
        return ContainerName.generate(using: &generator, isTaken: isTaken)
    }
}
