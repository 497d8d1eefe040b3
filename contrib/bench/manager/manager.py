#!/usr/bin/env python3
"""Measures one manager with many nodes: simulated ones, each with a certificate, a TLS connection and the product's own dispatcher, but no containers;
and the scheduler with as many.

    manager.py [--sizes 1000 10000] [--tasks 100000] [--seconds 20] [--largest 10000] [--program FILE] [--json FILE]

The manager and the nodes are two processes in a network namespace of their own; the manager's store is on disk. Root is needed. Without --program the
package beside this file is built.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))

from cluster import say
from machine import BenchError, NetworkNamespace, Process, end_by_interrupt, end_processes, load_average, run, shielded

# Until a process has come to the next line that is waited for.
PATIENCE = 600
TICKS = os.sysconf("SC_CLK_TCK")


def allow_descriptors(count):
    """Children may have so many open: one connection of each node, and some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard if hard == resource.RLIM_INFINITY or hard >= count else count))
    except ValueError as error:
        raise BenchError(f"{count} open files are needed, {hard} are allowed here") from error


class Child:
    """A process of the benchmark, and the lines of JSON that it prints."""

    def __init__(self, namespace, *command):
        self.process = subprocess.Popen(namespace.command(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def wait_for(self, what):
        """The line that says this; others before it are passed over."""
        watchdog = threading.Timer(PATIENCE, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                values = json.loads(line)
                if values["what"] == what:
                    return values
                if values["what"] == "failed":
                    break
        finally:
            watchdog.cancel()
        raise BenchError(f"the benchmark did not come to \"{what}\"" + ("" if self.process.poll() is None else f"; it ended with {self.process.returncode}"))

    def memory(self):
        return Process.read(self.process.pid).memory()[0]

    def processor(self):
        """Seconds in all threads."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def close(self):
        process = Process.read(self.process.pid)
        end_processes([process] if process else [])
        self.process.wait()
        self.process.stdout.close()


def measure_sessions(program, namespace, directory, nodes, tasks, seconds, has_endpoints):
    folder, children = f"{directory}/{nodes}", []
    os.makedirs(folder)
    try:
        manager = Child(namespace, program, "serve", folder, nodes, tasks)
        children.append(manager)
        port = manager.wait_for("listening")["port"]
        empty = manager.memory()
        simulated = Child(namespace, program, "nodes", folder, int(port), nodes, tasks, int(has_endpoints))
        children.append(simulated)
        simulated.wait_for("prepared")
        connecting = manager.processor()
        joined = simulated.wait_for("connected")["s"]
        manager.wait_for("ready")
        connecting = manager.processor() - connecting
        # The heartbeats spread, and what only connecting needed goes.
        time.sleep(5)
        idle = manager.memory()
        before = manager.processor()
        time.sleep(seconds)
        beating = (manager.processor() - before) / seconds
        say(f"{nodes} nodes connected in {joined:.1f} s; {(idle - empty) / nodes / 1024:.1f} KiB for each, {beating * 100:.1f} % of a processor for heartbeats")
        with open(f"{folder}/assign", "w", encoding="ascii"):
            pass
        filled = manager.wait_for("filled")["s"]
        begin = manager.wait_for("begin")["at"]
        working = manager.processor()
        assigned = manager.wait_for("assigned")["at"] - begin
        delivered = simulated.wait_for("delivered")["at"] - begin
        working = manager.processor() - working
        time.sleep(5)
        say(f"{tasks} tasks assigned after {assigned:.1f} s, all nodes have theirs after {delivered:.1f} s")
        return {
            "nodes": nodes, "endpoints": has_endpoints, "tasks": tasks, "connect_s": joined, "connect_cpu_s": connecting, "bytes_per_node": (idle - empty) / nodes,
            "idle_bytes": idle, "heartbeat_cpu": beating, "fill_s": filled, "assigned_s": assigned, "delivered_s": delivered, "assign_cpu_s": working, "full_bytes": manager.memory()}
    finally:
        with shielded():
            for child in reversed(children):
                child.close()
            shutil.rmtree(folder, ignore_errors=True)


def measure_scheduler(program, namespace, nodes, tasks):
    """The figures of the benchmark in one process, by name, as far as they are of assigning tasks."""
    found = {}
    child = subprocess.Popen(namespace.command(program, nodes, tasks), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        for line in child.stdout:
            values = json.loads(line)
            found[values["what"]] = values
            say(line.strip())
            if "manager" in found:
                return found
        raise BenchError(f"the benchmark ended with {child.wait()}")
    finally:
        with shielded():
            child.kill()
            child.wait()
            child.stdout.close()
            shutil.rmtree(f"/var/tmp/apus-bench-{child.pid}", ignore_errors=True)


def table(sessions, schedulers):
    rows = [
        ("all nodes connected, 64 at a time", "connect_s", 1, "s"), ("manager's processor time for that, a node", "connect_cpu_node", 1e3, "ms"),
        ("manager's memory for a connected node (PSS)", "bytes_per_node", 1 / 1024, "KiB"),
        ("processor for heartbeats every 5 s, of one", "heartbeat_cpu", 100, "%"), ("the same, a heartbeat", "heartbeat_s", 1e6, "us"),
        ("{tasks} tasks: all have a node", "assigned_s", 1, "s"), ("{tasks} tasks: all nodes have theirs", "delivered_s", 1, "s"),
        ("manager's processor time for both", "assign_cpu_s", 1, "s"), ("manager's memory with them (PSS)", "full_bytes", 1e-6, "MB")]
    if sessions:
        print(f"{'one manager, nodes over TLS':<46}" + "".join(f"{values['nodes']:>14,}" for values in sessions))
        print(f"{'which keep the table of endpoints':<46}" + "".join(f"{'yes' if values['endpoints'] else 'no':>14}" for values in sessions))
    for title, key, scale, unit in rows if sessions else ():
        cells = []
        for values in sessions:
            values["connect_cpu_node"] = values["connect_cpu_s"] / values["nodes"]
            values["heartbeat_s"] = values["heartbeat_cpu"] * 5 / values["nodes"]
            cells.append(f"{values[key] * scale:>10.1f} {unit:<3}")
        print(f"{title.format(tasks=sessions[0]['tasks']):<46}" + "".join(cells))
    if schedulers:
        print(f"\n{'in one process':<46}" + "".join(f"{values['scheduler alone']['nodes']:>14,}" for values in schedulers))
        for title, what, key in (
            ("scheduler alone: takes over the nodes", "scheduler alone", "feed_s"), ("scheduler alone: places all tasks", "scheduler alone", "schedule_s"),
            ("manager with its store: all tasks have a node", "manager", "assign_s")):
            print(f"{title:<46}" + "".join(f"{values[what][key]:>10.2f} s  " for values in schedulers))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000], help="numbers of nodes")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=20, help="for which heartbeats are counted")
    parser.add_argument("--only", choices=("sessions", "endpoints", "scheduler"))
    parser.add_argument("--largest", type=int, default=10_000, help="number of nodes that also keep the table of endpoints")
    parser.add_argument("--program", help="the built manager-benchmark")
    parser.add_argument("--json", help="also write the figures into this file")
    options = parser.parse_args()
    end_by_interrupt()
    problems, sessions, schedulers = [], [], []
    directory = tempfile.mkdtemp(prefix="apus-bench-", dir="/var/tmp")
    namespace = None
    try:
        if not options.program:
            run("swift", "build", "-c", "release", "--package-path", HERE)
            options.program = run("swift", "build", "-c", "release", "--package-path", HERE, "--show-bin-path").strip() + "/manager-benchmark"
        print(f"load before: {load_average():.1f} on {os.cpu_count()} processors")
        allow_descriptors(max(options.sizes) + 1000)
        namespace = NetworkNamespace(os.path.basename(directory))
        for nodes in options.sizes:
            def measure_nodes(has_endpoints):
                return measure_sessions(options.program, namespace, directory, nodes, options.tasks, options.seconds, has_endpoints)

            for name, results, measure in (
                ("sessions", sessions, lambda: measure_nodes(False)),
                ("endpoints", sessions, lambda: measure_nodes(True)),
                ("scheduler", schedulers, lambda: measure_scheduler(options.program, namespace, nodes, options.tasks)),
            ):
                if options.only not in (None, name):
                    continue
                if name == "endpoints" and nodes > options.largest:
                    say(f"{nodes} nodes are not tried with the table of endpoints; --largest does it")
                    continue
                try:
                    results.append(measure())
                except (BenchError, OSError) as error:
                    problems.append(f"{name} with {nodes} nodes: {error}")
                    say(problems[-1])
    except (BenchError, OSError) as error:
        problems.append(str(error))
    except KeyboardInterrupt:
        problems.append("interrupted")
    finally:
        with shielded():
            if namespace:
                namespace.remove()
            shutil.rmtree(directory, ignore_errors=True)
    table(sessions, schedulers)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"sessions": sessions, "schedulers": schedulers}, file, indent=1)
    if problems:
        sys.exit("manager.py: " + "; ".join(problems))


if __name__ == "__main__":
    main()
