import CLinux
import Files
import Glibc
import PluginAPI

/// Memory that an engine needs for what it does once or seldom: code of starting, of joining a swarm, of a deployment, and files that are read whole.
///
/// Without this an idle engine is 20 MB larger.
enum StartUpMemory {
    static func release() {
        apus_trim_allocator()
        apus_release_start_up_pages()
    }

    /// Releases again whenever the engine is idle and has grown. Ends when it is cancelled.
    static func releaseWhenIdle() async {
        var schedule = ReleaseSchedule(resident: resident)
        while true {
            let before = processorTime
            do { try await ConcurrentTask.sleep(for: schedule.pause) } catch { return }
            guard schedule.isDue(worked: processorTime - before, resident: resident) else { continue }
            release()
            schedule.released(resident: resident)
        }
    }

    /// Of all threads of the process.
    private static var processorTime: Duration {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

    /// In bytes; proc(5), the second number of `statm`. 0 when it cannot be read.
    private static var resident: Int {
        let fields = ((try? Files.readText("/proc/self/statm")) ?? "").split(separator: " ")
        return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
    }
}

/// When memory is to be released: when the engine does nothing, and has grown so much that it is worth it. Pages that come back at once are needed, so they
/// are given up ever less often until the engine has really worked.
struct ReleaseSchedule: Sendable, Hashable {
    /// Until the next look, 2 to 64 seconds.
    private(set) var pause = Self.shortest
    /// What was resident after the last release, in bytes.
    private var least: Int

    private static let shortest: Duration = .seconds(2)
    private static let longest: Duration = .seconds(64)
    private static let worthwhile = 2 << 20

    init(resident: Int) { least = resident }

    /// - Parameter worked: processor time since the last look.
    mutating func isDue(worked: Duration, resident: Int) -> Bool {
        guard worked < pause / 50 else {
            pause = Self.shortest
            return false
        }
        return resident - least > Self.worthwhile
    }

    mutating func released(resident: Int) {
        least = resident
        pause = min(pause * 2, Self.longest)
    }
}
