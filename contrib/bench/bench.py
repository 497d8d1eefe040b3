#!/usr/bin/env python3
"""Measures apusd beside Debian's dockerd: the same work, the same image, the same kind of local registry, in turn on this machine.

    bench.py --stage .build/stage [--rounds 3] [--replicas 50] [--json FILE] [--only apus|docker]

Every number is a median over the rounds. Machines differ and are shared, so the ratios are what counts. Root is needed.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time

# A run leaves nothing beside the sources either.
sys.dont_write_bytecode = True

from api import POLL_SECONDS
from engines import IMAGES, Apus, Docker, engine_programs, packages_installed, swift_libraries
from machine import BenchError, end_by_interrupt, load_average, run, shielded, unmount_below, wait_until

IMAGE = "nginx:latest"
ARCHIVE = os.path.join(os.environ.get("APUS_IMAGE_CACHE", "/var/cache/apus-images"), "nginx.tar")
SINGLES = 5
SETTLE_SECONDS = 6
HANDLERS_SECONDS = 0.5

# Key, what it is, unit, the most that the ratio of Apus to Docker should be.
MEASURES = [
    ("create_many", "{replicas} replicas: create to running", "s", 0.5),
    ("remove_many", "{replicas} replicas: removal", "s", None),
    ("create_one", "one replica: create to running", "ms", 0.5),
    ("remove_one", "one replica: removal", "ms", None),
    ("run_one", "docker run -d: create and start", "ms", None),
    ("start", "engine start until the API answers", "ms", None),
    ("restart_answers", "start with {replicas} containers until the API answers", "ms", None),
    ("restart_running", "start with {replicas} containers until all run", "s", None),
    ("idle_memory", "idle engine, swarm of one (PSS)", "MB", 0.25),
    ("worked_memory", "the same after a pull and {singles} containers", "MB", None),
    ("container_memory", "per running container (growth of PSS)", "MB", 0.25),
    ("disk", "engine on disk", "MB", None),
]
SCALE = {"s": 1, "ms": 1000, "MB": 1e-6}


def say(text):
    print(f"# {text}", file=sys.stderr, flush=True)


def total(memory, field="pss"):
    return sum(entry[field] for entry in memory.values())


def timed(function):
    began = time.monotonic()
    function()
    return time.monotonic() - began


def measure_round(engine, replicas, keep):
    """All measurements on a new engine. `keep` is called with each: name, value."""
    engine.prepare()
    keep("start", engine.start())
    api = engine.api
    keep("swarm_init", timed(api.swarm_init))
    time.sleep(SETTLE_SECONDS)
    idle = engine.memory()
    keep("idle_memory", total(idle))
    keep("idle_processes", idle)

    keep("pull", timed(lambda: api.pull(IMAGE)))
    for number in range(SINGLES):
        keep("create_one", api.time_create(f"one{number}", IMAGE, 1))
        # A first process that has not set its handlers yet ignores the stop signal, and then the grace period would be measured.
        time.sleep(HANDLERS_SECONDS)
        keep("remove_one", api.time_remove(f"one{number}"))
    for _ in range(SINGLES):
        keep("run_one", api.time_run(IMAGE))
    wait_until(lambda: not api.containers(), 60, "containers removed")

    # What the engine holds on to after work is not what the containers cost.
    time.sleep(SETTLE_SECONDS)
    before = engine.memory()
    keep("worked_memory", total(before))
    keep("create_many", api.time_create("many", IMAGE, replicas))
    time.sleep(SETTLE_SECONDS)
    after = engine.memory()
    keep("container_memory", (total(after) - total(before)) / replicas)
    keep("container_private_memory", (total(after, "private") - total(before, "private")) / replicas)
    keep("container_processes", after)
    keep("remove_many", api.time_remove("many"))

    # Again, and now the engine is restarted under them.
    keep("create_many", api.time_create("many", IMAGE, replicas))
    keep("stop", engine.stop())
    began = time.monotonic()
    keep("restart_answers", engine.start())

    def all_run():
        return api.running("many") >= replicas and len(api.containers(everything=False)) >= replicas

    wait_until(all_run, 300, f"{replicas} replicas running after a restart", POLL_SECONDS)
    keep("restart_running", time.monotonic() - began)


def sizes(stage):
    def size(paths):
        return sum(os.stat(os.path.realpath(path)).st_size for path in set(paths))

    docker = [path for path in map(shutil.which, (
        "dockerd", "docker-proxy", "docker-init", "containerd", "containerd-shim-runc-v2", "runc")) if path]
    # Debian's, rather than a docker of a developer's own that comes first in PATH.
    client = [path for path in ("/usr/bin/docker",) if os.path.exists(path)]
    apus = engine_programs(stage) + [path for path in map(shutil.which, ("runc", "conmon")) if path]
    return {
        "docker": {"files": {path: size([path]) for path in docker + client}, "total": size(docker + client)},
        "apus": {"files": {path: size([path]) for path in apus}, "total": size(apus)},
        "swift": {"files": {path: size([path]) for path in swift_libraries(stage)}, "total": size(swift_libraries(stage))},
    }


def table(results, replicas):
    width = max(len(title.format(replicas=replicas, singles=2 * SINGLES)) for _, title, _, _ in MEASURES)
    rows = [f"{'':{width}}  {'docker':>10}  {'apus':>10}  {'ratio':>6}  {'target':>7}"]
    summary = {}
    for key, title, unit, target in MEASURES:
        medians = {name: statistics.median(values[key]) for name, values in results.items() if values.get(key)}
        cells = [f"{medians[name] * SCALE[unit]:7.{2 if unit == 's' else 1}f} {unit:<2}" if name in medians else "-" for name in ("docker", "apus")]
        ratio = medians["apus"] / medians["docker"] if len(medians) == 2 and medians["docker"] > 0 else None
        met = None if ratio is None or target is None else ratio <= target
        verdict = {None: "", True: "met", False: "MISSED"}[met]
        ratio_text = "-" if ratio is None else f"{ratio:.2f}"
        target_text = "" if target is None else f"<= {target}"
        rows.append(f"{title.format(replicas=replicas, singles=2 * SINGLES):{width}}  {cells[0]:>10}  {cells[1]:>10}  {ratio_text:>6}  {target_text:>7}  {verdict}".rstrip())
        summary[key] = {**medians, "ratio": ratio, "target": target, "met": met}
    return "\n".join(rows), summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", required=True, help="the staged tree of `make stage`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--replicas", type=int, default=50)
    parser.add_argument("--json", help="write every measurement to this file")
    parser.add_argument("--only", choices=("docker", "apus"), help="measure one engine alone")
    options = parser.parse_args()
    if options.rounds < 1 or options.replicas < 1:
        parser.error("--rounds and --replicas start at 1")
    if os.geteuid() != 0:
        parser.error("root is needed: the engines make containers, networks and mounts")
    if not os.access(f"{options.stage}/bin/apusd", os.X_OK):
        parser.error(f"{options.stage} has no bin/apusd; run `make stage` first")
    packages_installed()
    run(f"{IMAGES}/build-images.sh")

    end_by_interrupt()
    directory = tempfile.mkdtemp(prefix="apus-bench-", dir="/var/tmp")
    os.chmod(directory, 0o711)
    results, loads, failure = {"docker": {}, "apus": {}}, [], None
    try:
        for number in range(options.rounds):
            # Whoever comes second finds warmer caches, so they take turns at that too.
            names = ["docker", "apus"] if number % 2 == 0 else ["apus", "docker"]
            for name in names:
                if options.only in (None, name):
                    loads.append(load_average())
                    measure_engine(name, number, directory, options, results)
    except KeyboardInterrupt:
        failure = "interrupted"
    except (BenchError, OSError) as error:
        failure = str(error)
    finally:
        unmount_below(directory)
        shutil.rmtree(directory, ignore_errors=True)

    disk = sizes(options.stage)
    for name in results:
        results[name]["disk"] = [disk[name]["total"]]
    text, summary = table(results, options.replicas)
    print(text)
    print(
        f"\non disk: docker with containerd, runc and its command line; apus with its plugins, runc, conmon and its command line.\n"
        f"The Swift libraries that apus needs beside it are {disk['swift']['total'] * 1e-6:.1f} MB more.\n"
        f"{options.rounds} rounds on {os.cpu_count()} processors, load before each: {' '.join(f'{load:.1f}' for load in loads)}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"summary": summary, "measurements": results, "disk": disk, "loads": loads, "rounds": options.rounds,
                       "replicas": options.replicas, "failure": failure}, file, indent=1)
            file.write("\n")
    if failure:
        sys.exit(f"bench.py: {failure}")


def measure_engine(name, number, directory, options, results):
    engine = Docker(directory, ARCHIVE, IMAGE) if name == "docker" else Apus(directory, ARCHIVE, IMAGE, options.stage)

    def keep(key, value):
        results[name].setdefault(key, []).append(value)
        if isinstance(value, (int, float)):
            say(f"round {number + 1} {name}: {key} {value:.3f}" if value < 10000 else f"round {number + 1} {name}: {key} {value / 1e6:.1f} MB")

    try:
        measure_round(engine, options.replicas, keep)
    finally:
        with shielded():
            for problem in engine.close():
                say(problem)


if __name__ == "__main__":
    main()
