import Orchestration
import PluginAPI

/// The checks of a container's limits, in Docker's words where it has some.
struct ResourceValidation {
    let resources: ContainerResources

    /// The OCI runtime itself needs so much to start a container.
    static let leastMemory: Int64 = 6 << 20

    /// - Throws: `invalidArgument`.
    func check() throws(ApusError) {
        try checkMemory()
        try checkProcessors()
        guard resources.blockWeight == 0 || (10...1000).contains(resources.blockWeight) else {
            throw invalid("Range of blkio weight is from 10 to 1000, not \(resources.blockWeight)")
        }
    }

    private func invalid(_ message: String) -> ApusError { ApusError(.invalidArgument, message) }

    private func checkMemory() throws(ApusError) {
        let (memory, reservation, swap) = (resources.memoryBytes, resources.memoryReservationBytes, resources.memorySwapBytes)
        guard memory == 0 || memory >= Self.leastMemory else { throw invalid("Minimum memory limit allowed is 6MB, not \(memory) bytes") }
        guard reservation == 0 || reservation >= Self.leastMemory else {
            throw invalid("Minimum memory reservation allowed is 6MB, not \(reservation) bytes")
        }
        guard memory == 0 || reservation <= memory else {
            throw invalid("Minimum memory limit can not be less than memory reservation limit: Memory is \(memory), MemoryReservation \(reservation)")
        }
        guard swap >= -1 else { throw invalid("MemorySwap: \(swap) is negative; -1 is without a limit") }
        guard swap <= 0 || memory > 0 else { throw invalid("You should always set the Memory limit when using Memoryswap limit") }
        guard swap <= 0 || swap >= memory else {
            throw invalid("Minimum memoryswap limit should be larger than memory limit: MemorySwap is \(swap), memory and swap together, Memory \(memory)")
        }
    }

    private func checkProcessors() throws(ApusError) {
        guard resources.nanoCPUs >= 0 else { throw invalid("NanoCpus cannot be negative") }
        guard resources.nanoCPUs == 0 || resources.cpuQuota == 0 && resources.cpuPeriod == 0 else {
            throw invalid("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set")
        }
        // The kernel's own limits (sched(7), cgroups(7)).
        guard resources.cpuShares == 0 || (2...262_144).contains(resources.cpuShares) else {
            throw invalid("CpuShares: \(resources.cpuShares) is not from 2 to 262144")
        }
        guard resources.cpuPeriod == 0 || (1000...1_000_000).contains(resources.cpuPeriod) else {
            throw invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
        }
        guard resources.cpuQuota == 0 || resources.cpuQuota == -1 || resources.cpuQuota >= 1000 else {
            throw invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
        }
        guard resources.cpuset.isEmpty || ProcessorList(resources.cpuset) != nil else {
            throw invalid("Invalid value \(ServiceValidation.printable(resources.cpuset)) for cpuset cpus")
        }
    }
}

/// Numbers of processors as cpuset(7) writes them: `0-3,5`.
struct ProcessorList: Sendable, Hashable {
    var ranges: [ClosedRange<UInt16>] = []

    /// `nil` for what is no such list.
    init?(_ text: String) {
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false)
            guard (1...2).contains(ends.count), ends.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } }),
                let first = ends.first.flatMap({ UInt16($0) }), let last = ends.last.flatMap({ UInt16($0) }), first <= last
            else { return nil }
            ranges.append(first...last)
        }
    }
}
