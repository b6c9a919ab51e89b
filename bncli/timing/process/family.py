"""What a process has started, and its end: kernels leave processes behind, and commands are killed."""

import ctypes
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

# of <linux/prctl.h>
_DEATH_SIGNAL, _SUBREAPER = 1, 36
_ROUNDS = 100  # of ending what has been started meanwhile


def adopt_orphans() -> None:
    """Become the parent of what any descendant leaves behind, so that it can be found; on Linux."""
    _set(_SUBREAPER, 1)


def end_with_parent(parent: int) -> None:
    """End as soon as the process that forked this one does; on Linux."""
    _set(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before that was settled
        os._exit(1)


def end_with_requests(requests: int) -> None:
    """End this process and all that it has started when nobody can ask any more: whoever asked has ended."""
    if not hasattr(select, "poll"):
        return

    def watch() -> None:
        poll = select.poll()
        poll.register(requests, 0)  # what is always told: that the other end is closed
        poll.poll()
        end_descendants(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_descendants(process: int) -> None:
    """Kill all that a process has started, and they in turn, whatever session they are in; on Linux."""
    for _ in range(_ROUNDS):
        living = _list_descendants(process)
        for each in living:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        if not living:
            return


def forget_children() -> None:
    """Take note that those of this process's children have ended that have."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def measure_others(process: int) -> float:
    """Seconds of processor time of all that a process has started, and they in turn, but for who asks; on Linux.

    With those that have ended and that who asks has waited for.
    """
    spent = os.times()
    nanoseconds = 0
    for each in _list_descendants(process):
        if each != os.getpid():
            for path in Path(f"/proc/{each}/task").glob("*/schedstat"):
                with suppress(OSError, ValueError):  # it ends meanwhile
                    nanoseconds += int(path.read_text().split()[0])
    return nanoseconds / 1e9 + spent.children_user + spent.children_system


def _list_descendants(process: int) -> list[int]:
    """Those that live, by the parents that the system names."""
    children = dict[int, list[int]]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in ("Z", "X"):
                children.setdefault(int(parent), []).append(int(path.parent.name))
    found = children.get(process, [])
    for each in found:  # grows meanwhile
        found += children.get(each, [])
    return found


def _set(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
