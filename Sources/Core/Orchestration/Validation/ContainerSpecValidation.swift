public import PluginAPI
import Processes

/// The checks of what runs in a task, and of what runs in a container of a node's own: both are made of the same values.
public struct ContainerSpecValidation: Sendable {
    /// Whose values they are.
    public enum Subject: Sendable, Hashable {
        /// A service's template: its texts may hold placeholders, which the node fills in.
        case service
        /// One container, in which everything is filled in.
        case container
    }

    let spec: ContainerSpec
    let subject: Subject
    /// Of the container; a service is never in the host's IPC namespace.
    let sharesNetwork: Bool
    let sharesMessages: Bool

    /// - Parameters:
    ///   - sharesNetwork: whether it uses the host's network namespace.
    ///   - sharesMessages: whether it uses the host's IPC namespace.
    public init(_ spec: ContainerSpec, of subject: Subject, sharesNetwork: Bool = false, sharesMessages: Bool = false) {
        self.spec = spec
        self.subject = subject
        self.sharesNetwork = sharesNetwork
        self.sharesMessages = sharesMessages
    }

    /// - Throws: `invalidArgument` for what makes no sense, `unimplemented` for what Apus does not have.
    public func check() throws(ApusError) {
        try checkImage()
        try checkProcess()
        try checkPrivileges()
        try checkHealth()
        try checkNames()
        for mount in spec.mounts { try MountValidation(mount: mount, allowsPlaceholders: subject == .service).check() }
        try checkTargets()
        if subject == .service { try checkPlaceholders() }
        try FileReferences.check(spec)
    }

    private func invalid(_ message: String) -> ApusError {
        ApusError(.invalidArgument, subject == .service ? "ContainerSpec: \(message)" : message)
    }
    private func shown(_ text: String) -> String { ServiceValidation.printable(text) }

    private func checkImage() throws(ApusError) {
        guard !spec.image.isEmpty else { throw invalid("image reference must be provided") }
        // A container may name its image by id too, which is looked up in any case.
        guard subject == .container || ImageReferenceSyntax.isValid(spec.image) else { throw invalid("\"\(shown(spec.image))\" is not a valid repository/tag") }
    }

    private func checkProcess() throws(ApusError) {
        try ServiceValidation.checkLabels(spec.labels, of: "container")
        for variable in spec.environment {
            guard !variable.isEmpty, !variable.hasPrefix("=") else {
                throw invalid("invalid environment variable: \"\(shown(variable))\" has no name")
            }
            guard !variable.utf8.contains(0) else { throw invalid("invalid environment variable: \"\(shown(variable))\" has a NUL") }
        }
        for text in spec.command + spec.arguments + [spec.user] + spec.groups where text.utf8.contains(0) {
            throw invalid("\"\(shown(text))\" has a NUL")
        }
        guard spec.workingDirectory.isEmpty || (spec.workingDirectory.hasPrefix("/") && !spec.workingDirectory.utf8.contains(0)) else {
            throw invalid("the working directory '\(shown(spec.workingDirectory))' is invalid, it needs to be an absolute path")
        }
        if let grace = spec.stopGracePeriod, grace < .zero { throw invalid("StopGracePeriod cannot be negative") }
        guard spec.stopSignal.isEmpty || (try? SignalName.number(spec.stopSignal)) != nil else { throw invalid("invalid signal: \(shown(spec.stopSignal))") }
        guard ["", "default"].contains(spec.isolation) else { throw invalid("isolation \"\(shown(spec.isolation))\" exists on Windows only") }
        guard (-1000...1000).contains(spec.oomScoreAdjustment) else {
            throw invalid("OomScoreAdj: \(spec.oomScoreAdjustment) is not from -1000 to 1000")
        }
        do throws(ApusError) {
            try KernelParameters(values: spec.sysctls, sharesNetwork: sharesNetwork, sharesMessages: sharesMessages).check()
        } catch {
            throw invalid(error.message)
        }
        for limit in spec.ulimits {
            guard Self.limits.contains(limit.name) else {
                throw invalid("ulimit \"\(shown(limit.name))\" is unknown; known are \(Self.limits.joined(separator: ", "))")
            }
            guard limit.hard == -1 || (limit.soft != -1 && limit.soft <= limit.hard) else {
                throw invalid("ulimit \(limit.name): the soft limit \(limit.soft) is higher than the hard limit \(limit.hard)")
            }
        }
    }

    private static let limits = [
        "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending",
        "stack",
    ]

    private func checkPrivileges() throws(ApusError) {
        for name in spec.capabilityAdd + spec.capabilityDrop where !CapabilitySyntax.isValid(name) {
            throw invalid("unknown capability: \"\(shown(name))\"")
        }
        guard let privileges = spec.privileges else { return }
        guard privileges.credentialSpec == nil || privileges.credentialSpec == CredentialSpec() else {
            throw ApusError(.unimplemented, "ContainerSpec.Privileges.CredentialSpec: credential specs exist on Windows only")
        }
        if let selinux = privileges.selinux, selinux != SELinuxContext(), !selinux.disable {
            throw ApusError(.unimplemented, "ContainerSpec.Privileges.SELinuxContext: SELinux labels are not supported yet")
        }
        if let seccomp = privileges.seccomp {
            guard ["", "default", "unconfined", "custom"].contains(seccomp.mode) else {
                throw invalid("Privileges.Seccomp.Mode: \"\(shown(seccomp.mode))\" is not one of default, unconfined, custom")
            }
            guard (seccomp.mode == "custom") == !seccomp.profile.isEmpty else {
                throw invalid("Privileges.Seccomp: a profile is given exactly when the mode is custom")
            }
            if !seccomp.profile.isEmpty {
                do throws(ApusError) {
                    try SeccompProfileSyntax.check(String(decoding: seccomp.profile, as: UTF8.self))
                } catch {
                    throw invalid("Privileges.Seccomp.Profile: \(error.message)")
                }
            }
        }
        if let mode = privileges.appArmor?.mode, !["", "default", "disabled"].contains(mode) {
            throw invalid("Privileges.AppArmor.Mode: \"\(shown(mode))\" is not one of default, disabled")
        }
    }

    private func checkHealth() throws(ApusError) {
        guard let health = spec.healthcheck else { return }
        if let kind = health.test.first, !kind.isEmpty, !["NONE", "CMD", "CMD-SHELL"].contains(kind) {
            throw invalid("Healthcheck: \"\(shown(kind))\" is not one of NONE, CMD, CMD-SHELL")
        }
        if let kind = health.test.first, kind != "NONE", !kind.isEmpty, health.test.count < 2 { throw invalid("Healthcheck: there is no command") }
        for word in health.test where word.utf8.contains(0) { throw invalid("Healthcheck: \"\(shown(word))\" has a NUL") }
        let times = [
            ("Interval", health.interval), ("Timeout", health.timeout), ("StartPeriod", health.startPeriod), ("StartInterval", health.startInterval),
        ]
        for (name, time) in times where time != .zero && time < .milliseconds(1) {
            throw invalid("\(name) in Healthcheck cannot be less than 1ms")
        }
        guard health.retries >= 0 else { throw invalid("Retries in Healthcheck cannot be negative") }
    }

    private func checkNames() throws(ApusError) {
        // Names may hold templates, which the node fills in.
        if !spec.hostname.isEmpty, subject == .container || !spec.hostname.contains("{{") {
            let parts = spec.hostname.split(separator: ".", omittingEmptySubsequences: false)
            guard spec.hostname.utf8.count <= 63, parts.allSatisfy({ ServiceValidation.isNameComponent(String($0)) }) else {
                throw invalid("invalid hostname: \"\(shown(spec.hostname))\"")
            }
        }
        for line in spec.hosts {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard words.count >= 2, let address = words.first, IPAddress(String(address)) != nil,
                !ServiceValidation.hasControlCharacters(line.filter { $0 != "\t" })
            else {
                throw invalid("Hosts: \"\(shown(line))\" is not an address and a name")
            }
        }
        for server in spec.dns?.nameservers ?? [] where IPAddress(server) == nil {
            throw invalid("DNSConfig.Nameservers: \"\(shown(server))\" is not an IP address")
        }
        for text in (spec.dns?.search ?? []) + (spec.dns?.options ?? [])
        where text.isEmpty || ServiceValidation.hasControlCharacters(text) || text.contains(" ") {
            throw invalid("DNSConfig: \"\(shown(text))\" cannot stand in resolv.conf")
        }
    }

    /// What the node would find out only when the task is to start.
    private func checkPlaceholders() throws(ApusError) {
        var texts = spec.environment + [spec.hostname]
        for mount in spec.mounts { texts += [mount.source, mount.target] + (mount.volumeOptions?.labels.values.sorted() ?? []) }
        for text in texts {
            do throws(ApusError) { _ = try PlaceholderText(text) } catch { throw invalid(error.message) }
        }
    }

    private func checkTargets() throws(ApusError) {
        var seen: Set<String> = []
        for mount in spec.mounts {
            guard seen.insert(MountValidation.normalized(mount.target)).inserted else {
                throw invalid("duplicate mount point: \(shown(mount.target))")
            }
        }
    }
}
