"""Entries for measuring processes in tests: what they are asked to build, by name."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from bncli.timing.workloads import Entry, Workload


def entry(document: Mapping[str, Any]) -> Entry:
    """A case that works for so many rounds, or does what its name says."""
    actions = {"work": _work, "print": _print, "crash": _crash, "bug": _bug, "leave": sys.exit, "leave-at-once": _leave}
    case = actions[document["do"]]
    rounds = document.get("rounds", 100)
    rival = Workload(_work, lambda: (100,), 8)
    return Entry(document["do"], Workload(case, lambda: (rounds,), 8), (("native", rival),))


def _work(rounds: int) -> int:
    return sum(range(100 * rounds))


def _print(rounds: int) -> None:
    print("printed by a case")
    time.sleep(1e-4)


def _crash(rounds: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _leave(rounds: int) -> None:
    os._exit(0)


def _bug(rounds: int) -> None:
    raise ZeroDivisionError("a bug")
