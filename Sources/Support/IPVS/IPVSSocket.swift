import CNetlinkGeneric
import Glibc
import PluginAPI

/// The virtual servers of one network namespace, over generic netlink.
///
/// The socket stays in the namespace in which it was opened and is used by one thread at a time.
public final class IPVSSocket {
    private let socket: OpaquePointer
    private let family: Int32

    /// Opens a socket in the calling thread's namespace. The kernel loads IPVS if it has it as a module.
    /// - Throws: `unavailable` when this kernel has no IPVS.
    public init() throws(ApusError) {
        guard let socket = nl_socket_alloc() else { throw .outOfMemory }
        let code = genl_connect(socket)
        guard code >= 0 else {
            nl_socket_free(socket)
            throw .netlink("cannot open a generic netlink socket", code)
        }
        let family = genl_ctrl_resolve(socket, Protocol.family)
        guard family >= 0 else {
            nl_socket_free(socket)
            throw ApusError(.unavailable, "this kernel has no IPVS (CONFIG_IP_VS, module ip_vs): \(String(cString: nl_geterror(family)))")
        }
        self.socket = socket
        self.family = family
        // A dump that other changes interleave with is marked as such; what it has is right all the same.
        nl_socket_disable_seq_check(socket)
    }

    deinit { nl_socket_free(socket) }

    /// Those by firewall mark.
    public func servers() throws(ApusError) -> [VirtualServer] {
        try dump(.getService, [], of: Protocol.service, "cannot list the virtual servers").compactMap { VirtualServer($0) }
    }

    /// Empty also when there is no such virtual server.
    public func destinations(of server: VirtualServer) throws(ApusError) -> [RealServerState] {
        var payload: [UInt8] = []
        Attributes.put(Protocol.service, server.identity, into: &payload)
        return try dump(.getDestination, payload, of: Protocol.destination, "cannot list the destinations of \(server)").compactMap {
            RealServerState($0, isIPv4: server.isIPv4)
        }
    }

    /// Makes one change. One that is made already is no error.
    public func make(_ change: IPVSChange) throws(ApusError) {
        var payload: [UInt8] = []
        let command: Protocol.Command
        switch change {
        case .addServer(let server):
            command = .newService
            Attributes.put(Protocol.service, server.definition, into: &payload)
        case .removeServer(let server):
            command = .deleteService
            Attributes.put(Protocol.service, server.identity, into: &payload)
        case .add(let destination, let server):
            command = .newDestination
            Attributes.put(Protocol.service, server.identity, into: &payload)
            Attributes.put(Protocol.destination, destination.definition(weight: 1), into: &payload)
        case .setWeight(let weight, let destination, let server):
            command = .setDestination
            Attributes.put(Protocol.service, server.identity, into: &payload)
            Attributes.put(Protocol.destination, destination.definition(weight: weight), into: &payload)
        case .remove(let destination, let server):
            command = .deleteDestination
            Attributes.put(Protocol.service, server.identity, into: &payload)
            Attributes.put(Protocol.destination, destination.identity, into: &payload)
        }
        let code = try send(command, flags: 0, payload) ?? nl_wait_for_ack(socket)
        switch change {
        case .addServer, .add: if code == -NLE_EXIST { return }
        case .removeServer, .remove: if code == -NLE_OBJ_NOTFOUND { return }
        case .setWeight: break
        }
        guard code >= 0 else { throw .netlink("cannot \(change)", code) }
    }

    private func dump(
        _ command: Protocol.Command, _ payload: [UInt8], of type: UInt16, _ doing: @autoclosure () -> String
    ) throws(ApusError) -> [[UInt16: [UInt8]]] {
        var code: Int32 = 0
        // What others change meanwhile cuts a list short; that it happens each time is not to be expected.
        for _ in 0..<8 {
            let collector = Collector()
            let context = Unmanaged.passUnretained(collector).toOpaque()
            code = try withExtendedLifetime(collector) { () throws(ApusError) -> Int32 in
                nl_socket_modify_cb(
                    socket, NL_CB_VALID, NL_CB_CUSTOM,
                    { message, context in
                        if let context, let message, let header = nlmsg_hdr(message) {
                            Unmanaged<Collector>.fromOpaque(context).takeUnretainedValue().take(header)
                        }
                        return Int32(NL_OK.rawValue)
                    }, context)
                defer { nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_DEFAULT, nil, nil) }
                return try send(command, flags: NLM_F_DUMP, payload) ?? nl_recvmsgs_default(socket)
            }
            if code >= 0 { return collector.payloads.compactMap { Attributes.parse($0)[type] }.map { Attributes.parse($0) } }
            guard code == -NLE_DUMP_INTR else { break }
        }
        throw .netlink(doing(), code)
    }

    /// Returns libnl's error, or `nil` when the message is on its way.
    private func send(_ command: Protocol.Command, flags: Int32, _ payload: [UInt8]) throws(ApusError) -> Int32? {
        guard let message = nlmsg_alloc() else { throw .outOfMemory }
        defer { nlmsg_free(message) }
        var payload = payload
        guard genlmsg_put(message, 0, 0, family, 0, flags, command.rawValue, Protocol.version) != nil else { throw .outOfMemory }
        let code = payload.isEmpty ? 0 : nlmsg_append(message, &payload, payload.count, 0)
        guard code >= 0 else { return code }
        let sent = nl_send_auto(socket, message)
        return sent < 0 ? sent : nil
    }

    private final class Collector {
        private(set) var payloads: [[UInt8]] = []

        func take(_ header: UnsafeMutablePointer<nlmsghdr>) {
            guard let generic = genlmsg_hdr(header), let start = genlmsg_attrdata(generic, 0) else { return }
            let length = genlmsg_attrlen(generic, 0)
            payloads.append([UInt8](UnsafeRawBufferPointer(start: start, count: Int(max(0, length)))))
        }
    }
}

extension ApusError {
    /// What libnl says, behind what was being done. The code follows libnl's.
    fileprivate static func netlink(_ doing: String, _ number: Int32) -> ApusError {
        let code: Code =
            switch abs(number) {
            case NLE_OBJ_NOTFOUND: .notFound
            case NLE_EXIST, NLE_BUSY: .conflict
            case NLE_PERM, NLE_NOACCESS: .permissionDenied
            case NLE_OPNOTSUPP, NLE_AF_NOSUPPORT: .unavailable
            default: .failed
            }
        return ApusError(code, "IPVS: \(doing): \(String(cString: nl_geterror(number)))")
    }

    fileprivate static var outOfMemory: ApusError { ApusError(.failed, "out of memory") }
}
