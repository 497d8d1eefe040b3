import Fuzzing
import PluginAPI
import Testing

@Suite struct ConstraintTests {
    private var node: Node {
        var node = makeNode("n1", labels: ["disk": "SSD", "Rack.No": "r-1", "empty": ""], role: .manager, address: "10.1.2.3")
        node.description.engine.labels = ["storage": "overlay2"]
        node.description.hostname = "Worker-1.example"
        return node
    }

    @Test(
        arguments: [
            ("node.id==n1", true), ("node.id == N1", true), ("node.id!=n1", false), ("node.hostname==worker-1.EXAMPLE", true),
            ("node.role==manager", true),
            ("node.role != worker", true), ("NODE.ROLE==manager", true), ("node.platform.os==linux", true), ("node.platform.arch==x86_64", true),
            ("node.platform.arch==amd64", true), ("node.platform.arch!=aarch64", true), ("node.ip==10.1.2.3", true), ("node.ip==10.1.0.0/16", true),
            ("node.ip!=10.1.0.0/16", false), ("node.ip==192.168.0.0/16", false), ("node.ip==fd00::/8", false), ("node.labels.disk==ssd", true),
            ("node.labels.Disk==ssd", false), ("node.labels.Rack.No==r-1", true), ("node.labels.none!=x", true), ("node.labels.none==x", false),
            ("engine.labels.storage==overlay2", true), ("engine.labels.storage!=overlay2", false), ("engine.labels.other!=a b", true),
        ])
    func matches(text: String, expected: Bool) throws {
        #expect(try Constraint(text).matches(node) == expected)
    }

    @Test(
        arguments: [
            ("", "=="), ("node.role", "=="), ("node.role=manager", "=="), ("node.role>=2", "=="), ("==x", "before"), ("node.role==", "no value"),
            ("node.role==  ", "no value"),
            ("node.color==red", "unknown"), ("role==manager", "unknown"), ("node.labels==x", "name of a label"),
            ("node.labels.==x", "name of a label"),
            ("engine.labels.==x", "name of a label"), ("node labels.a==x", "key"), ("node.role==man\u{7}ager", "value"), ("node.role===x", "value"),
            ("node.ip==here", "address"), ("node.ip==10.0.0.0/33", "address"), ("node.hostname==ö", "value"),
        ])
    func refuses(text: String, reason: String) {
        do throws(ApusError) {
            _ = try Constraint(text)
            Issue.record("\(text) was accepted")
        } catch {
            #expect(error.code == .invalidArgument)
            #expect(error.message.contains(reason), "\(error.message)")
            #expect(!error.message.unicodeScalars.contains { $0.value < 32 })
        }
    }

    @Test func aNodeWithoutAddressIsInNoNetwork() throws {
        var node = node
        node.status.address = ""
        #expect(try Constraint("node.ip==10.0.0.0/8").matches(node) == false)
        #expect(try Constraint("node.ip!=10.0.0.0/8").matches(node))
    }

    /// Random bytes and mutations of good constraints: never a crash, and what is accepted reads the same again.
    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func fuzz(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let samples = ["node.id==n1", "node.labels.disk!=ssd", "engine.labels.a==b", "node.ip==10.0.0.0/8", "node.platform.arch == amd64"].map {
            Array($0.utf8)
        }
        let alphabet = Array("node.labelsrip=! \t/:*\u{0}\u{7f}é".utf8)
        var accepted = 0
        for _ in 0..<5000 {
            var bytes = samples.randomElement(using: &generator) ?? []
            for _ in 0..<Int.random(in: 0...4, using: &generator) {
                let position = Int.random(in: 0...bytes.count, using: &generator)
                let byte = alphabet.randomElement(using: &generator) ?? 0
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes.insert(byte, at: position)
                case 1: if position < bytes.count { bytes[position] = byte }
                default: if position < bytes.count { bytes.remove(at: position) }
                }
            }
            guard let constraint = try? Constraint(String(decoding: bytes, as: UTF8.self)) else { continue }
            accepted += 1
            let again = try Constraint(constraint.description)
            #expect(again.attribute == constraint.attribute && again.value == constraint.value && again.isEqual == constraint.isEqual)
            #expect(again.matches(node) == constraint.matches(node))
        }
        #expect(accepted > 500)
    }
}
