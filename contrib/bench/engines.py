"""The two engines, each in a network namespace and folders of its own, with a registry beside it."""

import os
import shutil
import signal
import subprocess
import sys
import time

from api import EngineAPI
from machine import BenchError, NetworkNamespace, Process, descendants, end_processes, run, unmount_below, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGES = os.path.normpath(os.path.join(HERE, "..", "images"))
REGISTRY_PORT = 5490
START_SECONDS = 60


class Engine:
    """What the engines have in common. `close` removes everything, whatever state it is in."""

    name = ""

    def __init__(self, directory, archive, image):
        self.directory = os.path.join(directory, self.name)
        self.archive, self.image = archive, image
        self.namespace = None
        self.started = []
        self.api = EngineAPI(f"{self.directory}/engine.sock")

    def prepare(self):
        """Namespace, registry, folders; the engine does not run yet."""
        os.makedirs(self.directory)
        self.namespace = NetworkNamespace(f"apus-bench-{os.getpid()}-{self.name}")
        run(*self.namespace.command(f"{IMAGES}/registry.sh", "start", REGISTRY_PORT, f"{self.directory}/registry"))
        run(*self.namespace.command(sys.executable, f"{IMAGES}/push.py", self.archive, self.mirror, f"library/{self.image}"))

    @property
    def mirror(self):
        return f"http://127.0.0.1:{REGISTRY_PORT}"

    def launch(self, *command, environment=None):
        with open(f"{self.directory}/log", "ab") as log:
            # Out of the terminal's group: an interrupt is the bench's to handle.
            child = subprocess.Popen(
                self.namespace.command(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment)
        self.started.append(child)
        return child

    def alive(self):
        for child in self.started:
            if child.poll() is not None:
                raise BenchError(f"{self.name} ended with {child.returncode}: {self.log_end()}")
        return True

    def log_end(self):
        with open(f"{self.directory}/log", encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-8:])

    def start(self):
        """Seconds until the API answers."""
        began = time.monotonic()
        self.launch_all()
        wait_until(lambda: self.alive() and self.api.answers(), START_SECONDS, f"{self.name} answers", 0.005)
        return time.monotonic() - began

    def stop(self, seconds=60):
        """Ends the engine as a service manager does, the last started first. Seconds until it is gone."""
        began = time.monotonic()
        self.api.close()
        for child in reversed(self.started):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(seconds)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        self.started = []
        return time.monotonic() - began

    def helpers(self):
        """Every process that is the engine's and not a container's."""
        processes = Process.all()
        roots = [child.pid for child in self.started]
        monitors = [process for process in processes.values() if self.is_monitor(process)]
        inside = {process.number for process in descendants(processes, [process.number for process in monitors])}
        own = {process.number: process for process in descendants(processes, roots)}
        own.update({process.number: process for process in monitors})
        own.update({number: processes[number] for number in roots if number in processes})
        return [process for number, process in own.items() if number not in inside]

    def memory(self):
        """By name of the program: number of processes, proportional and private bytes."""
        found = {}
        for process in self.helpers():
            name = os.path.basename(process.command[0]) if process.command else "?"
            proportional, private = process.memory()
            entry = found.setdefault(name, {"processes": 0, "pss": 0, "private": 0})
            entry["processes"] += 1
            entry["pss"] += proportional
            entry["private"] += private
        return found

    def close(self):
        problems = []
        for step in (self.tidy, self.stop, self.clean, self.end_leftovers, self.end_registry, self.remove_files):
            try:
                step()
            except (BenchError, OSError, subprocess.SubprocessError) as error:
                problems.append(f"{self.name}: {step.__name__}: {error}")
        if self.namespace:
            self.namespace.remove()
        return problems

    def tidy(self):
        """Has the engine remove what it made, as long as it answers."""
        if not self.started or not self.api.answers():
            return
        for service in self.call_quietly("GET", "/services") or []:
            self.call_quietly("DELETE", f"/services/{service['ID']}")
        self.call_quietly("POST", "/swarm/leave?force=1")
        for container in self.call_quietly("GET", "/containers/json?all=1") or []:
            self.call_quietly("DELETE", f"/containers/{container['Id']}?force=1&v=1")

    def call_quietly(self, method, target):
        try:
            return self.api.call(method, target, timeout=60)
        except (OSError, BenchError):
            return None

    def clean(self):
        """What only the stopped engine's own tool can remove."""

    def end_leftovers(self):
        processes = Process.all()
        monitors = [process for process in processes.values() if self.is_monitor(process)]
        inside = descendants(processes, [process.number for process in monitors])
        end_processes(inside + monitors)

    def end_registry(self):
        if self.namespace:
            run(*self.namespace.command(f"{IMAGES}/registry.sh", "stop", f"{self.directory}/registry"), check=False)
            end_processes(self.namespace.processes())

    def remove_files(self):
        unmount_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


class Docker(Engine):
    """Debian's dockerd with a containerd of its own, which has, as Docker packages it, the Kubernetes part switched off."""

    name = "docker"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.before = {path: os.path.exists(path) for path in self.traces()}

    @staticmethod
    def traces():
        """What dockerd and containerd make outside the folders that they are given."""
        groups = [f"/sys/fs/cgroup/{name}/docker" for name in os.listdir("/sys/fs/cgroup")] + ["/sys/fs/cgroup/docker"]
        return groups + ["/etc/docker/key.json", "/etc/docker", "/run/containerd/s", "/run/containerd", "/run/docker", "/var/lib/docker", "/opt/containerd"]

    def launch_all(self):
        socket = f"{self.directory}/containerd.sock"
        with open(f"{self.directory}/containerd.toml", "w", encoding="utf-8") as file:
            file.write('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        with open(f"{self.directory}/daemon.json", "w", encoding="utf-8") as file:
            file.write("{}\n")
        self.launch(
            "containerd", "--config", f"{self.directory}/containerd.toml", "--root", f"{self.directory}/containerd",
            "--state", f"{self.directory}/run-containerd", "--address", socket, "--log-level", "warn")
        wait_until(lambda: self.alive() and os.path.exists(socket), START_SECONDS, "containerd listens", 0.002)
        self.launch(
            "dockerd", "--config-file", f"{self.directory}/daemon.json", "--data-root", f"{self.directory}/data",
            "--exec-root", f"{self.directory}/run", "--pidfile", f"{self.directory}/pid", "--containerd", socket,
            "-H", f"unix://{self.api.path}", "--registry-mirror", self.mirror, "--insecure-registry", self.mirror.partition("//")[2],
            "--log-level", "warn")

    def is_monitor(self, process):
        return bool(process.command) and "containerd-shim" in process.command[0] and f"{self.directory}/containerd.sock" in process.command

    def remove_files(self):
        super().remove_files()
        for path in self.traces():
            if self.before.get(path) or not os.path.exists(path):
                continue
            if path.startswith("/sys/fs/cgroup"):
                for folder, _, _ in os.walk(path, topdown=False):
                    try:
                        os.rmdir(folder)
                    except OSError:
                        pass
            elif os.path.isfile(path):
                os.unlink(path)
            else:
                shutil.rmtree(path, ignore_errors=True)


class Apus(Engine):
    """The staged apusd.

    It and the Swift libraries run from copies: pages that it shared with another engine, or with a compiler, would count by half.
    """

    name = "apus"

    def __init__(self, directory, archive, image, stage):
        super().__init__(directory, archive, image)
        self.stage = stage
        self.roots = ["--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/run"]
        self.program = f"{self.directory}/stage/bin/apusd"

    def prepare(self):
        super().prepare()
        shutil.copytree(self.stage, f"{self.directory}/stage")
        os.makedirs(f"{self.directory}/swift")
        for library in swift_libraries(self.stage):
            shutil.copy(library, f"{self.directory}/swift/{os.path.basename(library)}")

    def launch_all(self):
        self.launch(
            self.program, *self.roots, "--pidfile", f"{self.directory}/pid", "--host", f"unix://{self.api.path}",
            "--registry-mirror", self.mirror, environment={**os.environ, "LD_LIBRARY_PATH": f"{self.directory}/swift"})

    def is_monitor(self, process):
        return bool(process.command) and os.path.basename(process.command[0]) == "conmon" and any(
            f"{self.directory}/" in argument for argument in process.command)

    def clean(self):
        if self.namespace and os.path.exists(f"{self.directory}/data"):
            run(*self.namespace.command(self.program, "clean", *self.roots), timeout=120)


def engine_programs(stage):
    """Every ELF file of the stage."""
    found = []
    for folder, _, names in os.walk(stage):
        for name in sorted(names):
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                if file.read(4) == b"\x7fELF":
                    found.append(path)
    return found


def swift_libraries(stage):
    """The libraries of the Swift runtime that the stage's programs and plugins load."""
    found = set()
    for program in engine_programs(stage):
        for line in run("ldd", program, check=False).splitlines():
            path = line.partition("=>")[2].split(" (")[0].strip()
            if "/swift/" in path:
                found.add(os.path.realpath(path))
    return sorted(found)


def packages_installed():
    missing = [name for name in ("dockerd", "containerd", "runc", "conmon", "docker-registry", "ip", "nsenter") if not shutil.which(name)]
    if missing:
        raise BenchError(f"not installed: {', '.join(missing)}; apt-get install docker.io conmon docker-registry iproute2")
