"""Real clusters on loopback, of processes of our own that end with the tests: Ray's nodes, Dask's scheduler and workers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 90.0  # seconds, on a busy machine


def free_port() -> int:
    """One that nobody uses now, outside of the range from which Ray's workers take theirs."""
    for port in range(21_000 + os.getpid() % 1000, 32_000, 7):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def wait_until(is_so: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"not so after {PATIENCE:g} s: {what}"
        time.sleep(0.1)


def answers(port: int, host: str = "127.0.0.1") -> bool:
    with suppress(OSError):
        socket.create_connection((host, port), timeout=1).close()
        return True
    return False


def find_forked_workers(command: int) -> list[int]:
    """Workers of the local executor: children of the process that a command has started to fork them."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    return [child for child, parent in parents.items() if parents.get(parent) == command]


class Node:
    """A process with all that it starts, in a session of its own."""

    def __init__(self, command: Sequence[str], folder: Path, name: str, **environment: str) -> None:
        variables = {
            **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0", "DASK_DISTRIBUTED__WORKER__DAEMON": "False", **environment,
        }  # fmt: skip
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True
            )

    def send(self, number: signal.Signals) -> None:
        """To the process and all of its session."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        self.process.wait()

    def started(self, mark: str) -> list[int]:
        """Processes of its session whose command holds this."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid and mark in (place / "cmdline").read_text():
                    found.append(int(place.name))
        return found


class RayCluster:
    """A head with one processor, or none, and nodes with one beside it."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", cpus: int = 1, **environment: str) -> None:
        self.folder, self.port, self.nodes = folder, free_port(), list[Node]()
        self.host, self.address = host, f"{host}:{self.port}"
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        self._ray = [*ray, "--object-store-memory=100000000"]
        self.head = Node(
            [*self._ray, "--head", f"--port={self.port}", f"--node-ip-address={host}", f"--num-cpus={cpus}",
             "--include-dashboard=false"],
            folder, "head", **environment,
        )  # fmt: skip
        wait_until(lambda: answers(self.port, host), "the head answers")

    def add_node(self, count: int, inside: Sequence[str] = (), **environment: str) -> Node:
        """One more, after which the cluster has so many; `inside` is a command that runs the one which follows."""
        own = f"{self.host.rpartition('.')[0]}.{count}"
        command = [*inside, *self._ray, f"--address={self.address}", f"--node-ip-address={own}", "--num-cpus=1"]
        node = Node(command, self.folder, f"node{count}", **environment)
        self.nodes.append(node)
        wait_until(lambda: "Ray runtime started" in node.log.read_text(errors="replace"), f"node {count} is up")
        return node

    def stop(self) -> None:
        for node in (*self.nodes, self.head):
            node.kill()


class DaskCluster:
    """A scheduler, and workers of one thread each, under nannies that start them anew."""

    def __init__(self, folder: Path, workers: int = 2, host: str = "127.0.0.1", **environment: str) -> None:
        self.folder, self.port, self.workers = folder, free_port(), list[Node]()
        self.address = f"{host}:{self.port}"
        self.head = Node(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", f"--host={host}", f"--port={self.port}",
             "--no-dashboard", "--no-show"],
            folder, "scheduler", **environment,
        )  # fmt: skip
        wait_until(lambda: answers(self.port, host), "the scheduler answers")
        for _ in range(workers):
            self.add_worker()

    def add_worker(self, *options: str, inside: Sequence[str] = (), **environment: str) -> Node:
        """One more; `inside` is a command that runs the one which follows."""
        name = f"worker{len(self.workers)}"
        command = [*inside, sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://{self.address}", "--nworkers=1",
                   "--no-dashboard", f"--local-directory={self.folder / name}", *(options or ("--nthreads=1",))]  # fmt: skip
        node = Node(command, self.folder, name, **environment)
        self.workers.append(node)
        wait_until(lambda: "Registered to" in node.log.read_text(errors="replace"), "a worker is registered")
        return node

    def stop(self) -> None:
        for node in (*self.workers, self.head):
            node.kill()
