import Orchestration
public import PluginAPI

extension ContainerRequest {
    /// Checks everything that can be known of a container before its image and the machine are looked at. What it shares with a service's template
    /// is checked by the same code.
    ///
    /// - Throws: `invalidArgument` for what makes no sense, `unimplemented` for what Apus does not have.
    public func check() throws(ApusError) {
        guard !ServiceValidation.hasControlCharacters(configuration.imageReference) else {
            throw ApusError(.invalidArgument, "the image \"\(ServiceValidation.printable(configuration.imageReference))\" has a control character in its name")
        }
        try ContainerSpecValidation(
            sharedValues, of: .container, sharesNetwork: networks.contains { $0.target == "host" }, sharesMessages: configuration.ipcMode == "host"
        ).check()
        if configuration.log != LogDriver() { try LogDriverValidation(configuration.log).check() }
        try ResourceValidation(resources: configuration.resources).check()
        try checkNames()
        try checkPaths()
        try checkNetworks()
        try PublishedPorts.check(publishedPorts)
        for port in exposedPorts { _ = try ExposedPort(port) }
        guard configuration.shmSize >= 0 else { throw ApusError(.invalidArgument, "ShmSize: \(configuration.shmSize) is negative") }
        let profile = configuration.seccompProfile
        if !profile.isEmpty, profile != "unconfined" { try SeccompProfileSyntax.check(profile) }
    }

    /// What a service's template has too, in its form.
    private var sharedValues: ContainerSpec {
        var spec = ContainerSpec()
        spec.image = configuration.imageReference
        spec.labels = configuration.labels
        spec.command = entrypoint ?? []
        spec.arguments = command ?? []
        spec.hostname = configuration.hostname
        spec.environment = configuration.environment
        spec.workingDirectory = configuration.workingDirectory
        spec.user = configuration.user
        spec.groups = configuration.groups
        spec.mounts = configuration.mounts
        spec.stopSignal = configuration.stopSignal
        spec.healthcheck = configuration.healthcheck
        spec.dns = dns
        spec.sysctls = configuration.sysctls
        spec.capabilityAdd = configuration.capabilityAdd
        spec.capabilityDrop = configuration.capabilityDrop
        spec.ulimits = configuration.ulimits
        spec.oomScoreAdjustment = configuration.oomScoreAdjustment
        return spec
    }

    private func checkNames() throws(ApusError) {
        // The kernel's field has 64 bytes (uname(2)).
        guard configuration.domainname.isEmpty || configuration.domainname.utf8.count <= 64 && ServiceValidation.isHostName(configuration.domainname) else {
            throw ApusError(.invalidArgument, "invalid domain name: \"\(ServiceValidation.printable(configuration.domainname))\"")
        }
        for line in extraHosts {
            guard !ServiceValidation.hasControlCharacters(line.filter { $0 != "\t" }) else {
                throw ApusError(.invalidArgument, "invalid extra host \"\(ServiceValidation.printable(line))\": it has a control character")
            }
            // Which address the gateway has is not known yet; any stands for it.
            _ = try ContainerFiles.extraHost(line, gateway: IPAddress(v4: 0, 0, 0, 0))
        }
    }

    private func checkPaths() throws(ApusError) {
        for path in configuration.maskedPaths + configuration.readOnlyPaths + configuration.devices.flatMap({ [$0.hostPath, $0.containerPath] })
        where !path.isEmpty {
            guard path.hasPrefix("/"), !path.utf8.contains(0) else {
                throw ApusError(.invalidArgument, "\"\(ServiceValidation.printable(path))\" is not an absolute path")
            }
        }
        for device in configuration.devices {
            guard !device.hostPath.isEmpty else { throw ApusError(.invalidArgument, "Devices: PathOnHost is missing") }
            guard device.permissions.allSatisfy({ "rwm".contains($0) }) else {
                throw ApusError(
                    .invalidArgument, "invalid device mode: \(ServiceValidation.printable(device.permissions)) (only the letters r, w and m)")
            }
        }
        let parent = configuration.cgroupParent
        let parts = parent.split(separator: "/")
        guard !ServiceValidation.hasControlCharacters(parent), parent.isEmpty || !parts.isEmpty,
            parts.allSatisfy({ $0 != ".." && $0 != "." && $0.utf8.count <= 255 })
        else {
            throw ApusError(
                .invalidArgument, "CgroupParent: \"\(ServiceValidation.printable(parent))\" is not the path of a cgroup, such as /batch/nightly")
        }
    }

    private func checkNetworks() throws(ApusError) {
        for network in networks {
            guard !network.target.isEmpty, !ServiceValidation.hasControlCharacters(network.target) else {
                throw ApusError(.invalidArgument, "\"\(ServiceValidation.printable(network.target))\" is not the name of a network")
            }
            for alias in network.aliases where !ServiceValidation.isHostName(alias) {
                throw ApusError(
                    .invalidArgument,
                    "the alias \"\(ServiceValidation.printable(alias))\" in the network \(network.target) is not a name: letters and digits, with -, _ and . between them"
                )
            }
            guard network.address.isEmpty || IPAddress(network.address) != nil else {
                throw ApusError(
                    .invalidArgument, "\"\(ServiceValidation.printable(network.address))\", asked for in the network \(network.target), is not an IP address")
            }
        }
    }
}

/// A port that a container exposes, as the Engine API writes it: `80/tcp`, or `80` for TCP.
struct ExposedPort: Sendable, Hashable {
    var number: UInt16
    var transport: TransportProtocol

    /// - Throws: `invalidArgument` for what is no port; `unimplemented` for a range of them.
    init(_ text: String) throws(ApusError) {
        let halves = text.split(separator: "/", omittingEmptySubsequences: false)
        let wrong = ApusError(.invalidArgument, "ExposedPorts: \"\(ServiceValidation.printable(text))\" is not a port such as 80/tcp")
        guard let first = halves.first, halves.count <= 2, let transport = TransportProtocol(rawValue: halves.count == 2 ? String(halves[1]) : "tcp") else {
            throw wrong
        }
        let ends = first.split(separator: "-", omittingEmptySubsequences: false)
        if ends.count == 2, ends.allSatisfy({ UInt16($0) != nil }) {
            throw ApusError(.unimplemented, "ExposedPorts: \"\(text)\": ranges of ports are not in this version of Apus")
        }
        guard first.utf8.allSatisfy({ (48...57).contains($0) }), let number = UInt16(first), number > 0 else { throw wrong }
        self.number = number
        self.transport = transport
    }
}
