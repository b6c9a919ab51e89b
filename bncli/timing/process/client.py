"""The asking side: measuring processes of any interpreter, and what they answer."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bncli.errors import BncliError
from bncli.plugins import registered
from bncli.timing.process.protocol import PROTOCOL, RemoteCase, read_result
from bncli.timing.results import CaseResult
from bncli.timing.workloads import Effort

# glibc returns large blocks to the system or keeps them, by rules that follow a process's history: over ten processes
# the ratio of a plain batch norm of (16, 64, 28, 28) to torch's had a standard deviation of 21 %. Kept always, 1.4 %.
_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
}


@dataclass(frozen=True)
class Installation:
    """What a measuring process says of itself."""

    protocol: int
    bncli: str
    place: str  # the package's folder
    torch: str
    python: str

    def describe(self) -> str:
        """`bncli 0.1 at /somewhere/bncli, torch 2.13.0, Python 3.11.2`."""
        return f"bncli {self.bncli} at {self.place}, torch {self.torch}, Python {self.python}"


# The measuring process; its module was called otherwise before bncli had plug-ins, and so was the function that builds.
_LAUNCH = """
try:
    from bncli.timing.process.worker import main
except ModuleNotFoundError as error:
    if error.name != "bncli.timing":
        raise
    from bncli.bench.worker import main
main()
"""
_FIRST_BUILD = "bncli.bench.jobs:entry_of"


class Worker:
    """A measuring process; made by `start_worker`."""

    def __init__(self, process: subprocess.Popen[str], command: str, device: str) -> None:
        self._process, self._command, self.device = process, command, device
        self.installation, self._build = self._greet()

    def measure(self, case: RemoteCase, effort: Effort, seed: int) -> CaseResult:
        """Measure a case in a process of its own.

        Raises:
            BncliError: if the case cannot be built or measured there.
        """
        return read_result(self._send(case, "measure", effort, seed)["result"])

    @contextmanager
    def open(self, case: RemoteCase, effort: Effort, seed: int) -> Iterator[dict[str, "RemoteTimer"]]:
        """A case's candidate and rivals, held ready in a process of its own.

        Raises:
            BncliError: if the case cannot be built there.
        """
        timers = self._send(case, "open", effort, seed)
        yield {name: RemoteTimer(self, name, **facts) for name, facts in timers.items()}
        self.ask({"do": "close"})

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """One message to the process, and its answer.

        Raises:
            BncliError: with what went wrong there.
        """
        reply = self._exchange(message)
        if "bug" in reply:
            raise RuntimeError(f"in {self._command}:\n{reply['bug']}")
        if "error" in reply:
            raise BncliError(f"{self._command}: {reply['error']}")
        return reply

    def _send(self, case: RemoteCase, do: str, effort: Effort, seed: int) -> dict[str, Any]:
        plugins = [plugin.place.file or plugin.spec for plugin in registered()]
        request = {"do": do, "device": self.device, "effort": asdict(effort), "seed": seed}
        request |= {"plugins": plugins} if plugins else {}  # of which a bncli from before knows nothing
        try:
            return self.ask({**request, "build": case.build or self._build, "case": case.case})
        except BncliError as error:
            raise BncliError(f"{case.name}: {error}") from None

    def _exchange(self, message: Mapping[str, Any]) -> dict[str, Any]:
        asking, answering = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answering is not None
        try:
            asking.write(json.dumps(message) + "\n")
            asking.flush()
            line = answering.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BncliError(f"{self._command}: the measuring process ended with code {self._process.wait()}")
        try:
            reply: dict[str, Any] = json.loads(line)
        except ValueError:
            raise BncliError(f"{self._command}: said {line.strip()[:80]!r}, not what a bncli says") from None
        return reply

    def _greet(self) -> tuple[Installation, str]:
        """What is installed there, and the function there that builds a case."""
        try:
            reply = self._exchange({"do": "hello"})
        except BncliError as error:
            raise BncliError(f"{error}; is bncli installed there, with torch? (what it said stands above)") from None
        if reply["protocol"] != PROTOCOL:
            raise BncliError(
                f"{self._command}: its bncli {reply['bncli']} measures by protocol {reply['protocol']}, this one by"
                f" {PROTOCOL}; install the same bncli there"
            )
        facts = {field.name: reply[field.name] for field in fields(Installation)}
        return Installation(**facts), reply.get("build", _FIRST_BUILD)


class RemoteTimer:
    """Times a workload in a measuring process; see Timer."""

    def __init__(self, worker: Worker, name: str, clones: int, cold: bool) -> None:
        self.calls, self.clones, self.cold = 1, clones, cold
        self._worker, self._name = worker, name

    def time_chunk(self, block: int) -> float:
        """See Timer."""
        return float(self._worker.ask({"do": "chunk", "contender": self._name, "block": block})["seconds"])

    def size(self, wanted: float) -> None:
        """See Timer."""
        self.calls = int(self._worker.ask({"do": "size", "contender": self._name, "seconds": wanted})["calls"])


@contextmanager
def start_worker(
    device: str, command: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Worker]:
    """A measuring process, ended on leaving; in a session of its own, where Ctrl-C does not reach it.

    Args:
        device: cpu or cuda.
        command: the interpreter, as words; such as `["env", "PYTHONPATH=/other/checkout", "python"]`. Empty is this
            interpreter with this very bncli.
        environment: variables beside this process's own.
    """
    variables = {**os.environ, **_ALLOCATOR, **(environment or {})}
    if not command:
        own = str(Path(__file__).parents[3])
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [own, variables.get("PYTHONPATH")]))
    words = [*(command or [sys.executable]), "-P", "-c", _LAUNCH]  # -P: not what lies in this folder
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables, start_new_session=True
        )
    except OSError as error:
        raise BncliError(f"{words[0]}: cannot be run ({error.strerror})") from None
    try:
        yield Worker(process, " ".join(command) or "this bncli", device)
    finally:
        if process.stdin:
            with suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
        if process.stdout:
            process.stdout.close()


def _kill(process: subprocess.Popen[str]) -> None:
    """With the fork that measures: the process leads its session."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows, where nothing forks
        process.kill()


Start = Callable[[], AbstractContextManager[Worker]]  # starts a measuring process, which ends on leaving
