import Orchestration
import PluginAPI
import Store

/// What the specs of secrets and configs have in common.
protocol SwarmFileSpec {
    var name: String { get set }
    var labels: [String: String] { get set }
    var data: [UInt8] { get set }
}

extension SecretSpec: SwarmFileSpec {}
extension ConfigSpec: SwarmFileSpec {}

/// What secrets and configs have in common.
protocol SwarmFile: FieldCoded {
    associatedtype Spec: SwarmFileSpec

    /// `secret` or `config`.
    static var kind: ObjectKind { get }
    /// What the data must be smaller than, in bytes.
    static var limit: Int { get }

    var id: ID { get set }
    var version: Version { get }
    var spec: Spec { get set }
    var stored: StoredObject { get }

    static func all(in snapshot: StoreSnapshot) -> [Self]
    static func named(_ name: String, in snapshot: StoreSnapshot) -> Self?
    /// Names of the services that use it.
    static func services(using id: ID, in snapshot: StoreSnapshot) -> [String]
}

extension SwarmFile {
    var name: String {
        get { spec.name }
        set { spec.name = newValue }
    }
    var labels: [String: String] {
        get { spec.labels }
        set { spec.labels = newValue }
    }
    var data: [UInt8] {
        get { spec.data }
        set { spec.data = newValue }
    }
}

extension Secret: SwarmFile {
    static var kind: ObjectKind { .secret }
    static var limit: Int { FileValidation.secretLimit }
    var stored: StoredObject { .secret(self) }
    static func all(in snapshot: StoreSnapshot) -> [Secret] { Array(snapshot.secrets.values) }
    static func named(_ name: String, in snapshot: StoreSnapshot) -> Secret? { snapshot.secret(named: name) }
    static func services(using id: ID, in snapshot: StoreSnapshot) -> [String] { FileReferences.services(usingSecret: id, in: snapshot) }
}

extension Config: SwarmFile {
    static var kind: ObjectKind { .config }
    static var limit: Int { FileValidation.configLimit }
    var stored: StoredObject { .config(self) }
    static func all(in snapshot: StoreSnapshot) -> [Config] { Array(snapshot.configs.values) }
    static func named(_ name: String, in snapshot: StoreSnapshot) -> Config? { snapshot.config(named: name) }
    static func services(using id: ID, in snapshot: StoreSnapshot) -> [String] { FileReferences.services(usingConfig: id, in: snapshot) }
}
