"""A swarm of Debian's dockerd, wired as the swarm of staged engines is."""

import os
import shutil
import tempfile

from cluster import PATIENCE, REGISTRY, address_of, join_swarm, make_switches, start_registry, stop_registry, wire
from engines import Docker
from machine import BenchError, NetworkNamespace, shielded, wait_until


class DockerEngine(Docker):
    """One dockerd on its cable, with a containerd of its own."""

    def __init__(self, swarm, index):
        super().__init__(f"{swarm.directory}/{index}", None, None)
        self.hub, self.index, self.address = swarm.hub, index, address_of(index)
        os.makedirs(self.directory)
        self.namespace = NetworkNamespace(f"{swarm.prefix}-{index}")
        wire(self.hub, self.namespace, index)

    def node_id(self):
        return self.api.call("GET", "/info")["Swarm"]["NodeID"]

    @property
    def mirror(self):
        return f"http://{REGISTRY}"

    def end_registry(self):
        """It is not this engine's."""


class DockerSwarm:
    """As cluster.Cluster is used: in a `with` statement, at whose end everything is removed."""

    def __init__(self):
        self.directory = self.prefix = self.hub = None
        self.engines = []

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="apus-bench-", dir="/run")
        self.prefix = os.path.basename(self.directory)
        self.hub = NetworkNamespace(f"{self.prefix}-hub")
        return self

    def __exit__(self, *_):
        with shielded():
            problems = [problem for engine in reversed(self.engines) for problem in engine.close()]
            stop_registry(self.directory)
            self.hub.remove()
            shutil.rmtree(self.directory, ignore_errors=True)
            if problems:
                raise BenchError("; ".join(problems))

    def prepare(self, managers, workers, images):
        make_switches(self.hub)
        start_registry(self.hub, self.directory, images)
        for index in range(1, managers + workers + 1):
            engine = DockerEngine(self, index)
            self.engines.append(engine)
            engine.start()
            for image in images:
                engine.api.pull(f"{image}:latest")
        join_swarm(self.engines, managers)
        wait_until(lambda: len(self.engines[0].api.call("GET", "/nodes")) == len(self.engines), PATIENCE, "all nodes have joined")
