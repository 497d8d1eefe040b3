"""The Engine API, as much of it as both engines are measured through."""

import http.client
import json
import socket
import time
import urllib.parse

from machine import BenchError, wait_until

API_VERSION = "v1.41"
POLL_SECONDS = 0.02


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class EngineAPI:
    """One connection that is kept, opened again when the engine has closed it."""

    def __init__(self, path):
        self.path = path
        self.connection = None

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def call(self, method, target, body=None, timeout=120):
        """The decoded answer. Raises OSError when nobody answers, BenchError when the answer is an error."""
        data = None if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            fresh = self.connection is None
            if fresh:
                self.connection = UnixConnection(self.path, timeout)
            try:
                if self.connection.sock:
                    self.connection.sock.settimeout(timeout)
                self.connection.request(method, f"/{API_VERSION}{target}", body=data, headers={"Content-Type": "application/json"})
                answer = self.connection.getresponse()
                content = answer.read()
                if answer.will_close:
                    self.close()
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or attempt == 2 or method != "GET":
                    raise OSError(f"{method} {target}: {error}") from error
        if answer.status >= 400:
            raise BenchError(f"{method} {target}: {answer.status} {content[:500].decode('utf-8', 'replace')}")
        try:
            return json.loads(content) if content else None
        except ValueError:
            return content.decode("utf-8", "replace")

    def answers(self):
        try:
            self.call("GET", "/version", timeout=5)
            return True
        except (OSError, BenchError):
            return False

    def swarm_init(self):
        self.call("POST", "/swarm/init", {"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"})

    def pull(self, image):
        name, _, tag = image.partition(":")
        output = self.call("POST", f"/images/create?fromImage={name}&tag={tag}", timeout=300)
        if "error" in str(output):
            raise BenchError(f"pull of {image}: {output}")

    def create_service(self, name, image, replicas):
        specification = {
            "Name": name,
            "TaskTemplate": {"ContainerSpec": {"Image": image}},
            "Mode": {"Replicated": {"Replicas": replicas}},
        }
        return self.call("POST", "/services/create", specification)["ID"]

    def tasks(self, service):
        filters = urllib.parse.quote(json.dumps({"service": {service: True}}))
        return self.call("GET", f"/tasks?filters={filters}")

    def running(self, service):
        return sum(task["Status"]["State"] == "running" and task["DesiredState"] == "running" for task in self.tasks(service))

    def containers(self, everything=True):
        return self.call("GET", f"/containers/json?all={int(everything)}")

    def time_create(self, name, image, replicas, seconds=300):
        """From the request to the first poll that finds every replica running."""
        started = time.monotonic()
        self.create_service(name, image, replicas)

        def complete():
            return self.running(name) >= replicas

        try:
            wait_until(complete, seconds, f"{replicas} replicas running", POLL_SECONDS)
        except BenchError as error:
            states = [(task["Status"]["State"], task["Status"].get("Err", "")) for task in self.tasks(name)]
            raise BenchError(f"{error}: {sorted(set(states))[:5]}") from error
        return time.monotonic() - started

    def time_remove(self, name, seconds=300):
        """From the request to the first poll that finds neither a container nor a task."""
        started = time.monotonic()
        self.call("DELETE", f"/services/{name}")
        wait_until(lambda: not self.containers() and not self.call("GET", "/tasks"), seconds, f"removal of {name}", POLL_SECONDS)
        return time.monotonic() - started

    def time_run(self, image):
        """`docker run -d` without the program: create and start. The container is removed afterwards."""
        started = time.monotonic()
        identifier = self.call("POST", "/containers/create", {"Image": image})["Id"]
        self.call("POST", f"/containers/{identifier}/start")
        elapsed = time.monotonic() - started
        self.call("DELETE", f"/containers/{identifier}?force=1&v=1")
        return elapsed
