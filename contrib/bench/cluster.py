"""A swarm of staged engines, each in a network namespace of its own, on a cable to one switch."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

from api import EngineAPI
from machine import BenchError, NetworkNamespace, Process, end_processes, run, shielded, unmount_below, wait_until

IMAGES = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "images"))
CACHE = os.environ.get("APUS_IMAGE_CACHE", "/var/cache/apus-images")
SWITCH = "10.97.0.254"
REGISTRY = f"{SWITCH}:5000"
POLL_SECONDS = 0.01
PATIENCE = 120


def say(text):
    print(f"# {text}", file=sys.stderr, flush=True)


def make_switches(hub):
    """The switch that joins the engines, and another one that is joined to nothing."""
    for command in (("link", "add", "switch", "type", "bridge"), ("link", "set", "switch", "up"), ("addr", "add", f"{SWITCH}/24", "dev", "switch"),
                    ("link", "add", "island", "type", "bridge"), ("link", "set", "island", "up")):
        run("ip", "-n", hub.name, *command)


def address_of(index):
    """An engine's, by its number from 1."""
    return f"10.97.0.{index}"


def wire(hub, namespace, index):
    """An engine's cable to the switch."""
    own, cable = namespace.name, f"cable{index}"
    run("ip", "link", "add", cable, "netns", hub.name, "type", "veth", "peer", "name", "eth0", "netns", own)
    run("ip", "-n", hub.name, "link", "set", cable, "master", "switch", "up")
    run("ip", "-n", own, "addr", "add", f"{address_of(index)}/24", "dev", "eth0")
    run("ip", "-n", own, "link", "set", "eth0", "up")
    run("ip", "-n", own, "route", "add", "default", "via", SWITCH)


def start_registry(hub, directory, images):
    """A registry at the switch that has these images."""
    run(f"{IMAGES}/build-images.sh")
    run(*hub.command("env", f"APUS_REGISTRY_HOST={SWITCH}", f"{IMAGES}/registry.sh", "start", "5000", f"{directory}/registry"))
    for image in images:
        run(*hub.command(sys.executable, f"{IMAGES}/push.py", f"{CACHE}/{image}.tar", f"http://{REGISTRY}", f"library/{image}:latest"))


def join_swarm(engines, managers):
    """One swarm of all, the first of them managers."""
    first = engines[0]
    first.api.call("POST", "/swarm/init", {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": first.address})
    tokens = first.api.call("GET", "/swarm")["JoinTokens"]
    for engine in engines[1:]:
        token = tokens["Manager" if engine.index <= managers else "Worker"]
        engine.api.call(
            "POST", "/swarm/join",
            {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": engine.address, "JoinToken": token, "RemoteAddrs": [f"{first.address}:2377"]})


class Engine:
    """One engine on its cable."""

    def __init__(self, cluster, index, disk=None):
        """`disk` is the size in MiB of a filesystem of the engine's own; without one it has its data where all others have theirs."""
        self.index, self.cluster = index, cluster
        self.address = address_of(index)
        self.directory = f"{cluster.directory}/{index}"
        self.disk = f"{self.directory}/disk" if disk else None
        self.data = f"{self.disk or self.directory}/data"
        self.roots = ["--data-root", self.data, "--exec-root", f"{self.directory}/exec"]
        self.api = EngineAPI(f"{self.directory}/sock")
        self.child = None
        os.makedirs(self.directory)
        if disk:
            os.makedirs(self.disk)
            run("truncate", "-s", f"{disk}M", f"{self.disk}.image")
            run("mkfs.ext4", "-q", "-m", "0", f"{self.disk}.image")
            run("mount", "-o", "loop", f"{self.disk}.image", self.disk)
        self.namespace = NetworkNamespace(f"{cluster.prefix}-{index}")
        wire(cluster.hub, self.namespace, index)

    def launch(self):
        with open(f"{self.directory}/log", "ab") as log:
            self.child = subprocess.Popen(
                self.namespace.command(
                    f"{self.cluster.stage}/bin/apusd", *self.roots, "--host", f"unix://{self.api.path}", "--pidfile", f"{self.directory}/pid",
                    "--registry-mirror", f"http://{REGISTRY}", "--insecure-registry", REGISTRY),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def start(self):
        self.launch()
        wait_until(self.answers, PATIENCE, f"engine {self.index} answers")

    def answers(self):
        if self.child.poll() is not None:
            raise BenchError(f"engine {self.index} ended with {self.child.returncode}: {self.log_end()}")
        return self.api.answers()

    def log_end(self):
        with open(f"{self.directory}/log", encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-5:])

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        self.api.close()
        self.signal(signal.SIGKILL)

    def reap(self):
        if self.child:
            self.child.wait()
        self.child = None

    def plug(self, state):
        run("ip", "-n", self.cluster.hub.name, "link", "set", f"cable{self.index}", state)

    def move(self, switch):
        """Puts the cable into another switch."""
        run("ip", "-n", self.cluster.hub.name, "link", "set", f"cable{self.index}", "master", switch)

    def try_call(self, method, target, body=None, timeout=2):
        """None when it is refused or nobody answers."""
        try:
            return self.api.call(method, target, body, timeout)
        except (OSError, BenchError):
            self.api.close()
            return None

    def node_id(self):
        return self.api.call("GET", "/info")["Swarm"]["NodeID"]

    def memory(self):
        """PSS of the engine's process, in bytes."""
        return Process.read(self.child.pid).memory()[0]

    def close(self):
        if self.child:
            # A stopped one takes no other signal.
            self.kill()
            self.reap()
        if os.path.exists(self.data):
            run(*self.namespace.command(f"{self.cluster.stage}/bin/apusd", "clean", *self.roots), check=False)
        self.namespace.remove()


class Cluster:
    """Engines, the switch between them, a registry in it. Used in a `with` statement, at whose end everything is removed."""

    def __init__(self, stage, parent="/run"):
        """`parent` is the folder on whose disk the engines have their data."""
        self.stage, self.parent = os.path.abspath(stage), parent
        self.directory = self.prefix = self.hub = None
        self.engines = []
        self.writes = self.accepted = 0

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="apus-bench-", dir=self.parent)
        self.prefix = os.path.basename(self.directory)
        try:
            self.hub = NetworkNamespace(f"{self.prefix}-hub")
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_):
        with shielded():
            self.close()

    def prepare(self, managers, workers, images=("busybox",), disk=None):
        make_switches(self.hub)
        start_registry(self.hub, self.directory, images)
        for index in range(1, managers + workers + 1):
            engine = Engine(self, index, disk)
            self.engines.append(engine)
            engine.start()
        join_swarm(self.engines, managers)
        for image in images:
            for engine in self.engines:
                engine.api.pull(f"{image}:latest")

    def create_service(self, name, replicas, manager):
        specification = {
            "Name": name,
            "TaskTemplate": {"ContainerSpec": {"Image": "busybox:latest", "Command": ["sleep", "100000"], "StopGracePeriod": 1_000_000_000}},
            "Mode": {"Replicated": {"Replicas": replicas}},
        }
        return manager.api.call("POST", "/services/create", specification)["ID"]

    def change(self, manager, timeout=10):
        """Whether a manager accepts a change the way the command line makes one: it reads a service and writes it back with a new label."""
        current = manager.try_call("GET", "/services/changes", timeout=timeout)
        if not current:
            return False
        self.writes += 1
        specification = {**current["Spec"], "Labels": {"number": str(self.writes)}}
        if manager.try_call("POST", f"/services/changes/update?version={current['Version']['Index']}", specification, timeout) is None:
            return False
        self.accepted = self.writes
        return True

    def begin_changes(self, manager):
        self.create_service("changes", 0, manager)

    def knows_newest(self, manager):
        """Whether a manager answers with the last change that any of them accepted."""
        current = manager.try_call("GET", "/services/changes", timeout=10)
        return bool(current) and int((current["Spec"].get("Labels") or {}).get("number", 0)) >= self.accepted

    def leader(self, managers):
        """Whom one of them names as the leader; nobody who is not among them."""
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
        for name in os.listdir("/run/netns"):
            # Also of an engine that was never finished.
            if name.startswith(f"{self.prefix}-"):
                run("ip", "netns", "del", name, check=False)
        unmount_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)
