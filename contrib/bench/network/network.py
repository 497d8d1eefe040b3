#!/usr/bin/env python3
"""Measures the networks of a swarm: requests through every way to a service, throughput across the overlay, how soon a scale is known everywhere,
and what a thousand services cost.

    network.py --stage .build/stage [--rounds 5] [--seconds 3] [--services 1000] [--json FILE]

Three engines, each in a network namespace of its own on a cable to one switch. Needs root, wrk and iperf3. Ways that are compared take turns, so that a
noisy machine is noisy for all of them.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))

from cluster import PATIENCE, Cluster, say
from machine import BenchError, end_by_interrupt, load_average, run, wait_until

PORT = 8080


def inside(path, *command):
    return ["nsenter", f"--net={path}", *command]


class Places:
    """Where things are: containers' namespaces and addresses."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.nodes = {engine.node_id(): engine for engine in cluster.engines}

    def tasks(self, service):
        """(engine, namespace path, address in the overlay, address on the engine) of the running tasks."""
        found = []
        for task in self.cluster.engines[0].api.tasks(service):
            if task["DesiredState"] != "running" or task["Status"]["State"] != "running":
                continue
            engine = self.nodes[task["NodeID"]]
            container = task["Status"]["ContainerStatus"]["ContainerID"]
            networks = engine.api.call("GET", f"/containers/{container}/json")["NetworkSettings"]["Networks"]
            path = f"{engine.directory}/exec/netns/{container}"
            found.append((engine, path, networks.get("bench", {}).get("IPAddress", ""), networks.get("apus_gwbridge", {}).get("IPAddress", "")))
        return found


def service(cluster, name, image, replicas, node=None, command=None, published=False, networks=("bench",)):
    container = {"Image": image, "StopGracePeriod": 1_000_000_000}
    if command:
        container["Command"] = command
    specification = {
        "Name": name,
        "TaskTemplate": {
            "ContainerSpec": container, "Networks": [{"Target": network} for network in networks],
            "Placement": {"Constraints": [f"node.id=={node}"]} if node else {}},
        "Mode": {"Replicated": {"Replicas": replicas}},
    }
    if published:
        specification["EndpointSpec"] = {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": PORT}]}
    cluster.engines[0].api.call("POST", "/services/create", specification)
    wait_until(lambda: cluster.engines[0].api.running(name) == replicas, PATIENCE, f"{name} runs")


def wrk(prefix, url, seconds):
    """Requests a second, and the median and the 99th percentile of their times in milliseconds."""
    output = run(*prefix, "wrk", "-t1", "-c16", f"-d{seconds}s", "--latency", url)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1))
    units = {"us": 0.001, "ms": 1, "s": 1000}
    times = {}
    for share in ("50%", "99%"):
        value, unit = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", output).groups()
        times[share] = float(value) * units[unit]
    if "Non-2xx" in output or "Socket errors" in output:
        say(f"{url}: {output}")
    return rate, times["50%"], times["99%"]


def measure_requests(cluster, places, rounds, seconds):
    first, second = cluster.engines[0], cluster.engines[1]
    service(cluster, "web", "nginx:latest", 1, node=first.node_id(), published=True)
    service(cluster, "client", "busybox:latest", 1, node=first.node_id(), command=["sleep", "100000"])
    _, _, overlay, local = places.tasks("web")[0]
    _, client, _, _ = places.tasks("client")[0]
    virtual = next(
        entry["Addr"].split("/")[0] for entry in first.api.call("GET", "/services/web")["Endpoint"]["VirtualIPs"]
        if entry["NetworkID"] == first.api.call("GET", "/networks/bench")["Id"])
    on_first, on_second = first.namespace.command(), second.namespace.command()
    ways = {
        "own address, in the overlay": (inside(client), f"http://{overlay}/"),
        "virtual address, in the overlay": (inside(client), f"http://{virtual}/"),
        "own address, from its engine": (on_first, f"http://{local}/"),
        "mesh, the task on the same engine": (on_first, f"http://{first.address}:{PORT}/"),
        "mesh, the task on another engine": (on_second, f"http://{second.address}:{PORT}/"),
    }
    results = {way: [] for way in ways}
    for number in range(rounds):
        for way, (prefix, url) in ways.items():
            results[way].append(wrk(prefix, url, seconds))
        say(f"round {number + 1}: " + ", ".join(f"{way} {results[way][-1][0]:.0f}/s" for way in ways))
    rows = []
    for way, figures in results.items():
        base = "own address, in the overlay" if "overlay" in way else "own address, from its engine"
        ratios = [figure[0] / reference[0] for figure, reference in zip(figures, results[base])]
        rows.append((way, *(statistics.median(figure[index] for figure in figures) for index in range(3)), statistics.median(ratios)))
    return rows


def iperf(server, client, address, seconds):
    """Gbit/s."""
    process = subprocess.Popen([*server, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(50):
            answer = subprocess.run(
                [*client, "iperf3", "-c", address, "-t", str(seconds), "-J"], capture_output=True, text=True, check=False, timeout=seconds + 30)
            figures = json.loads(answer.stdout or "{}")
            if "end" in figures and "sum_received" in figures["end"]:
                return figures["end"]["sum_received"]["bits_per_second"] / 1e9
            time.sleep(0.1)
        raise BenchError(f"iperf3 to {address}: {answer.stdout[-300:]}{answer.stderr}")
    finally:
        process.terminate()
        process.wait()


def measure_throughput(cluster, places, rounds, seconds):
    ends = []
    for engine in cluster.engines[:2]:
        service(cluster, f"end{engine.index}", "busybox:latest", 1, node=engine.node_id(), command=["sleep", "100000"])
        ends.append(places.tasks(f"end{engine.index}")[0])
    pairs = []
    for number in range(rounds):
        bare = iperf(cluster.engines[1].namespace.command(), cluster.engines[0].namespace.command(), cluster.engines[1].address, seconds)
        overlay = iperf(inside(ends[1][1]), inside(ends[0][1]), ends[1][2], seconds)
        pairs.append((bare, overlay))
        say(f"pair {number + 1}: bare {bare:.1f} Gbit/s, overlay {overlay:.1f} Gbit/s")
    return pairs


def backends(engine):
    """How many backends the engine's balancer has for the port."""
    output = run(*engine.namespace.command("nft", "list", "chain", "inet", "apus-balancer", f"tcp-{PORT}"), check=False)
    return len(re.findall(r"\d+ : [\d.]+ \. 80", output)) or len(re.findall(r"dnat ip to [\d.]+:80", output))


def measure_scale(cluster, rounds):
    """From `service scale` to the last balancer of three that has all backends; containers start in between."""
    times, after = [], []
    for number in range(rounds):
        for replicas in (6, 2):
            current = cluster.engines[0].api.call("GET", "/services/web")
            specification = current["Spec"]
            specification["Mode"]["Replicated"]["Replicas"] = replicas
            specification["TaskTemplate"]["Placement"] = {}
            began = time.monotonic()
            cluster.engines[0].api.call("POST", f"/services/web/update?version={current['Version']['Index']}", specification)
            running = None
            while True:
                if running is None and cluster.engines[0].api.running("web") == replicas:
                    running = time.monotonic()
                if all(backends(engine) == replicas for engine in cluster.engines):
                    break
                if time.monotonic() - began > PATIENCE:
                    raise BenchError(f"the balancers have {[backends(engine) for engine in cluster.engines]} backends, not {replicas}")
                time.sleep(0.01)
            if number > 0 and replicas == 6:
                times.append(time.monotonic() - began)
                after.append(time.monotonic() - (running or time.monotonic()))
        say(f"scaled {number + 1} times")
    return times, after


def memory(engine):
    """PSS of the engine's process, in MB."""
    with open(f"/proc/{open(f'{engine.directory}/pid', encoding='ascii').read().strip()}/smaps_rollup", encoding="ascii") as file:
        return int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M).group(1)) / 1024


def measure_services(cluster, places, count):
    """Rules and memory with so many services, all in one network and with a published port each."""
    engine = cluster.engines[0]
    _, client, _, _ = places.tasks("client")[0]

    def rules(prefix):
        return len(run(*prefix, "nft", "list", "ruleset").splitlines())

    before = (rules(engine.namespace.command()), rules(inside(client)), memory(engine))
    began = time.monotonic()
    for number in range(count):
        engine.api.call("POST", "/services/create", {
            "Name": f"many-{number}", "TaskTemplate": {"ContainerSpec": {"Image": "busybox:latest"}, "Networks": [{"Target": "wide"}]},
            "Mode": {"Replicated": {"Replicas": 0}},
            "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 20000 + number}]}})
    made = time.monotonic() - began
    # The client is in this network, so that its namespace has every one of their addresses.
    service(cluster, "observer", "busybox:latest", 1, node=engine.node_id(), command=["sleep", "100000"], networks=("wide",))
    _, observer, _, _ = places.tasks("observer")[0]
    time.sleep(1)
    return before, (rules(engine.namespace.command()), rules(inside(observer)), memory(engine)), made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--json", help="also write the figures into this file")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.stage)
    figures = {}
    try:
        cluster.prepare(managers=1, workers=2)
        run(*cluster.hub.command(sys.executable, f"{IMAGES}/push.py", "/var/cache/apus-images/nginx.tar", f"http://{REGISTRY}", "library/nginx:latest"))
        cluster.engines[0].api.call("POST", "/networks/create", {"Name": "bench", "Driver": "overlay"})
        cluster.engines[0].api.call(
            "POST", "/networks/create", {"Name": "wide", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "10.200.0.0/16"}]}})
        places = Places(cluster)
        requests = measure_requests(cluster, places, arguments.rounds, arguments.seconds)
        pairs = measure_throughput(cluster, places, arguments.rounds, arguments.seconds)
        scaled, known = measure_scale(cluster, arguments.rounds)
        before, after, made = measure_services(cluster, places, arguments.services)
    finally:
        cluster.close()
    targets = {"virtual address, in the overlay": 0.95, "mesh, the task on the same engine": 0.90}
    print(f"{'way to nginx':<36} {'requests/s':>10} {'p50':>9} {'p99':>9} {'ratio':>6}  target")
    for way, rate, middle, last, ratio in requests:
        target = targets.get(way)
        goal = f"{target:.2f} {'met' if ratio >= target else 'MISSED'}" if target else ""
        print(f"{way:<36} {rate:>10.0f} {middle:>6.2f} ms {last:>6.2f} ms {ratio:>6.2f}  {goal}")
    ratio = statistics.median(overlay / bare for bare, overlay in pairs)
    print(f"\nthroughput across the overlay {statistics.median(pair[1] for pair in pairs):.1f} Gbit/s, "
          f"bare {statistics.median(pair[0] for pair in pairs):.1f} Gbit/s, ratio {ratio:.2f} (target 0.80 {'met' if ratio >= 0.8 else 'MISSED'})")
    print(f"service scale 2 to 6, until the last of three balancers has all six: {statistics.median(scaled):.2f} s, "
          f"{statistics.median(known) * 1000:.0f} ms of it after the last task ran")
    print(f"{arguments.services} services with a virtual address and a published port each, made in {made:.1f} s: "
          f"rules on the engine {before[0]} -> {after[0]} lines, in a container {before[1]} -> {after[1]} lines, engine's memory {before[2]:.1f} -> {after[2]:.1f} MB")
    figures = {"requests": requests, "throughput": pairs, "scale": scaled, "known": known, "services": [before, after]}
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"network.py: {error}")
