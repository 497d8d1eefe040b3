public import PluginAPI
public import Store

/// The secrets and configs that a service names.
public enum FileReferences {
    /// Where in a container secrets are that do not say otherwise.
    static let secretFolder = "/run/secrets"

    /// The spec with every secret and config named by both id and name, and with the defaults of their files.
    ///
    /// A reference may have either; one whose name is an id will do as well.
    /// - Throws: `invalidArgument` for what does not exist, as Docker says it.
    public static func resolved(_ spec: ServiceSpec, in snapshot: StoreSnapshot) throws(ApusError) -> ServiceSpec {
        guard var container = spec.task.container, !container.secrets.isEmpty || !container.configs.isEmpty else { return spec }
        var missing: [String] = []
        for index in container.secrets.indices {
            var reference = container.secrets[index]
            let wanted = reference.secretName
            guard
                let secret = reference.secretID.isEmpty ? snapshot.secret(named: wanted) ?? snapshot.secrets[ID(wanted)] : snapshot.secrets[reference.secretID],
                wanted.isEmpty || wanted == secret.spec.name || wanted == secret.id.text
            else {
                missing.append(wanted.isEmpty ? reference.secretID.text : wanted)
                continue
            }
            (reference.secretID, reference.secretName) = (secret.id, secret.spec.name)
            reference.file = completed(reference.file, name: secret.spec.name)
            container.secrets[index] = reference
        }
        try check(missing, "secret")
        for index in container.configs.indices {
            var reference = container.configs[index]
            let wanted = reference.configName
            guard
                let config = reference.configID.isEmpty ? snapshot.config(named: wanted) ?? snapshot.configs[ID(wanted)] : snapshot.configs[reference.configID],
                wanted.isEmpty || wanted == config.spec.name || wanted == config.id.text
            else {
                missing.append(wanted.isEmpty ? reference.configID.text : wanted)
                continue
            }
            (reference.configID, reference.configName) = (config.id, config.spec.name)
            reference.file = completed(reference.file, name: config.spec.name)
            container.configs[index] = reference
        }
        try check(missing, "config")
        var spec = spec
        spec.task.container = container
        return spec
    }

    /// Names of the services that use a secret.
    public static func services(usingSecret id: ID, in snapshot: StoreSnapshot) -> [String] {
        services(in: snapshot) { $0.secrets.contains { $0.secretID == id } }
    }

    /// Names of the services that use a config.
    public static func services(usingConfig id: ID, in snapshot: StoreSnapshot) -> [String] {
        services(in: snapshot) { $0.configs.contains { $0.configID == id } }
    }

    private static func services(in snapshot: StoreSnapshot, _ uses: (ContainerSpec) -> Bool) -> [String] {
        snapshot.services.values.filter { $0.spec.task.container.map(uses) ?? false }.map(\.spec.name).sorted()
    }

    private static func check(_ missing: [String], _ kind: String) throws(ApusError) {
        guard !missing.isEmpty else { return }
        let names = missing.map { ServiceValidation.printable($0) }.joined(separator: ", ")
        throw ApusError(.invalidArgument, "\(kind)\(missing.count == 1 ? "" : "s") not found: \(names)")
    }

    private static func completed(_ file: FileTarget?, name: String) -> FileTarget {
        var target = file ?? FileTarget()
        if file == nil { target.mode = 0o444 }
        if target.name.isEmpty { target.name = name }
        if target.uid.isEmpty { target.uid = "0" }
        if target.gid.isEmpty { target.gid = "0" }
        return target
    }

    /// The file's path in the container.
    public static func path(ofSecret file: FileTarget) -> String { path(file.name, in: secretFolder) }
    /// The file's path in the container.
    public static func path(ofConfig file: FileTarget) -> String { path(file.name, in: "") }

    private static func path(_ name: String, in folder: String) -> String {
        MountValidation.normalized(name.hasPrefix("/") ? name : "\(folder)/\(name)")
    }

    /// What can be said of the references without the store.
    /// - Throws: `invalidArgument`.
    static func check(_ spec: ContainerSpec) throws(ApusError) {
        var targets: [String: String] = [:]
        for mount in spec.mounts { targets[MountValidation.normalized(mount.target)] = "a mount" }
        for secret in spec.secrets {
            let name = secret.secretName.isEmpty ? secret.secretID.text : secret.secretName
            try check("secret", name, secret.file, &targets, path: path(ofSecret:))
        }
        for config in spec.configs {
            let name = config.configName.isEmpty ? config.configID.text : config.configName
            try check("config", name, config.file, &targets, path: path(ofConfig:))
        }
    }

    private static func check(
        _ kind: String, _ name: String, _ file: FileTarget?, _ targets: inout [String: String], path: (FileTarget) -> String
    ) throws(ApusError) {
        func invalid(_ message: String) -> ApusError { ApusError(.invalidArgument, "ContainerSpec: \(message)") }
        guard !name.isEmpty else { throw invalid("malformed \(kind) reference: it names no \(kind)") }
        let shown = ServiceValidation.printable(name)
        let file = completed(file, name: name)
        for (what, number) in [("UID", file.uid), ("GID", file.gid)] {
            guard let value = UInt32(number), value < .max, number.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else {
                throw invalid("\(kind) \(shown): the \(what) \"\(ServiceValidation.printable(number))\" is not a number; names are not known here")
            }
        }
        guard file.mode <= 0o7777 else { throw invalid("\(kind) \(shown): the mode \(file.mode) has more than the permission bits") }
        guard file.name.utf8.count <= 4096, !ServiceValidation.hasControlCharacters(file.name),
            !file.name.split(separator: "/").contains(".."), path(file) != "/", !file.name.hasSuffix("/")
        else { throw invalid("\(kind) \(shown): the target \"\(ServiceValidation.printable(file.name))\" is not the path of a file in the container") }
        let target = path(file)
        if let other = targets.updateValue("\(kind) '\(shown)'", forKey: target) {
            throw invalid("\(kind) references '\(shown)' and \(other) have a conflicting target: '\(ServiceValidation.printable(target))'")
        }
    }
}
