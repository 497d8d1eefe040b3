import PluginAPI
import Processes

/// The checks of what runs in a task.
struct ContainerSpecValidation {
    let spec: ContainerSpec

    func check() throws(ApusError) {
        try checkImage()
        try checkProcess()
        try checkPrivileges()
        try checkHealth()
        try checkNames()
        for mount in spec.mounts { try MountValidation(mount: mount).check() }
        try checkTargets()
        try FileReferences.check(spec)
    }

    private func invalid(_ message: String) -> ApusError { ApusError(.invalidArgument, "ContainerSpec: \(message)") }
    private func shown(_ text: String) -> String { ServiceValidation.printable(text) }

    private func checkImage() throws(ApusError) {
        guard !spec.image.isEmpty else { throw invalid("image reference must be provided") }
        guard ImageReferenceSyntax.isValid(spec.image) else { throw invalid("\"\(shown(spec.image))\" is not a valid repository/tag") }
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
        for (key, value) in spec.sysctls.sorted(by: { $0.key < $1.key }) {
            guard !key.isEmpty, key.utf8.allSatisfy({ ServiceValidation.isAlphanumeric($0) || ".-_/".utf8.contains($0) }), !key.contains(".."),
                !value.utf8.contains(0)
            else { throw invalid("sysctl \"\(shown(key))\" is not the name of a kernel parameter") }
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
        for name in spec.capabilityAdd + spec.capabilityDrop {
            guard !name.isEmpty, name.utf8.allSatisfy({ ServiceValidation.isAlphanumeric($0) || $0 == UInt8(ascii: "_") }) else {
                throw invalid("invalid capability: \"\(shown(name))\"")
            }
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
        if !spec.hostname.isEmpty, !spec.hostname.contains("{{") {
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

    private func checkTargets() throws(ApusError) {
        var seen: Set<String> = []
        for mount in spec.mounts {
            guard seen.insert(MountValidation.normalized(mount.target)).inserted else {
                throw invalid("duplicate mount point: \(shown(mount.target))")
            }
        }
    }
}
