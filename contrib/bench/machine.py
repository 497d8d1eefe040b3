"""What the bench needs of the machine: processes, network namespaces, mounts, memory."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class BenchError(Exception):
    """Says what went wrong and where to look."""


def end_by_interrupt():
    """Lets every signal that asks for an end raise KeyboardInterrupt, so that everything is cleaned up."""
    def interrupted(_number, _frame):
        raise KeyboardInterrupt

    for number in INTERRUPTS:
        signal.signal(number, interrupted)


@contextlib.contextmanager
def shielded():
    """A second interrupt must not stop the cleaning."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run(*command, check=True, **options):
    """Runs a command and returns what it printed."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if check and result.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {result.stdout.strip()}")
    return result.stdout


def wait_until(condition, seconds, what, interval=0.02):
    """Polls until the condition holds, and returns what it returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise BenchError(f"{what}: not within {seconds} seconds")
        time.sleep(interval)


class Process:
    """A process of which nobody knows whose child it is: named by number and start time, so that a reused number is not mistaken for it."""

    def __init__(self, number, parent, started, command):
        self.number, self.parent, self.started, self.command = number, parent, started, command

    @staticmethod
    def read(number):
        try:
            with open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            with open(f"/proc/{number}/cmdline", "rb") as file:
                command = file.read().decode("utf-8", "replace").split("\0")[:-1]
        except OSError:
            return None
        # A process that ended and was not waited for is none.
        return None if fields[0] in "ZX" else Process(number, int(fields[1]), int(fields[19]), command)

    @staticmethod
    def all():
        found = (Process.read(int(name)) for name in os.listdir("/proc") if name.isdigit())
        return {process.number: process for process in found if process}

    def lives(self):
        now = Process.read(self.number)
        return now is not None and now.started == self.started

    def signal(self, number):
        if self.lives():
            try:
                os.kill(self.number, number)
            except ProcessLookupError:
                pass

    def memory(self):
        """Proportional and private memory in bytes."""
        proportional = private = 0
        try:
            with open(f"/proc/{self.number}/smaps_rollup", encoding="ascii") as file:
                for line in file:
                    if line.startswith("Pss:"):
                        proportional = int(line.split()[1]) * 1024
                    elif line.startswith(("Private_Clean:", "Private_Dirty:")):
                        private += int(line.split()[1]) * 1024
        except OSError:
            pass
        return proportional, private


def descendants(processes, roots):
    """The processes below the roots, without them."""
    children = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found, pending = [], list(roots)
    while pending:
        for child in children.get(pending.pop(), []):
            found.append(child)
            pending.append(child.number)
    return found


def end_processes(processes, seconds=20):
    """Asks first, then does not ask."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            process.signal(number)
        end = time.monotonic() + seconds
        while any(process.lives() for process in processes):
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        else:
            return


class NetworkNamespace:
    """A namespace in which an engine may do what it likes to links and firewall rules."""

    def __init__(self, name):
        self.name, self.path = name, f"/run/netns/{name}"
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def command(self, *command):
        return ["nsenter", f"--net={self.path}", *map(str, command)]

    def processes(self):
        """Those in it, and in no namespace below it."""
        try:
            own = os.stat(self.path)
        except OSError:
            return []
        found = []
        for process in Process.all().values():
            try:
                other = os.stat(f"/proc/{process.number}/ns/net")
            except OSError:
                continue
            if (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino):
                found.append(process)
        return found

    def remove(self):
        run("ip", "netns", "del", self.name, check=False)


def mounts_below(directory):
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4].encode().decode("unicode_escape") for line in file]
    return [point for point in points if point == directory or point.startswith(directory + "/")]


def unmount_below(directory):
    library = ctypes.CDLL(None, use_errno=True)
    detach = 2
    for point in reversed(mounts_below(directory)):
        library.umount2(os.fsencode(point), detach)


def load_average():
    return os.getloadavg()[0]
