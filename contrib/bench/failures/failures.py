#!/usr/bin/env python3
"""Measures how long a swarm of engines takes to go on, or to be whole again, after something failed.

    failures.py --stage .build/stage [--kills 20] [--rounds 5] [--only NAME ...] [--json FILE]

Each engine runs in a network namespace of its own, on a cable to one switch. Root is needed.

A change is made the way the command line makes it: a service is read, and written back with another label. A killed engine's kernel closes its
connections, so that the others know at once. A machine that falls silent is found out by an election timeout: see the partitions and the stalled leader.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from cluster import PATIENCE, POLL_SECONDS, Cluster, say
from machine import BenchError, end_by_interrupt, load_average, run, wait_until

HEARTBEAT = 5
REPLICAS = 12
STALL_SECONDS = 10
DISK_MEBIBYTES = 64


class Clock:
    """The rows of the table, and the time since `begin`."""

    def __init__(self):
        self.rows = {}
        self.began = 0

    def begin(self):
        self.began = time.monotonic()

    def note(self, what, target=None):
        """Seconds since `begin`, in the row `what`."""
        elapsed = time.monotonic() - self.began
        self.rows.setdefault(what, (target, []))[1].append(elapsed)
        say(f"{what}: {elapsed:.2f} s")


def await_change(cluster, manager):
    wait_until(lambda: cluster.change(manager), PATIENCE, f"engine {manager.index} accepts a change", POLL_SECONDS)


def others_than(engines, *gone):
    return [engine for engine in engines if engine not in gone]


def measure_kills(cluster, clock, kills, rounds):
    """The leader, then followers: to the first change that another manager accepts, each of the others in turn; and back."""
    managers = cluster.engines
    for number in range(kills):
        leader = cluster.leader(managers)
        asked = others_than(managers, leader)[number % 2]
        clock.begin()
        leader.kill()
        await_change(cluster, asked)
        clock.note("leader killed: another manager accepts a change", 2)
        leader.reap()
        leader.start()
        cluster.wait_ready(asked, len(managers))
    for number in range(rounds):
        leader = cluster.leader(managers)
        followers = others_than(managers, leader)
        gone, asked = followers[number % 2], [leader, followers[1 - number % 2]][number % 2]
        clock.begin()
        gone.kill()
        await_change(cluster, asked)
        clock.note("follower killed: another manager accepts a change")
        gone.reap()
        clock.begin()
        gone.launch()
        await_change(cluster, gone)
        clock.note("follower started again: it accepts a change itself")
        cluster.wait_ready(leader, len(managers))


def measure_stall(cluster, clock, rounds):
    """The leader gets no processor for a while: to the first change that another accepts, and, from its return, to its own first."""
    managers = cluster.engines
    for number in range(rounds):
        leader = cluster.leader(managers)
        asked = others_than(managers, leader)[number % 2]
        clock.begin()
        leader.signal(signal.SIGSTOP)
        await_change(cluster, asked)
        clock.note("leader stalled (SIGSTOP): another manager accepts a change")
        wait_until(lambda: time.monotonic() - clock.began >= STALL_SECONDS, PATIENCE, "the stall is over")
        leader.api.close()
        clock.begin()
        leader.signal(signal.SIGCONT)
        wait_until(lambda: cluster.knows_newest(leader), PATIENCE, "it knows what was decided", POLL_SECONDS)
        clock.note(f"continued after {STALL_SECONDS} s: it knows what was decided meanwhile")
        await_change(cluster, leader)
        cluster.wait_ready(asked, len(managers))


def measure_workers(cluster, clock, rounds):
    """A worker's cable is pulled: to all tasks running elsewhere; and from the cable's return to the end of the surplus."""
    worker, manager = cluster.engines[-1], cluster.engines[0]
    identifier = worker.node_id()
    for number in range(rounds):
        # It needs tasks to lose, so every round has a service of its own.
        service = cluster.create_service(f"web-{number}", REPLICAS, manager)
        wait_until(lambda: cluster.whole(manager, service, REPLICAS), PATIENCE, "the service is whole")
        worker.plug("down")
        clock.begin()
        wait_until(lambda: cluster.whole(manager, service, REPLICAS, {identifier}), PATIENCE, "the tasks run elsewhere", POLL_SECONDS)
        clock.note(f"worker unplugged: all its tasks run elsewhere (heartbeat {HEARTBEAT} s)", 3 * HEARTBEAT + 2)
        worker.plug("up")
        clock.begin()
        wait_until(lambda: worker.try_call("GET", "/containers/json") == [], PATIENCE, "the surplus has ended", POLL_SECONDS)
        clock.note("worker plugged in again: its surplus tasks have ended")
        cluster.wait_ready(manager, len(cluster.engines))
        manager.api.call("DELETE", f"/services/{service}")
        wait_until(lambda: not any(engine.try_call("GET", "/containers/json?all=1") for engine in cluster.engines), PATIENCE, "the service is removed")


def measure_all(cluster, clock, rounds):
    """All engines are killed, and started again at once."""
    first = cluster.engines[0]
    service = cluster.create_service("web", REPLICAS, first)
    wait_until(lambda: cluster.whole(first, service, REPLICAS), PATIENCE, "the service is whole")
    for _ in range(rounds):
        for engine in cluster.engines:
            engine.kill()
        for engine in cluster.engines:
            engine.reap()
        clock.begin()
        for engine in cluster.engines:
            engine.launch()
        await_change(cluster, first)
        clock.note("all engines killed and started: a change is accepted")
        cluster.wait_ready(first, len(cluster.engines))
        wait_until(lambda: cluster.whole(first, service, REPLICAS), PATIENCE, "the service is whole", POLL_SECONDS)
        clock.note("all engines killed and started: all nodes ready, all slots running")


def measure_partition(cluster, clock, rounds):
    """Two of five managers are put into a switch of their own: two followers, and the leader with one more, in turn."""
    managers = cluster.engines
    for _ in range(rounds):
        for has_leader in (False, True):
            leader = cluster.leader(managers)
            followers = others_than(managers, leader)
            apart = [leader, followers[0]] if has_leader else followers[:2]
            rest = others_than(managers, *apart)
            who = "leader and a follower" if has_leader else "two followers"
            clock.begin()
            for engine in apart:
                engine.move("island")
            await_change(cluster, rest[-1])
            clock.note(f"{who} of five cut off: the majority accepts a change")
            wait_until(lambda: refuses(apart[0]), PATIENCE, "the minority refuses", POLL_SECONDS)
            clock.note(f"{who} of five cut off: the minority refuses reads")
            for engine in apart:
                engine.move("switch")
            clock.begin()
            for engine in apart:
                wait_until(lambda engine=engine: cluster.knows_newest(engine), PATIENCE, "all agree", POLL_SECONDS)
            clock.note("switched together again: the minority knows what was decided")
            cluster.wait_ready(rest[-1], len(managers))


def refuses(manager):
    """Whether it answers, and says that it cannot know."""
    try:
        manager.api.call("GET", "/services/changes", timeout=30)
    except BenchError as error:
        return ": 503 " in str(error)
    except OSError:
        manager.api.close()
    return False


def measure_disk(cluster, clock, rounds):
    """The leader's filesystem has no space left: to the first change that another accepts; and from new space until it takes part again."""
    managers = cluster.engines
    for number in range(rounds):
        leader = cluster.leader(managers)
        asked = others_than(managers, leader)[number % 2]
        filler = f"{leader.disk}/filler"
        for size in ("1M", "512"):
            run("dd", "if=/dev/zero", f"of={filler}", f"bs={size}", "oflag=append", "conv=notrunc", check=False)
        # What fits into the rest of a block is still accepted by the leader itself: only another leader counts.
        clock.begin()

        def moved():
            return cluster.change(asked) and cluster.leader(managers) is not leader

        wait_until(moved, PATIENCE, "another leads", POLL_SECONDS)
        clock.note("leader's disk full: another leads and accepts a change")
        os.unlink(filler)
        clock.begin()
        wait_until(lambda: cluster.knows_newest(leader), PATIENCE, "it takes part again", POLL_SECONDS)
        clock.note("space again: it knows what was decided meanwhile")
        cluster.wait_ready(asked, len(managers))


# Name: managers, workers, MiB of a disk of each engine's own, what is done.
MEASUREMENTS = {
    "kills": (3, 0, None, lambda cluster, clock, options: measure_kills(cluster, clock, options.kills, options.rounds)),
    "stall": (3, 0, None, lambda cluster, clock, options: measure_stall(cluster, clock, options.rounds)),
    "disk": (3, 0, DISK_MEBIBYTES, lambda cluster, clock, options: measure_disk(cluster, clock, options.rounds)),
    "partition": (5, 0, None, lambda cluster, clock, options: measure_partition(cluster, clock, options.rounds)),
    "worker": (3, 2, None, lambda cluster, clock, options: measure_workers(cluster, clock, options.rounds)),
    "all": (3, 2, None, lambda cluster, clock, options: measure_all(cluster, clock, options.rounds)),
}


def table(rows):
    print(f"{'from … to':<70} {'median':>8} {'least':>8} {'most':>8} {'runs':>5}  target")
    for what, (target, times) in rows.items():
        goal = f"{target:g} s {'met' if statistics.median(times) <= target else 'MISSED'}" if target else ""
        print(f"{what:<70} {statistics.median(times):>6.2f} s {min(times):>6.2f} s {max(times):>6.2f} s {len(times):>5}  {goal}".rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--kills", type=int, default=20, help="how many times the leader is killed")
    parser.add_argument("--rounds", type=int, default=5, help="how many times for the others")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="measure only these")
    parser.add_argument("--json", help="also write every time into this file")
    options = parser.parse_args()
    end_by_interrupt()
    clock, problems = Clock(), []
    print(f"load before: {load_average():.1f} on {os.cpu_count()} processors")
    for name in options.only:
        managers, workers, disk, measure = MEASUREMENTS[name]
        try:
            with Cluster(options.stage) as cluster:
                cluster.prepare(managers, workers, disk=disk)
                cluster.begin_changes(cluster.engines[0])
                measure(cluster, clock, options)
        except (BenchError, OSError) as error:
            problems.append(f"{name}: {error}")
            say(problems[-1])
        except KeyboardInterrupt:
            problems.append(f"{name}: interrupted")
            break
    if clock.rows:
        table(clock.rows)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({what: times for what, (_, times) in clock.rows.items()}, file, indent=1)
    if problems:
        sys.exit("failures.py: " + "; ".join(problems))


if __name__ == "__main__":
    main()
