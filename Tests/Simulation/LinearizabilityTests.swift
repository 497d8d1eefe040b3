import Testing

@Suite struct LinearizabilityTests {
    private func write(_ value: UInt32, _ start: Int, _ end: Int?) -> RegisterOperation {
        RegisterOperation(kind: .write(value), start: start, end: end)
    }

    private func read(_ value: UInt32, _ start: Int, _ end: Int?) -> RegisterOperation {
        RegisterOperation(kind: .read(value), start: start, end: end)
    }

    private func verdict(_ history: RegisterOperation...) -> LinearizabilityChecker.Verdict { LinearizabilityChecker().check(history) }

    @Test func goodHistories() {
        #expect(verdict() == .linearizable)
        #expect(verdict(read(0, 1, 2)) == .linearizable)
        #expect(verdict(write(1, 1, 2), read(1, 3, 4)) == .linearizable)
        // At the same time: either.
        #expect(verdict(write(1, 1, 5), read(0, 2, 3)) == .linearizable)
        #expect(verdict(write(1, 1, 5), read(1, 2, 3)) == .linearizable)
        #expect(verdict(write(1, 1, 5), read(0, 2, 3), read(1, 4, 6)) == .linearizable)
        // Two writes at once, in either order, but in one.
        #expect(verdict(write(1, 1, 9), write(2, 2, 8), read(1, 3, 4), read(2, 5, 6)) == .linearizable)
        // Without an answer: it may happen late, or never.
        #expect(verdict(write(1, 1, nil), read(0, 2, 3)) == .linearizable)
        #expect(verdict(write(1, 1, nil), read(0, 2, 3), read(1, 4, 5)) == .linearizable)
        #expect(verdict(write(1, 1, nil), write(2, 2, 3), read(1, 4, 5)) == .linearizable)
        #expect(verdict(read(7, 1, nil)) == .linearizable)
        // Only one order of the writes explains the reads.
        #expect(verdict(write(1, 1, 10), write(2, 1, 10), write(3, 1, 10), read(2, 2, 3), read(3, 4, 5), read(1, 6, 7)) == .linearizable)
    }

    @Test func badHistories() {
        // Stale.
        #expect(verdict(write(1, 1, 2), read(0, 3, 4)) == .wrong)
        #expect(verdict(write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)) == .wrong)
        // From nowhere, or from the future.
        #expect(verdict(read(1, 1, 2)) == .wrong)
        #expect(verdict(read(1, 1, 2), write(1, 3, 4)) == .wrong)
        #expect(verdict(read(1, 1, 2), write(1, 3, nil)) == .wrong)
        // Back and forth.
        #expect(verdict(write(1, 1, 9), read(1, 2, 3), read(0, 4, 5)) == .wrong)
        #expect(verdict(write(1, 1, nil), read(1, 2, 3), read(0, 4, 5)) == .wrong)
        #expect(verdict(write(1, 1, 9), write(2, 1, 9), read(1, 2, 3), read(2, 4, 5), read(1, 6, 7)) == .wrong)
        // An acknowledged write that was lost.
        #expect(verdict(write(1, 1, 2), read(1, 3, 4), read(0, 5, 6)) == .wrong)
        #expect(verdict(write(1, 1, 2), read(0, 3, 4), read(1, 5, 6)) == .wrong)
    }

    @Test func whatIsTooLargeIsNotCalledGood() {
        let many = (1...65).map { write(UInt32($0), 1, 1000) }
        #expect(LinearizabilityChecker().check(many) == .undecided)
        let unresolvable = (1...20).map { write(UInt32($0), 1, 1000) } + [read(99, 1001, 1002)]
        #expect(LinearizabilityChecker(stateLimit: 1000).check(unresolvable) == .undecided)
    }
}
