#!/usr/bin/env python3
"""Measures how long a swarm of engines takes to be whole again after one of them, or all, failed.

    failures.py --stage .build/stage [--kills 20] [--rounds 5] [--json FILE]

Each engine runs in a network namespace of its own, on a cable to one switch. Root is needed.

A killed engine's kernel closes its connections, so that the others know at once. A machine that falls silent is found out by an election timeout; the
unplugged worker shows that kind of loss.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from api import EngineAPI
from machine import BenchError, NetworkNamespace, Process, end_processes, run, unmount_below, wait_until

IMAGES = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "images"))
ARCHIVE = os.path.join(os.environ.get("APUS_IMAGE_CACHE", "/var/cache/apus-images"), "busybox.tar")
SWITCH = "10.97.0.254"
REGISTRY = f"{SWITCH}:5000"
HEARTBEAT = 5
REPLICAS = 12
POLL_SECONDS = 0.01
PATIENCE = 120


def say(text):
    print(f"# {text}", file=sys.stderr, flush=True)


class Engine:
    """One engine on its cable."""

    def __init__(self, cluster, index):
        self.index, self.cluster = index, cluster
        self.address = f"10.97.0.{index}"
        self.directory = f"{cluster.directory}/{index}"
        self.roots = ["--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/exec"]
        self.api = EngineAPI(f"{self.directory}/sock")
        self.child = None
        os.makedirs(self.directory)
        self.namespace = NetworkNamespace(f"{cluster.prefix}-{index}")
        hub, own, cable = cluster.hub.name, self.namespace.name, f"cable{index}"
        run("ip", "link", "add", cable, "netns", hub, "type", "veth", "peer", "name", "eth0", "netns", own)
        run("ip", "-n", hub, "link", "set", cable, "master", "switch", "up")
        run("ip", "-n", own, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", own, "link", "set", "eth0", "up")
        run("ip", "-n", own, "route", "add", "default", "via", SWITCH)

    def launch(self):
        with open(f"{self.directory}/log", "ab") as log:
            self.child = subprocess.Popen(
                self.namespace.command(
                    f"{self.cluster.stage}/bin/apusd", *self.roots, "--host", f"unix://{self.api.path}", "--pidfile", f"{self.directory}/pid",
                    "--registry-mirror", f"http://{REGISTRY}", "--insecure-registry", REGISTRY),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def start(self):
        self.launch()
        wait_until(self.api.answers, PATIENCE, f"engine {self.index} answers")

    def kill(self):
        self.api.close()
        self.child.send_signal(signal.SIGKILL)

    def reap(self):
        if self.child:
            self.child.wait()
        self.child = None

    def plug(self, state):
        run("ip", "-n", self.cluster.hub.name, "link", "set", f"cable{self.index}", state)

    def try_call(self, method, target, body=None, timeout=2):
        """None when it is refused or nobody answers."""
        try:
            return self.api.call(method, target, body, timeout)
        except (OSError, BenchError):
            self.api.close()
            return None

    def node_id(self):
        return self.api.call("GET", "/info")["Swarm"]["NodeID"]

    def close(self):
        if self.child:
            self.kill()
            self.reap()
        if os.path.exists(f"{self.directory}/data"):
            run(*self.namespace.command(f"{self.cluster.stage}/bin/apusd", "clean", *self.roots), check=False)
        self.namespace.remove()


class Cluster:
    """Engines, the switch between them, a registry in it. `close` removes everything."""

    def __init__(self, stage):
        self.stage = os.path.abspath(stage)
        self.directory = tempfile.mkdtemp(prefix="apus-bench-", dir="/run")
        self.prefix = os.path.basename(self.directory)
        self.hub = NetworkNamespace(f"{self.prefix}-hub")
        self.engines = []
        self.writes = 0

    def prepare(self, managers, workers):
        for command in (("link", "add", "switch", "type", "bridge"), ("link", "set", "switch", "up"), ("addr", "add", f"{SWITCH}/24", "dev", "switch")):
            run("ip", "-n", self.hub.name, *command)
        run(f"{IMAGES}/build-images.sh")
        run(*self.hub.command("env", f"APUS_REGISTRY_HOST={SWITCH}", f"{IMAGES}/registry.sh", "start", "5000", f"{self.directory}/registry"))
        run(*self.hub.command(sys.executable, f"{IMAGES}/push.py", ARCHIVE, f"http://{REGISTRY}", "library/busybox:latest"))
        for index in range(1, managers + workers + 1):
            engine = Engine(self, index)
            self.engines.append(engine)
            engine.start()
        first = self.engines[0]
        first.api.call("POST", "/swarm/init", {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": first.address})
        tokens = first.api.call("GET", "/swarm")["JoinTokens"]
        for engine in self.engines[1:]:
            token = tokens["Manager" if engine.index <= managers else "Worker"]
            engine.api.call(
                "POST", "/swarm/join",
                {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": engine.address, "JoinToken": token, "RemoteAddrs": [f"{first.address}:2377"]})
        first.api.pull("busybox:latest")
        for engine in self.engines:
            engine.api.pull("busybox:latest")

    def create_service(self, name, replicas, manager):
        specification = {
            "Name": name,
            "TaskTemplate": {"ContainerSpec": {"Image": "busybox:latest", "Command": ["sleep", "100000"], "StopGracePeriod": 1_000_000_000}},
            "Mode": {"Replicated": {"Replicas": replicas}},
        }
        return manager.api.call("POST", "/services/create", specification)["ID"]

    def write(self, manager):
        """Whether a write is accepted."""
        self.writes += 1
        specification = {"Name": f"write-{self.writes}", "TaskTemplate": {"ContainerSpec": {"Image": "busybox:latest"}}, "Mode": {"Replicated": {"Replicas": 0}}}
        return manager.try_call("POST", "/services/create", specification, timeout=10) is not None

    def leader(self, managers):
        def look():
            for manager in managers:
                for node in manager.try_call("GET", "/nodes") or []:
                    if node.get("ManagerStatus", {}).get("Leader"):
                        for candidate in managers:
                            if node["ManagerStatus"]["Addr"] == f"{candidate.address}:2377":
                                return candidate
            return None

        return wait_until(look, PATIENCE, "a leader")

    def wait_ready(self, manager, count):
        def ready():
            nodes = manager.try_call("GET", "/nodes") or []
            return sum(node["Status"]["State"] == "ready" for node in nodes) == count and all(
                node["ManagerStatus"]["Reachability"] == "reachable" for node in nodes if "ManagerStatus" in node)

        wait_until(ready, PATIENCE, f"{count} nodes ready")

    def whole(self, manager, service, replicas, without=()):
        """Whether each slot runs one task, none of them on these nodes."""
        tasks = manager.try_call("GET", "/tasks") or []
        running = [
            task for task in tasks
            if task["ServiceID"] == service and task["DesiredState"] == "running" and task["Status"]["State"] == "running" and task["NodeID"] not in without]
        wanted = [task for task in tasks if task["ServiceID"] == service and task["DesiredState"] == "running"]
        return len(running) == len({task["Slot"] for task in running}) == replicas == len(wanted)

    def close(self):
        for engine in self.engines:
            engine.close()
        if os.path.exists(f"{self.directory}/registry"):
            run(f"{IMAGES}/registry.sh", "stop", f"{self.directory}/registry", check=False)
        end_processes([process for process in Process.all().values() if any(f"{self.directory}/" in argument for argument in process.command)])
        self.hub.remove()
        unmount_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


def measure_leader(cluster, kills):
    """From the kill of the leader to the first write that another manager accepts."""
    managers = cluster.engines[:3]
    times = []
    for _ in range(kills):
        leader = cluster.leader(managers)
        others = [manager for manager in managers if manager is not leader]
        asked = others[len(times) % 2]
        began = time.monotonic()
        leader.kill()
        wait_until(lambda: cluster.write(asked), PATIENCE, "a write is accepted", POLL_SECONDS)
        times.append(time.monotonic() - began)
        successor = cluster.leader(others)
        say(f"engine {leader.index} killed, engine {successor.index} leads, engine {asked.index} accepted a write after {times[-1]:.2f} s")
        leader.reap()
        leader.start()
        cluster.wait_ready(asked, len(cluster.engines))
    return times


def measure_worker(cluster, service, rounds):
    """From the pulled cable of a worker to all tasks running elsewhere; and from the cable's return to the end of the surplus."""
    away, back = [], []
    worker = cluster.engines[-1]
    identifier = worker.node_id()
    for _ in range(rounds):
        manager = cluster.leader(cluster.engines[:3])
        worker.plug("down")
        began = time.monotonic()
        wait_until(lambda: cluster.whole(manager, service, REPLICAS, {identifier}), PATIENCE, "the tasks run elsewhere", POLL_SECONDS)
        away.append(time.monotonic() - began)
        worker.plug("up")
        began = time.monotonic()
        wait_until(lambda: worker.try_call("GET", "/containers/json") == [], PATIENCE, "the surplus has ended", POLL_SECONDS)
        back.append(time.monotonic() - began)
        say(f"worker unplugged: tasks elsewhere after {away[-1]:.2f} s; back: surplus gone after {back[-1]:.2f} s")
        cluster.wait_ready(manager, len(cluster.engines))
        # It needs tasks to lose next time: another service would not do, so this one begins anew.
        cluster.engines[0].try_call("DELETE", f"/services/{service}", timeout=30)
        wait_until(lambda: not any(engine.try_call("GET", "/containers/json?all=1") for engine in cluster.engines), PATIENCE, "the service is removed")
        service = cluster.create_service(f"web-{len(away)}", REPLICAS, cluster.engines[0])
        wait_until(lambda: cluster.whole(manager, service, REPLICAS), PATIENCE, "the service is whole")
    return away, back, service


def measure_all(cluster, service, rounds):
    """From the start of all engines, all of which were killed, to an accepted write, and to all nodes ready and each slot running its task."""
    writes, whole = [], []
    for _ in range(rounds):
        for engine in cluster.engines:
            engine.kill()
        for engine in cluster.engines:
            engine.reap()
        began = time.monotonic()
        for engine in cluster.engines:
            engine.launch()
        wait_until(lambda: cluster.write(cluster.engines[0]), PATIENCE, "a write is accepted", POLL_SECONDS)
        writes.append(time.monotonic() - began)
        cluster.wait_ready(cluster.engines[0], len(cluster.engines))
        wait_until(lambda: cluster.whole(cluster.engines[0], service, REPLICAS), PATIENCE, "the service is whole", POLL_SECONDS)
        whole.append(time.monotonic() - began)
        say(f"all killed: a write after {writes[-1]:.2f} s, whole after {whole[-1]:.2f} s")
    return writes, whole


def table(rows):
    print(f"{'from … to':<70} {'median':>8} {'least':>8} {'most':>8} {'runs':>5}  target")
    for what, times, target in rows:
        goal = f"{target:g} s {'met' if statistics.median(times) <= target else 'MISSED'}" if target else ""
        print(f"{what:<70} {statistics.median(times):>6.2f} s {min(times):>6.2f} s {max(times):>6.2f} s {len(times):>5}  {goal}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--kills", type=int, default=20, help="how many times the leader is killed")
    parser.add_argument("--rounds", type=int, default=5, help="how many times for the others")
    parser.add_argument("--json", help="also write every time into this file")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.stage)
    try:
        cluster.prepare(managers=3, workers=2)
        leader = measure_leader(cluster, arguments.kills)
        service = cluster.create_service("web", REPLICAS, cluster.engines[0])
        wait_until(lambda: cluster.whole(cluster.engines[0], service, REPLICAS), PATIENCE, "the service is whole")
        away, back, service = measure_worker(cluster, service, arguments.rounds)
        writes, whole = measure_all(cluster, service, arguments.rounds)
    finally:
        cluster.close()
    rows = [
        ("leader killed: another manager accepts a write", leader, 2),
        (f"worker unplugged: all tasks run elsewhere (heartbeat {HEARTBEAT} s)", away, 3 * HEARTBEAT + 2),
        ("worker plugged in again: the surplus has ended", back, None),
        ("all engines killed and started: a write is accepted", writes, None),
        ("all engines killed and started: all nodes ready, all slots running", whole, None),
    ]
    table(rows)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({what: times for what, times, _ in rows}, file, indent=1)


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"failures.py: {error}")
