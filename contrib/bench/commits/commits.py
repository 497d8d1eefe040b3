#!/usr/bin/env python3
"""Measures how many changes a second three managers commit, beside Debian's etcd as three members: same machine, same disk, in turn.

    commits.py --stage .build/stage [--rounds 5] [--seconds 3] [--json FILE]

Both are asked for what their users ask for: Apus creates config objects through the Engine API, etcd puts keys through its JSON gateway, each over kept
connections to the leader, with the same client; a change counts when it was answered. Both encrypt between their members. Data and values have 200 bytes.
An engine and a member of etcd share a network namespace and the cable of cluster.py. Root and Debian's etcd-server are needed.
"""

import argparse
import base64
import ctypes
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from cluster import PATIENCE, Cluster, say
from machine import BenchError, end_by_interrupt, end_processes, load_average, shielded, wait_until, Process

WRITERS = (1, 64)
DATA = base64.b64encode(os.urandom(200)).decode()
CLIENT_PORT, PEER_PORT = 2479, 2480


class Numbers:
    """Every object has a name of its own."""

    def __init__(self):
        self.next = 0

    def take(self):
        self.next += 1
        return self.next


def post(target, body):
    content = json.dumps(body).encode()
    return f"POST {target} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def complete(answer):
    """The status of a whole answer; None while some of it is missing."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return None
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if b"content-length" in fields:
        ends = len(body) >= int(fields[b"content-length"])
    else:
        ends = body.endswith(b"0\r\n\r\n")
    return int(head[9:12]) if ends else None


class Apus:
    name = "apus"

    def __init__(self, cluster):
        self.cluster, self.leader = cluster, None

    def find_leader(self):
        self.leader = self.cluster.leader(self.cluster.engines)

    def connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(self.leader.api.path)
        return connection

    def change(self, number):
        return post("/v1.41/configs/create", {"Name": f"bench-{number}", "Data": DATA})


class Etcd:
    name = "etcd"

    def __init__(self, cluster):
        self.cluster, self.leader, self.children = cluster, None, []

    def __enter__(self):
        members = ",".join(f"member{engine.index}=https://{engine.address}:{PEER_PORT}" for engine in self.cluster.engines)
        for engine in self.cluster.engines:
            client, peer = f"http://{engine.address}:{CLIENT_PORT}", f"https://{engine.address}:{PEER_PORT}"
            with open(f"{engine.directory}/etcd.log", "ab") as log:
                self.children.append(subprocess.Popen(
                    engine.namespace.command(
                        "etcd", "--name", f"member{engine.index}", "--data-dir", f"{engine.directory}/etcd", "--listen-client-urls", client,
                        "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--peer-auto-tls",
                        "--initial-cluster", members, "--initial-cluster-state", "new", "--quota-backend-bytes", str(8 << 30)),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))
        return self

    def __exit__(self, *_):
        with shielded():
            end_processes([process for process in map(Process.read, (child.pid for child in self.children)) if process])
            for child in self.children:
                child.wait()

    def find_leader(self):
        def look():
            for child, engine in zip(self.children, self.cluster.engines):
                if child.poll() is not None:
                    with open(f"{engine.directory}/etcd.log", encoding="utf-8", errors="replace") as log:
                        raise BenchError(f"etcd ended with {child.returncode}: {log.read()[-500:]}")
                self.leader = engine
                try:
                    with self.connect() as connection:
                        status = json.loads(self.ask(connection, post("/v3/maintenance/status", {})).partition(b"\r\n\r\n")[2])
                except OSError:
                    return None
                if status.get("leader") == status["header"]["member_id"]:
                    return engine
            return None

        self.leader = wait_until(look, PATIENCE, "etcd has a leader", 0.2)

    @staticmethod
    def ask(connection, request):
        connection.sendall(request)
        answer = b""
        while complete(answer) is None:
            piece = connection.recv(65536)
            if not piece:
                raise OSError("etcd closed the connection")
            answer += piece
        return answer

    def connect(self):
        """From inside the member's own namespace, so that no cable is between, as there is none for a socket in the file system."""
        library, original = ctypes.CDLL(None, use_errno=True), os.open("/proc/self/ns/net", os.O_RDONLY)
        target = os.open(self.leader.namespace.path, os.O_RDONLY)
        try:
            if library.setns(target, 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                connection = socket.create_connection((self.leader.address, CLIENT_PORT), timeout=5)
            finally:
                library.setns(original, 0)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        finally:
            os.close(target)
            os.close(original)

    def change(self, number):
        return post("/v3/kv/put", {"key": base64.b64encode(f"bench/{number}".encode()).decode(), "value": DATA})


def drive(system, numbers, writers, seconds):
    """Changes a second, and the median and 99th percentile of their times in milliseconds. Each writer has one change under way."""
    selector = selectors.DefaultSelector()
    times, started, answers = [], {}, {}
    try:
        for _ in range(writers):
            connection = system.connect()
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        connections = [key.fileobj for key in selector.get_map().values()]
        began = time.monotonic()
        for connection in connections:
            answers[connection], started[connection] = b"", time.monotonic()
            connection.send(system.change(numbers.take()))
        while time.monotonic() - began < seconds:
            for key, _ in selector.select(1):
                connection = key.fileobj
                piece = connection.recv(65536)
                if not piece:
                    raise BenchError(f"{system.name} closed a connection")
                answers[connection] += piece
                status = complete(answers[connection])
                if status is None:
                    continue
                if not 200 <= status < 300:
                    raise BenchError(f"{system.name}: {answers[connection][-300:].decode('utf-8', 'replace')}")
                now = time.monotonic()
                times.append(now - started[connection])
                answers[connection], started[connection] = b"", now
                connection.send(system.change(numbers.take()))
        elapsed = time.monotonic() - began
    finally:
        for key in list(selector.get_map().values()):
            key.fileobj.close()
        selector.close()
    if len(times) < 2:
        raise BenchError(f"{system.name}: fewer than two changes in {seconds} s")
    times.sort()
    return len(times) / elapsed, times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000


def synchronizations(directory, seconds=1):
    """How often a second the disk makes 512 bytes durable, one after the other: what nobody who keeps his word can exceed with one writer."""
    path, count = f"{directory}/probe", 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            os.write(descriptor, bytes(512))
            os.fdatasync(descriptor)
            count += 1
        return count / (time.monotonic() - began)
    finally:
        os.close(descriptor)
        os.unlink(path)


def measure(options):
    numbers, results, probes = Numbers(), {}, []
    with Cluster(options.stage, parent="/var/tmp") as cluster:
        cluster.prepare(3, 0)
        with Etcd(cluster) as etcd:
            apus = Apus(cluster)
            for system in (apus, etcd):
                system.find_leader()
                drive(system, numbers, WRITERS[-1], 1)
            for number in range(options.rounds):
                probes.append(synchronizations(cluster.directory))
                for writers in WRITERS:
                    for system in (apus, etcd) if number % 2 == 0 else (etcd, apus):
                        system.find_leader()
                        results.setdefault((writers, system.name), []).append(drive(system, numbers, writers, options.seconds))
                say(f"round {number + 1}: " + ", ".join(f"{name} {writers} writers {figures[-1][0]:.0f}/s" for (writers, name), figures in results.items()))
    return results, probes


def table(results, probes):
    print(f"{'three members on one disk':<28} {'apus':>9} {'etcd':>9} {'ratio':>6} {'apus p50':>10} {'p99':>9} {'etcd p50':>10} {'p99':>9}")
    for writers in WRITERS:
        apus, etcd = results[writers, "apus"], results[writers, "etcd"]
        ratio = statistics.median(first[0] / second[0] for first, second in zip(apus, etcd))
        cells = [statistics.median(figure[index] for figure in figures) for figures in (apus, etcd) for index in range(3)]
        name = f"changes a second, {writers} writer{'s' if writers > 1 else ''}"
        print(f"{name:<28} {cells[0]:>9.0f} {cells[3]:>9.0f} {ratio:>6.2f} {cells[1]:>7.2f} ms {cells[2]:>6.2f} ms {cells[4]:>7.2f} ms {cells[5]:>6.2f} ms")
    print(f"the disk makes {statistics.median(probes):.0f} single writes a second durable (fdatasync)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--json", help="also write the figures into this file")
    options = parser.parse_args()
    end_by_interrupt()
    print(f"load before: {load_average():.1f} on {os.cpu_count()} processors")
    try:
        results, probes = measure(options)
    except (BenchError, OSError) as error:
        sys.exit(f"commits.py: {error}")
    except KeyboardInterrupt:
        sys.exit("commits.py: interrupted")
    table(results, probes)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({f"{name}, {writers}": figures for (writers, name), figures in results.items()}, file, indent=1)


if __name__ == "__main__":
    main()
