@testable import Engine
import Testing

@Suite struct ReleaseScheduleTests {
    private let megabyte = 1 << 20

    @Test func whatHasGrownIsReleasedWhenNothingIsDone() {
        var schedule = ReleaseSchedule(resident: 20 * megabyte)
        let (grown, working, idle) = (
            schedule.isDue(worked: .zero, resident: 21 * megabyte), schedule.isDue(worked: .milliseconds(50), resident: 40 * megabyte),
            schedule.isDue(worked: .milliseconds(10), resident: 40 * megabyte)
        )
        #expect(!grown && !working && idle, "a megabyte is not worth it; it works; it does nothing and has grown")
    }

    @Test func whatComesBackIsLeftEverLonger() {
        var schedule = ReleaseSchedule(resident: 20 * megabyte)
        var pauses: [Duration] = []
        for _ in 0..<7 {
            let isDue = schedule.isDue(worked: .zero, resident: 40 * megabyte)
            #expect(isDue)
            schedule.released(resident: 20 * megabyte)
            pauses.append(schedule.pause)
        }
        #expect(pauses == [4, 8, 16, 32, 64, 64, 64].map { .seconds($0) })
        let isDue = schedule.isDue(worked: .seconds(2), resident: 40 * megabyte)
        #expect(!isDue && schedule.pause == .seconds(2), "after work it looks soon")
    }
}
