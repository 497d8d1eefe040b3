import Coding
import PluginAPI

/// Fields of the Engine API up to 1.50 that Apus does not have, in values that are otherwise read as a whole: they are said to be missing, where a field
/// that nobody knows is said to be wrong.
enum MissingFields {
    /// - Throws: `unimplemented`, naming the field; `nil`, null and what has the wrong form are for the reader to judge.
    static func check(mounts: JSONValue?, path: String) throws(ApusError) {
        for (index, mount) in (mounts?.array ?? []).enumerated() {
            if let type = mount["Type"]?.string, ["image", "cluster", "npipe"].contains(type) {
                throw ApusError(
                    .unimplemented, "\(path)[\(index)].Type: mounts of the type \(type) are not in this version of Apus; bind, volume and tmpfs are")
            }
            for field in ["ImageOptions", "ClusterOptions"] { try check(mount, field, "\(path)[\(index)]") }
            if let options = mount["TmpfsOptions"] { try check(options, "Options", "\(path)[\(index)].TmpfsOptions") }
        }
    }

    /// A service's spec.
    static func check(service: JSONValue) throws(ApusError) {
        guard let task = service["TaskTemplate"] else { return }
        for field in ["PluginSpec", "NetworkAttachmentSpec"] { try check(task, field, "TaskTemplate") }
        try check(mounts: task["ContainerSpec"]?["Mounts"], path: "TaskTemplate.ContainerSpec.Mounts")
    }

    private static func check(_ json: JSONValue, _ field: String, _ path: String) throws(ApusError) {
        guard let value = json[field], !value.isNull else { return }
        throw ApusError(.unimplemented, "\(path).\(field) is not in this version of Apus")
    }
}

extension APIRequest {
    /// The body as a service's spec.
    func serviceSpec() throws(ApusError) -> ServiceSpec {
        if !body.isEmpty { try MissingFields.check(service: json()) }
        return try decode(ServiceSpec.self)
    }
}
