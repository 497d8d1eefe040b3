#!/usr/bin/env python3
"""Measures the networks of a swarm: requests through every way to a service, throughput across the overlay, how soon a scale is known everywhere,
and what a thousand services cost.

    network.py --stage .build/stage [--engine apus|docker] [--balancer ipvs] [--parts requests throughput scale services]
               [--rounds 15] [--seconds 1] [--services 1000] [--json FILE]

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
from docker import DockerSwarm
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
            container = engine.api.call("GET", f"/containers/{task['Status']['ContainerStatus']['ContainerID']}/json")
            path = f"/proc/{container['State']['Pid']}/ns/net"
            overlay = container["NetworkSettings"]["Networks"].get("bench", {}).get("IPAddress", "")
            # The one with which it leaves the engine; an address of documentation (RFC 5737) is nowhere else.
            way = re.search(r"src ([\d.]+)", run(*inside(path, "ip", "-4", "route", "get", "192.0.2.1"), check=False))
            found.append((engine, path, overlay, way.group(1) if way else ""))
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
    near, direct = "own address, in the overlay", "own address, from its engine"
    bases = {way: near if "overlay" in way else direct for way in ways if way not in (near, direct)}
    results, ratios = {way: [] for way in ways}, {way: [1.0] for way in (near, direct)}
    for number in range(rounds):
        for way, base in bases.items():
            # Side by side, and in turn who is first: what else the machine does must not count for one of them.
            pair = (base, way) if number % 2 == 0 else (way, base)
            rates = {}
            for each in pair:
                prefix, url = ways[each]
                results[each].append(wrk(prefix, url, seconds))
                rates[each] = results[each][-1][0]
            ratios.setdefault(way, []).append(rates[way] / rates[base])
        say(f"round {number + 1}: " + ", ".join(f"{way} {ratios[way][-1]:.2f}" for way in bases))
    return [
        (way, *(statistics.median(figure[index] for figure in results[way]) for index in range(3)), statistics.median(ratios[way])) for way in ways]


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


def answering(engine, count):
    """The tasks that answer as many connections to an engine's published port, by name: in turn, so all of them when there are not more."""
    names = set()
    output = run(*engine.namespace.command("bash", "-c", f"for ((n = 0; n < {count}; n++)); do curl -s -m 5 http://{engine.address}:{PORT}/; echo; done"))
    for line in output.splitlines():
        names.update(re.findall(r"\b[0-9a-f]{12}\b", line))
    return names


def measure_scale(cluster, rounds):
    """From `service scale` until all tasks answer by way of each of three engines; containers start in between."""
    times, after = [], []
    # The first time does not count: the images' files are read then.
    for number in range(rounds + 1):
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
                if running is not None and all(len(answering(engine, replicas + 1)) == replicas for engine in cluster.engines):
                    break
                if time.monotonic() - began > PATIENCE:
                    raise BenchError(f"{[len(answering(engine, 20)) for engine in cluster.engines]} tasks answer, not {replicas}")
                time.sleep(0.01)
            if number > 0 and replicas == 6:
                times.append(time.monotonic() - began)
                after.append(time.monotonic() - running)
        say(f"scaled {number + 1} times: {[round(seconds, 2) for seconds in times]}")
    return times, after


def rules(prefix):
    """How many rules, how many elements of maps and sets, and how many virtual services of IPVS a namespace has."""
    objects = json.loads(run(*prefix, "nft", "-j", "list", "ruleset"))["nftables"]
    elements = sum(len(entry.get("elem", [])) for item in objects for kind, entry in item.items() if kind in ("map", "set"))
    # Not /proc/net/ip_vs, which leaves some out when it is long.
    balanced = run(*prefix, "ipvsadm", "-Ln", check=False)
    return sum("rule" in item for item in objects), elements, len(re.findall(r"^(?:TCP|UDP|SCTP|FWM) ", balanced, re.MULTILINE))


def measure_services(cluster, places, count):
    """Rules and memory with so many services, all in one network and with a published port each."""
    engine = cluster.engines[0]
    # In this network, so that its namespace has every one of their addresses.
    service(cluster, "observer", "busybox:latest", 1, node=engine.node_id(), command=["sleep", "100000"], networks=("wide",))
    _, observer, _, _ = places.tasks("observer")[0]

    def look():
        return {"engine": rules(engine.namespace.command()), "container": rules(inside(observer)), "memory": [other.memory() for other in cluster.engines]}

    before = look()
    began = time.monotonic()
    for number in range(count):
        engine.api.call("POST", "/services/create", {
            "Name": f"many-{number}", "TaskTemplate": {"ContainerSpec": {"Image": "busybox:latest"}, "Networks": [{"Target": "wide"}]},
            "Mode": {"Replicated": {"Replicas": 0}},
            "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 20000 + number}]}})
    made = time.monotonic() - began
    previous, current = None, look()
    # Until nothing more is written anywhere.
    while previous is None or (previous["engine"], previous["container"]) != (current["engine"], current["container"]):
        time.sleep(1)
        previous, current = current, look()
    return {"count": count, "made": made, "before": before, "after": current}


def print_requests(rows):
    targets = {"virtual address, in the overlay": 0.95, "mesh, the task on the same engine": 0.90}
    print(f"{'way to nginx':<36} {'requests/s':>10} {'p50':>9} {'p99':>9} {'ratio':>6}  target")
    for way, rate, middle, last, ratio in rows:
        target = targets.get(way)
        goal = f"{target:.2f} {'met' if ratio >= target else 'MISSED'}" if target else ""
        print(f"{way:<36} {rate:>10.0f} {middle:>6.2f} ms {last:>6.2f} ms {ratio:>6.2f}  {goal}".rstrip())


def print_throughput(pairs):
    ratio = statistics.median(overlay / bare for bare, overlay in pairs)
    print(f"throughput across the overlay {statistics.median(pair[1] for pair in pairs):.1f} Gbit/s, "
          f"bare {statistics.median(pair[0] for pair in pairs):.1f} Gbit/s, ratio {ratio:.2f} (target 0.80 {'met' if ratio >= 0.8 else 'MISSED'})")


def print_scale(results):
    scaled, known = results
    print(f"service scale 2 to 6, until all six answer by way of each of three engines: {statistics.median(scaled):.2f} s, "
          f"{statistics.median(known) * 1000:.0f} ms of it after the last task ran")


def print_services(results):
    before, after = results["before"], results["after"]
    print(f"{results['count']} services with a virtual address and a published port each, made in {results['made']:.1f} s:")
    for name, where in (("engine", "on the engine"), ("container", "in a container")):
        print(f"  {where}: rules {before[name][0]} -> {after[name][0]}, elements of maps {before[name][1]} -> {after[name][1]}, "
              f"services of IPVS {before[name][2]} -> {after[name][2]}")
    memory = " ".join(f"{first / 1e6:.1f} -> {last / 1e6:.1f} MB" + (" (manager)," if number == 0 else ",")
                      for number, (first, last) in enumerate(zip(before["memory"], after["memory"])))
    print(f"  memory of the engines (PSS): {memory.rstrip(',')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--engine", choices=("apus", "docker"), default="apus", help="whose swarm; docker is Debian's dockerd")
    parser.add_argument("--balancer", help="the balancer to enable on all engines")
    parser.add_argument("--parts", nargs="+", default=["requests", "throughput", "scale", "services"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--json", help="also write the figures into this file")
    options = parser.parse_args()
    end_by_interrupt()
    named = f"{options.engine}{' with ' + options.balancer if options.balancer else ''}"
    print(f"{named}; load before: {load_average():.1f} on {os.cpu_count()} processors")
    figures, problems = {}, []
    try:
        with (DockerSwarm if options.engine == "docker" else Cluster)(options.stage) as cluster:
            cluster.prepare(managers=1, workers=2, images=("busybox", "nginx"))
            for engine in cluster.engines if options.balancer else []:
                engine.api.call("POST", f"/plugins/balancer/{options.balancer}/enable")
            create = cluster.engines[0].api.call
            create("POST", "/networks/create", {"Name": "bench", "Driver": "overlay"})
            create("POST", "/networks/create", {"Name": "wide", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "10.200.0.0/16"}]}})
            places = Places(cluster)
            service(cluster, "web", "nginx:latest", 1, node=cluster.engines[0].node_id(), published=True)
            for name, measure, show in (
                ("requests", lambda: measure_requests(cluster, places, options.rounds, options.seconds), print_requests),
                ("throughput", lambda: measure_throughput(cluster, places, options.rounds, options.seconds), print_throughput),
                ("scale", lambda: measure_scale(cluster, options.rounds), print_scale),
                ("services", lambda: measure_services(cluster, places, options.services), print_services),
            ):
                if name not in options.parts:
                    continue
                try:
                    figures[name] = measure()
                    show(figures[name])
                except (BenchError, OSError, AttributeError, subprocess.SubprocessError) as error:
                    problems.append(f"{name}: {error}")
                    say(problems[-1])
    except (BenchError, OSError) as error:
        problems.append(str(error))
    except KeyboardInterrupt:
        problems.append("interrupted")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    if problems:
        sys.exit("network.py: " + "; ".join(problems))


if __name__ == "__main__":
    main()
