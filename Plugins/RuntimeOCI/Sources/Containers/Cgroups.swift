import Files
import Glibc
import PluginAPI

/// The control groups of containers, in either version.
struct Cgroups: Sendable {
    let version: Int
    private let mount = "/sys/fs/cgroup"
    /// Folders of the hierarchies: one in version 2, one per controller in version 1.
    private let hierarchies: [String]

    init() {
        // The file stands in the root of a unified hierarchy only; in a hybrid set-up the mount is a tmpfs with a hierarchy in each folder.
        let unified = Files.exists("\(mount)/cgroup.controllers")
        version = unified ? 2 : 1
        hierarchies = unified ? [mount] : ((try? Files.list(mount)) ?? []).map { "/sys/fs/cgroup/\($0)" }.filter(Self.isHierarchy)
    }

    private static func isHierarchy(_ path: String) -> Bool {
        var status = stat()
        // Links such as cpu -> cpu,cpuacct name a hierarchy twice.
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR && Files.exists("\(path)/cgroup.procs")
    }

    /// Whether the kernel can limit swap.
    var limitsSwap: Bool {
        // The root of version 2 has no such file; its children have, if there is swap accounting.
        version == 2 ? Files.exists("/proc/swaps") : Files.exists(controller("memory", "") + "/memory.memsw.limit_in_bytes")
    }

    private func folders(_ path: String) -> [String] { hierarchies.map { $0 + path } }

    private func controller(_ name: String, _ path: String) -> String {
        if version == 2 { return mount + path }
        let folder = hierarchies.first { hierarchy in hierarchy.split(separator: "/").last?.split(separator: ",").contains(Substring(name)) ?? false }
        return (folder ?? "\(mount)/\(name)") + path
    }

    /// Moves a process into a group of its own or of its kind, made when missing. Best effort: an unmoved process still works.
    func place(_ process: Int32, in path: String) {
        for folder in folders(path) {
            // A new group has no processors until it is told; conmon needs none in particular.
            if version == 1, folder.hasPrefix("\(mount)/cpuset") { continue }
            try? Files.makeDirectory(folder, permissions: 0o755)
            try? Files.overwrite("\(process)", at: "\(folder)/cgroup.procs")
        }
    }

    /// Processes in the group and below it.
    func processes(_ path: String) -> [Int32] {
        let folder = version == 2 ? mount + path : controller("pids", path)
        var result: [Int32] = []
        for group in Self.tree(folder) {
            let text = (try? Files.readText("\(group)/cgroup.procs")) ?? ""
            result += text.split(separator: "\n").compactMap { Int32($0) }
        }
        return result
    }

    /// Kills everything in the group and returns when it is empty.
    func killAll(_ path: String) {
        for attempt in 0..<500 {
            let processes = processes(path)
            if processes.isEmpty { return }
            if version == 2, attempt == 0 { try? Files.overwrite("1", at: "\(mount)\(path)/cgroup.kill") }
            for process in processes { kill(process, SIGKILL) }
            // The kernel tells nobody in version 1 when a group is empty.
            usleep(2000)
        }
    }

    /// Removes the group and those below it. An absent one is fine.
    func remove(_ path: String) throws(ApusError) {
        for folder in folders(path) {
            for group in Self.tree(folder) {
                var result = rmdir(group)
                // A process that has just ended may still be on its way out.
                for _ in 0..<100 where result != 0 && errno == EBUSY {
                    usleep(1000)
                    result = rmdir(group)
                }
                if result != 0, errno != ENOENT { throw Files.lastError("cannot remove the cgroup \(group)") }
            }
        }
    }

    /// Whether there is a group, in any of the hierarchies.
    func exists(_ path: String) -> Bool { folders(path).contains { Files.isDirectory($0) } }

    /// Numbers of the processors that containers can be given; `nil` when the kernel does not say.
    func processors() -> Set<Int>? {
        let path = version == 2 ? "\(mount)/cpuset.cpus.effective" : controller("cpuset", "") + "/cpuset.cpus"
        let text = (try? Files.readText(path)) ?? (try? Files.readText("/sys/devices/system/cpu/online"))
        return text.flatMap { $0.split(separator: "\n").first }.flatMap { Self.numbers(String($0)) }
    }

    /// Reads `0-3,5` (cpuset(7)); `nil` for anything else.
    static func numbers(_ text: String) -> Set<Int>? {
        var numbers: Set<Int> = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { UInt16($0) }
            guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1], first <= last else { return nil }
            numbers.formUnion(Int(first)...Int(last))
        }
        return numbers
    }

    /// Removes a group if it is empty.
    func removeIfEmpty(_ path: String) {
        for folder in folders(path) { rmdir(folder) }
    }

    /// How many processes of the group the kernel has killed for want of memory.
    func outOfMemoryKills(_ path: String) -> Int {
        let file = version == 2 ? "\(mount)\(path)/memory.events" : controller("memory", path) + "/memory.oom_control"
        return value("oom_kill", in: file) ?? 0
    }

    func statistics(_ path: String) -> ContainerStatistics {
        var result = ContainerStatistics()
        if version == 2 {
            let folder = mount + path
            result.processorTime = .microseconds(Int64(value("usage_usec", in: "\(folder)/cpu.stat") ?? 0))
            let used = number("\(folder)/memory.current") ?? 0
            result.memoryBytes = used - min(used, UInt64(max(0, value("inactive_file", in: "\(folder)/memory.stat") ?? 0)))
            result.memoryLimitBytes = number("\(folder)/memory.max") ?? 0
            result.processes = number("\(folder)/pids.current") ?? 0
        } else {
            result.processorTime = .nanoseconds(Int64(clamping: number(controller("cpuacct", path) + "/cpuacct.usage") ?? 0))
            let memory = controller("memory", path)
            let used = number("\(memory)/memory.usage_in_bytes") ?? 0
            result.memoryBytes = used - min(used, UInt64(max(0, value("total_inactive_file", in: "\(memory)/memory.stat") ?? 0)))
            let limit = number("\(memory)/memory.limit_in_bytes") ?? 0
            // No limit is a number near 2^63.
            result.memoryLimitBytes = limit > 1 << 60 ? 0 : limit
            result.processes = number(controller("pids", path) + "/pids.current") ?? 0
        }
        return result
    }

    /// A group and those below it, the deepest first.
    private static func tree(_ folder: String) -> [String] {
        var status = stat()
        guard lstat(folder, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return [] }
        // Two links are its own; each more is a folder in it.
        guard status.st_nlink > 2, let names = try? Files.list(folder) else { return [folder] }
        let below = names.map { "\(folder)/\($0)" }.filter { Files.isDirectory($0) }
        return below.flatMap(tree) + [folder]
    }

    private func number(_ path: String) -> UInt64? {
        (try? Files.readText(path)).flatMap { UInt64($0.split(separator: "\n").first ?? "") }
    }

    private func value(_ key: String, in path: String) -> Int? {
        guard let text = try? Files.readText(path) else { return nil }
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: " ")
            if parts.count == 2, parts[0] == key { return Int(parts[1]) }
        }
        return nil
    }
}
