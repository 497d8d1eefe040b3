"""A swarm of Debian's dockerd, wired as the swarm of staged engines is."""

import os

from cluster import PATIENCE, REGISTRY, Cluster, address_of, join_swarm, make_switches, say, start_registry, wire
from engines import Docker
from machine import NetworkNamespace, wait_until


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

    def close(self):
        for problem in super().close():
            say(problem)


class DockerSwarm(Cluster):
    """The same switch and registry, and dockerd in the place of apusd."""

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
