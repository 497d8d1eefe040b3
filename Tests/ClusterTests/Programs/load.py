#!/usr/bin/env python3
"""Asks addresses in turn until standard input ends, from several threads, and prints what became of the requests as JSON.

    load.py [--keep-alive] [--threads N] HOST:PORT ...
"""

import argparse
import http.client
import json
import sys
import threading

parser = argparse.ArgumentParser()
parser.add_argument("--keep-alive", action="store_true")
parser.add_argument("--threads", type=int, default=4)
parser.add_argument("targets", nargs="+")
arguments = parser.parse_args()
stopping = threading.Event()
lock = threading.Lock()
answers, errors = {}, []


def ask(number):
    connections = {}
    count = number
    while not stopping.is_set():
        target = arguments.targets[count % len(arguments.targets)]
        count += 1
        connection = connections.get(target) or http.client.HTTPConnection(target, timeout=10)
        try:
            connection.request("GET", "/", headers={} if arguments.keep_alive else {"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode(errors="replace").strip()
            if response.status != 200:
                raise OSError(f"status {response.status}")
            with lock:
                answers[body] = answers.get(body, 0) + 1
            if arguments.keep_alive and not response.will_close:
                connections[target] = connection
            else:
                connections.pop(target, None)
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            with lock:
                errors.append(f"{target}: {type(error).__name__}: {error}")
            connections.pop(target, None)
            connection.close()


threads = [threading.Thread(target=ask, args=(number,)) for number in range(arguments.threads)]
for thread in threads:
    thread.start()
print("begun", flush=True)
sys.stdin.read()
stopping.set()
for thread in threads:
    thread.join()
print(json.dumps({"answers": answers, "errors": errors}), flush=True)
