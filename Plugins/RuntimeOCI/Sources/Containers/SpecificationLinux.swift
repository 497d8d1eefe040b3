import Coding
import PluginAPI

/// A device node of the host that a container gets.
struct HostDevice: Sendable, Hashable {
    /// Inside.
    var path: String
    /// `c` or `b`.
    var type: String
    var major: Int64
    var minor: Int64
    /// Permission bits.
    var mode: Int64
    var user: Int64
    var group: Int64
    /// Of `rwm`.
    var access: String
}

extension Specification {
    func linux() throws(ApusError) -> JSONValue {
        var linux: JSONValue = [
            "namespaces": namespaces(),
            "cgroupsPath": .string(context.cgroupPath),
            "resources": try resources(),
        ]
        let sysctls = sysctls()
        if !sysctls.isEmpty { linux["sysctl"] = JSONValue(sysctls) }
        if !context.devices.isEmpty { linux["devices"] = .array(context.devices.map(Self.json)) }
        if !configuration.privileged {
            let isDefault = configuration.maskedPaths.isEmpty && configuration.readOnlyPaths.isEmpty
            linux["maskedPaths"] = JSONValue(isDefault ? Self.maskedPaths : configuration.maskedPaths)
            linux["readonlyPaths"] = JSONValue(isDefault ? Self.readOnlyPaths : configuration.readOnlyPaths)
        }
        if let seccomp = try seccomp() { linux["seccomp"] = seccomp }
        return linux
    }

    private func namespaces() -> JSONValue {
        var result: [JSONValue] = [["type": "mount"], ["type": "uts"]]
        if configuration.ipcMode != "host" { result.append(["type": "ipc"]) }
        if configuration.pidMode != "host" { result.append(["type": "pid"]) }
        if !configuration.networkNamespacePath.isEmpty {
            result.append(["type": "network", "path": .string(configuration.networkNamespacePath)])
        }
        if context.cgroupVersion == 2, !configuration.privileged { result.append(["type": "cgroup"]) }
        return .array(result)
    }

    /// As Docker does, so that a process without privileges may answer pings and listen on port 80 in its own network.
    private func sysctls() -> [String: String] {
        var result: [String: String] = [:]
        if !configuration.networkNamespacePath.isEmpty, !configuration.privileged {
            result["net.ipv4.ip_unprivileged_port_start"] = "0"
            result["net.ipv4.ping_group_range"] = "0 2147483647"
        }
        // The specification's own field came later than 1.0.
        if !configuration.domainname.isEmpty { result["kernel.domainname"] = configuration.domainname }
        return result.merging(configuration.sysctls) { $1 }
    }

    static let maskedPaths = [
        "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
        "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
    ]
    static let readOnlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

    private func seccomp() throws(ApusError) -> JSONValue? {
        if configuration.privileged, configuration.seccompProfile.isEmpty { return nil }
        if configuration.seccompProfile == "unconfined" { return nil }
        guard context.seccompSupported else {
            if configuration.seccompProfile.isEmpty { return nil }
            throw ApusError(.invalidArgument, "this kernel has no seccomp, so the container's profile cannot be applied")
        }
        return try SeccompCache.shared.resolved(profile: configuration.seccompProfile, capabilities: capabilities, kernel: context.kernel)
    }

    // MARK: - Resources

    private func resources() throws(ApusError) -> JSONValue {
        var result: JSONValue = ["devices": .array(deviceRules())]
        if let memory = memory() { result["memory"] = memory }
        if let processor = processor() { result["cpu"] = processor }
        let wanted = configuration.resources
        if wanted.processes > 0 { result["pids"] = ["limit": .integer(wanted.processes)] }
        if wanted.blockWeight > 0 { result["blockIO"] = ["weight": .integer(wanted.blockWeight)] }
        return result
    }

    private func memory() -> JSONValue? {
        let wanted = configuration.resources
        var memory = JSONObject()
        if wanted.memoryBytes > 0 { memory["limit"] = .integer(wanted.memoryBytes) }
        if wanted.memoryReservationBytes > 0 { memory["reservation"] = .integer(wanted.memoryReservationBytes) }
        if context.swapLimits {
            if wanted.memorySwapBytes != 0 {
                memory["swap"] = .integer(wanted.memorySwapBytes)
            } else if wanted.memoryBytes > 0 {
                // As much swap as memory.
                let (both, overflow) = wanted.memoryBytes.multipliedReportingOverflow(by: 2)
                memory["swap"] = .integer(overflow ? .max : both)
            }
        }
        return memory.isEmpty ? nil : .object(memory)
    }

    private func processor() -> JSONValue? {
        let wanted = configuration.resources
        var processor = JSONObject()
        if wanted.cpuShares > 0 { processor["shares"] = .integer(wanted.cpuShares) }
        if wanted.nanoCPUs > 0 {
            processor["period"] = 100_000
            processor["quota"] = .integer(max(1000, wanted.nanoCPUs / 10_000))
        } else {
            if wanted.cpuPeriod > 0 { processor["period"] = .integer(wanted.cpuPeriod) }
            if wanted.cpuQuota != 0 { processor["quota"] = .integer(wanted.cpuQuota) }
        }
        if !wanted.cpuset.isEmpty { processor["cpus"] = .string(wanted.cpuset) }
        return processor.isEmpty ? nil : .object(processor)
    }

    // MARK: - Devices

    /// Docker's list: nothing but making nodes, and using the harmless ones; then the configured ones.
    private func deviceRules() -> [JSONValue] {
        if configuration.privileged { return [["allow": true, "access": "rwm"]] }
        func rule(_ type: String, _ major: Int64?, _ minor: Int64?, _ access: String) -> JSONValue {
            var rule: JSONValue = ["allow": true, "type": .string(type), "access": .string(access)]
            if let major { rule["major"] = .integer(major) }
            if let minor { rule["minor"] = .integer(minor) }
            return rule
        }
        var rules: [JSONValue] = [["allow": false, "access": "rwm"], rule("c", nil, nil, "m"), rule("b", nil, nil, "m")]
        // null, zero, full, random, urandom, tty, console, ptmx, the terminals below /dev/pts.
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] as [(Int64, Int64)] {
            rules.append(rule("c", major, minor, "rwm"))
        }
        rules.append(rule("c", 136, nil, "rwm"))
        for device in context.devices { rules.append(rule(device.type, device.major, device.minor, device.access)) }
        return rules
    }

    private static func json(_ device: HostDevice) -> JSONValue {
        [
            "path": .string(device.path), "type": .string(device.type), "major": .integer(device.major), "minor": .integer(device.minor),
            "fileMode": .integer(device.mode), "uid": .integer(device.user), "gid": .integer(device.group),
        ]
    }
}
