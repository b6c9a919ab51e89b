"""The asking side: measuring processes of any interpreter, and what they answer."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from bncli.errors import BncliError
from bncli.plugins import registered
from bncli.timing.cases import Case, TimedNorm
from bncli.timing.documents import read_facts, read_profiles, read_result
from bncli.timing.process.family import end_descendants
from bncli.timing.process.protocol import PROTOCOL, RemoteCase, describe_case
from bncli.timing.results import CaseFailure, CaseResult, Facts, FailureStatus, KernelShare
from bncli.timing.workloads import TimerSettings

T = TypeVar("T")
_START_SECONDS = 120.0  # for torch to be imported
_HELLO_SECONDS = 10.0  # for an answer between cases, which takes no work
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


class CaseError(BncliError):
    """A case that could not be checked or timed, while others can: in another process, where this one may be harmed."""

    def __init__(self, name: str, reason: str, status: FailureStatus) -> None:
        super().__init__(f"{name}: {reason}")
        self.failure = CaseFailure(name, status, reason)


class Worker:
    """A measuring process; made by `start_worker`."""

    def __init__(self, process: subprocess.Popen[str], command: str, device: str, patience: float) -> None:
        self._process, self._patience, self.device = process, patience, device
        self._is_sound, self._was_asked = True, False
        self._place = f"{command}: " if command else ""  # of what went wrong elsewhere
        self.installation, self._build, self._profiles = self._greet()

    @property
    def is_sound(self) -> bool:
        """Whether it can take another case: not after a failure that was not in a fork, nor if it is not itself."""
        if self._is_sound and self._was_asked:
            with suppress(CaseError):
                self._is_sound = "protocol" in self._exchange("", {"do": "hello"}, _HELLO_SECONDS)
        return self._is_sound

    def inspect(self, case: Case, told: TimedNorm | None = None, flag: str = "--kernel") -> Facts:
        """Inspect a case in a process of its own, untimed; `told` is what kernels are held against, `flag` named it.

        Raises:
            CaseError: if it cannot be run there.
            BncliError: if it or its truth cannot be had.
        """
        asked = {"do": "inspect", "truth": told, "flag": flag}
        reply = self._send(describe_case(case), asked, self._patience)
        return self.read(case.name, lambda: read_facts(reply["facts"]))

    def read_peak(self, case: Case) -> int | None:
        """Bytes that a case allocates at once at most; None where that is not seen there.

        Raises:
            CaseError: if it cannot be run there.
            BncliError: if it cannot be had there.
        """
        reply = self._send(describe_case(case), {"do": "inspect", "truth": None}, self._patience)
        peak = self.read(case.name, lambda: reply["facts"]["peak_byte"])
        return peak if isinstance(peak, int) else None

    def measure(self, case: RemoteCase, settings: TimerSettings, seed: int) -> CaseResult:
        """Measure a case in a process of its own.

        Raises:
            CaseError: if the case cannot be built or measured there.
        """
        asked = {"do": "measure", "effort": asdict(settings), "seed": seed}
        reply = self._send(case, asked, self._patience + settings.seconds)
        return self.read(case.name, lambda: read_result(reply["result"]))

    def profile(self, case: Case, settings: TimerSettings) -> dict[str, tuple[KernelShare, ...]]:
        """What runs in a call of the case, and of each rival, in a process of its own.

        Raises:
            CaseError: if it cannot be run there.
        """
        if not self._profiles:
            why = f"{self._place}its bncli {self.installation.bncli} knows no --profile; install the same bncli there"
            raise CaseError(case.name, why, "raised")
        asked = {"do": "profile", "effort": asdict(settings), "seed": 0}
        reply = self._send(describe_case(case), asked, self._patience)
        return self.read(case.name, lambda: read_profiles(reply["profiles"]))

    @contextmanager
    def open(self, case: RemoteCase, settings: TimerSettings, seed: int) -> Iterator[dict[str, "RemoteTimer"]]:
        """A case's candidate and rivals, held ready in a process of its own.

        Raises:
            CaseError: if the case cannot be built there, or while it is timed.
        """
        asked = {"do": "open", "effort": asdict(settings), "seed": seed}
        timers = self._send(case, asked, self._patience)
        yield self.read(
            case.name,
            lambda: {
                name: RemoteTimer(self, case.name, name, facts["clones"], facts["cold"])
                for name, facts in timers.items()
            },
        )
        self.ask(case.name, {"do": "close"})

    def ask(self, name: str, message: Mapping[str, Any], patience: float = 0.0) -> dict[str, Any]:
        """One message to the process, about the case of this name, and its answer.

        Raises:
            CaseError: with what went wrong there.
            BncliError: if that is no fault of the case's.
        """
        reply = self._exchange(name, message, patience or self._patience)
        if "bug" in reply:
            raise RuntimeError(f"in the process that measured {name}:\n{reply['bug']}")
        if reply.get("status") == "mistake":
            raise BncliError(reply["error"])
        if "error" in reply:
            reason = str(reply["error"]).removeprefix(f"{name}: ")
            self._is_sound = self.device == "cpu" and hasattr(os, "fork")
            raise CaseError(name, self._place + reason, reply.get("status", "raised"))
        return reply

    def _send(self, case: RemoteCase, asked: Mapping[str, Any], patience: float) -> dict[str, Any]:
        plugins = [plugin.place.file or plugin.spec for plugin in registered()]
        request = {**asked, "device": self.device, "build": case.build or self._build, "case": case.case}
        request |= {"plugins": plugins} if plugins else {}  # of which a bncli from before knows nothing
        return self.ask(case.name, request, patience)

    def read(self, name: str, read: Callable[[], T]) -> T:
        """What an answer holds, by `read`.

        Raises:
            CaseError: if it holds something else: a kernel has written it.
        """
        try:
            return read()
        except (KeyError, TypeError, ValueError, AttributeError):
            self._is_sound = False
            raise CaseError(name, f"{self._place}said what no bncli says", "crashed") from None

    def _exchange(self, name: str, message: Mapping[str, Any], patience: float) -> dict[str, Any]:
        """Ask, and wait for the answer's line; who gives none in so many seconds is ended."""
        asking, answering, late = self._process.stdin, self._process.stdout, threading.Event()
        assert asking is not None
        assert answering is not None

        def end() -> None:
            late.set()
            _kill(self._process)

        self._is_sound, self._was_asked, alarm = False, True, threading.Timer(patience, end)
        alarm.daemon = True
        alarm.start()
        try:
            asking.write(json.dumps(message) + "\n")
            asking.flush()
            line = answering.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if late.is_set():
            why = f"it gave no answer within {patience:.3g} s and was ended; --time-limit gives it longer"
            raise CaseError(name, self._place + why, "timed out")
        if not line:
            raise CaseError(name, f"{self._place}the measuring process {self._describe_end()}", "crashed")
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            why = f"said {line.strip()[:80]!r}, not what a bncli says"
            raise CaseError(name, self._place + why, "crashed")
        self._is_sound = True
        return reply

    def _describe_end(self) -> str:
        try:
            return f"ended with code {self._process.wait(5)}"
        except subprocess.TimeoutExpired:
            _kill(self._process)
            return "says nothing any more"

    def _greet(self) -> tuple[Installation, str, bool]:
        """What is installed there, the function there that builds a case, and whether it can profile one."""
        try:
            reply = self._exchange("", {"do": "hello"}, _START_SECONDS)
        except CaseError as error:
            raise BncliError(
                f"{error.failure.reason}; is bncli installed there, with torch? (what it said stands above)"
            ) from None
        if reply["protocol"] != PROTOCOL:
            raise BncliError(
                f"{self._place}its bncli {reply['bncli']} measures by protocol {reply['protocol']}, this one by"
                f" {PROTOCOL}; install the same bncli there"
            )
        facts = {field.name: reply[field.name] for field in fields(Installation)}
        return Installation(**facts), reply.get("build", _FIRST_BUILD), reply.get("profiles", False)


class RemoteTimer:
    """Times a workload in a measuring process; see Timer."""

    def __init__(self, worker: Worker, case: str, name: str, argument_copies: int, cold: bool) -> None:
        self.calls, self.argument_copies, self.cold = 1, argument_copies, cold
        self._worker, self._case, self._name = worker, case, name

    def time_chunk(self, block: int) -> float:
        """See Timer."""
        asked = {"do": "chunk", "contender": self._name, "block": block}
        reply = self._worker.ask(self._case, asked)
        return self._worker.read(self._case, lambda: float(reply["seconds"]))

    def size(self, wanted: float) -> None:
        """See Timer."""
        asked = {"do": "size", "contender": self._name, "seconds": wanted}
        reply = self._worker.ask(self._case, asked)
        self.calls = self._worker.read(self._case, lambda: int(reply["calls"]))


@contextmanager
def start_worker(
    device: str, command: Sequence[str] = (), environment: Mapping[str, str] | None = None,
    time_limit: float = _START_SECONDS,
) -> Iterator[Worker]:  # fmt: skip
    """A measuring process, ended on leaving; in a session of its own, where Ctrl-C does not reach it.

    Args:
        device: cpu or cuda.
        command: the interpreter, as words; such as `["env", "PYTHONPATH=/other/checkout", "python"]`. Empty is this
            interpreter with this very bncli.
        environment: variables beside this process's own.
        time_limit: seconds after which a case that gives no answer, beyond what it is to be timed for, is ended.
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
        yield Worker(process, " ".join(command), device, time_limit)
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
    """With the fork that measures, and all that this has started: the process leads its session."""
    end_descendants(process.pid)
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows, where nothing forks
        process.kill()


Start = Callable[[], AbstractContextManager[Worker]]  # starts a measuring process, which ends on leaving
