"""Kernels that misbehave, each in its way, with what must be said of it: none may pass for one that is well."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from tests.timing.made_cheats import (
    HasAServant,
    Lazy,
    PatchesItsRival,
    RemembersByAllValues,
    Ring,
    SlowsItsRival,
    StopsLater,
)
from tests.timing.made_kernels import (
    Batch,
    Crashes,
    Empty,
    Exits,
    ExitsAtOnce,
    Fails,
    FailsLater,
    Flattens,
    Hangs,
    Interrupts,
    Meta,
    Nan,
    NoGradient,
    RemembersThePlace,
    TakesTooMuchMemory,
    Two,
    WritesItsInput,
)

__all__ = [
    "Crashes",
    "Empty",
    "Exits",
    "ExitsAtOnce",
    "Fails",
    "FailsLater",
    "Flattens",
    "Hangs",
    "HasAServant",
    "Interrupts",
    "Lazy",
    "Meta",
    "Nan",
    "NoGradient",
    "PatchesItsRival",
    "RemembersByAllValues",
    "RemembersThePlace",
    "Ring",
    "SlowsItsRival",
    "StopsLater",
    "TakesTooMuchMemory",
    "Two",
    "WritesItsInput",
]  # fmt: skip


class Does(Batch):
    """Batch norm that does something else first."""

    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return self.do(y)

    def do(self, y: Tensor) -> Any:
        return y


class RaisesWhenMade(Does):
    def __init__(self, channels: int) -> None:
        raise RuntimeError(f"no kernel for {channels} channels")


class ExitsWhenMade(Does):
    def __init__(self, channels: int) -> None:
        sys.exit(0)


def NoNorm(channels: int) -> int:  # noqa: N802 - in the list it stands among classes
    return channels


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class RaisesWithoutText(Does):
    def do(self, y: Tensor) -> Tensor:
        raise _UnprintableError


class RaisesAtLength(Does):
    def do(self, y: Tensor) -> Tensor:
        raise RuntimeError("error\n" * 10_000 + "x" * 10_000_000)


class RaisesNoException(Does):
    def do(self, y: Tensor) -> Tensor:
        raise GeneratorExit


class Recurses(Does):
    def do(self, y: Tensor) -> Tensor:
        return self.do(y)


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, name: str) -> Tensor:
        ctx.name = name
        return y.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        if ctx.name == "exits":
            sys.exit(0)
        if ctx.name == "hangs":
            time.sleep(600)
        raise RuntimeError("planted in the backward pass")


class RaisesInBackward(Does):
    def do(self, y: Tensor) -> Any:
        return _Backward.apply(y, "raises")  # type: ignore[no-untyped-call]


class ExitsInBackward(Does):
    def do(self, y: Tensor) -> Any:
        return _Backward.apply(y, "exits")  # type: ignore[no-untyped-call]


class HangsInBackward(Does):
    def do(self, y: Tensor) -> Any:
        return _Backward.apply(y, "hangs")  # type: ignore[no-untyped-call]


class ReadsNowhere(Does):
    def do(self, y: Tensor) -> Tensor:
        ctypes.string_at(0)
        return y


class Aborts(Does):
    def do(self, y: Tensor) -> Tensor:
        os.abort()


class KillsItself(Does):
    def do(self, y: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return y


class KillsItsParent(Does):
    def do(self, y: Tensor) -> Tensor:
        os.kill(os.getppid(), signal.SIGKILL)
        return y


class KillsItsGroup(Does):
    def do(self, y: Tensor) -> Tensor:
        os.killpg(0, signal.SIGKILL)
        return y


class StopsItsParent(Does):
    def do(self, y: Tensor) -> Tensor:
        os.kill(os.getppid(), signal.SIGSTOP)
        return y


class StopsItself(Does):
    def do(self, y: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGSTOP)
        return y


class SetsAnAlarm(Does):
    def do(self, y: Tensor) -> Tensor:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(1)
        return y


class HangsDeaf(Does):
    """Hangs, busy, with every signal ignored that can be."""

    def do(self, y: Tensor) -> Tensor:
        for each in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(each, signal.SIG_IGN)
        while True:
            pass


class HangsWhileTimed(Does):
    def do(self, y: Tensor) -> Tensor:
        if self.calls > 40:
            time.sleep(600)
        return y


class Deadlocks(Does):
    def do(self, y: Tensor) -> Tensor:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
        return y


class WaitsForAnother(Does):
    """For a process in a session of its own, which hangs."""

    def do(self, y: Tensor) -> Tensor:
        subprocess.run(["sleep", "600"], start_new_session=True)
        return y


class EndsLikeAnAnswer(Does):
    """With the exit code by which a fork says that it has answered."""

    def do(self, y: Tensor) -> Tensor:
        os._exit(90)


class ClosesEveryFile(Does):
    def do(self, y: Tensor) -> Tensor:
        os.closerange(3, 100)
        return y


class WritesToEveryFile(Does):
    def do(self, y: Tensor) -> Tensor:
        for file in range(3, 20):
            with suppress(OSError):
                os.write(file, b"hello\n")
        return y


class AnswersItself(Does):
    """Writes what might be an answer to every file."""

    def do(self, y: Tensor) -> Tensor:
        for file in range(3, 20):
            with suppress(OSError):
                os.write(file, b'{"facts": 3}\n')
        return y


class ChangesTheDtype(Does):
    def do(self, y: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        return y


class TakesAllThreads(Does):
    def do(self, y: Tensor) -> Tensor:
        torch.set_num_threads(64)
        return y


class RecordsNothing(Does):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        torch.set_grad_enabled(False)


class PatchesTheCopy(Does):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        plain = Tensor.copy_
        Tensor.copy_ = lambda *given: (plain(*given), plain(*given))[1]  # type: ignore[method-assign, assignment]


class Sparse(Does):
    def do(self, y: Tensor) -> Tensor:
        return y.to_sparse()


class Nothing(Does):
    def do(self, y: Tensor) -> Any:
        return None


class Fork(Does):
    """Goes on as two processes, and both answer."""

    def do(self, y: Tensor) -> Tensor:
        if self.calls == 1:
            os.fork()
        return y


HANGS = ("timed out",)
# name -> what may be said of it
MISBEHAVIOURS: dict[str, tuple[str, ...]] = {
    "Fails": ("raised",), "FailsLater": ("raised",), "TakesTooMuchMemory": ("raised",), "Interrupts": ("raised",),
    "RaisesWhenMade": ("raised",), "RaisesWithoutText": ("raised",), "RaisesAtLength": ("raised",),
    "RaisesInBackward": ("raised",), "Recurses": ("raised", "crashed"),
    "NoNorm": ("raised", "wrong"), "Nothing": ("wrong",), "Two": ("wrong",), "Flattens": ("wrong",), "Meta": ("wrong",),
    "Lazy": ("wrong",), "Sparse": ("wrong", "raised"), "NoGradient": ("wrong",), "Nan": ("wrong",), "Empty": ("wrong",),
    "WritesItsInput": ("wrong",), "RemembersThePlace": ("wrong",), "Ring": ("wrong",), "SlowsItsRival": ("wrong",),
    "PatchesItsRival": ("wrong",), "PatchesTheCopy": ("wrong",), "ChangesTheDtype": ("wrong",), "TakesAllThreads": ("wrong",),
    "RecordsNothing": ("wrong",), "StopsLater": ("wrong",), "RemembersByAllValues": ("wrong",), "HasAServant": ("wrong",),
    "Exits": ("exited",), "ExitsAtOnce": ("exited",), "ExitsWhenMade": ("exited",), "RaisesNoException": ("exited",),
    "ExitsInBackward": ("exited", "raised"), "ClosesEveryFile": ("exited",),
    "Crashes": ("crashed",), "ReadsNowhere": ("crashed",), "Aborts": ("crashed",), "KillsItself": ("crashed",),
    "KillsItsParent": ("crashed",), "KillsItsGroup": ("crashed",), "StopsItsParent": ("crashed",),
    "SetsAnAlarm": ("crashed",), "WritesToEveryFile": ("crashed",), "AnswersItself": ("crashed",),
    "Hangs": HANGS, "HangsDeaf": HANGS, "HangsInBackward": HANGS, "HangsWhileTimed": HANGS, "Deadlocks": HANGS,
    "StopsItself": HANGS, "WaitsForAnother": HANGS, "EndsLikeAnAnswer": HANGS,
}  # fmt: skip


# Right ones that are no good neighbours


class LeavesAProcess(Does):
    """In a session of its own, as a daemon does."""

    def do(self, y: Tensor) -> Tensor:
        if self.calls == 1:
            subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL)
        return y


class Leaves(Does):
    def do(self, y: Tensor) -> Tensor:
        os.chdir("/")
        return y


class Prints(Does):
    def do(self, y: Tensor) -> Tensor:
        print("{}")
        os.write(1, b"[]\n")
        return y


class StopsTheClock(Does):
    """Every clock that it can find."""

    def do(self, y: Tensor) -> Tensor:
        time.perf_counter = time.process_time = time.monotonic = lambda: 0.0  # type: ignore[assignment]
        return y


GOOD = ("LeavesAProcess", "Leaves", "Prints", "StopsTheClock")
