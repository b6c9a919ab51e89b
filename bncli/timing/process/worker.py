"""The measuring process: `python -m bncli.timing.process.worker` answers one JSON line with one JSON line.

It imports torch once and forks for each case, so that every measurement starts from a fresh heap and a kernel that
crashes while it is timed takes only its fork along; what a kernel has started ends with its case, and all of it with
whoever asks, also where that is killed. Forks share where their process has its libraries and its heap, and
with it some luck: beside what differs from fork to fork, ratios differ by 1 % from process to process, as
tests/performance/process_spread.py shows. So a process forks once for each case, and the next measurement of it is in
another one. Where there is no fork, or on a GPU, which does not survive one, the process measures itself.
"""

import gc
import json
import os
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import torch

from bncli.code_hash import VERSION
from bncli.errors import BncliError, ConfigError
from bncli.plugins import add_plugins
from bncli.timing.build import WrongError, quote_error
from bncli.timing.cases import is_foreign
from bncli.timing.clock import Clock, choose_clock
from bncli.timing.documents import freeze, read_case
from bncli.timing.habits import watch_habits
from bncli.timing.inspection import inspect
from bncli.timing.interference import list_interference
from bncli.timing.process.family import (
    adopt_orphans,
    end_descendants,
    end_with_parent,
    end_with_requests,
    forget_children,
)
from bncli.timing.process.protocol import (
    PROTOCOL,
    build_entry,
    describe_answer,
)
from bncli.timing.profiling import profile_entry
from bncli.timing.scheduler import measure, pause_garbage_collection
from bncli.timing.workloads import Entry, TimerSettings, make_timers

Message = Mapping[str, Any]
_FAMILY = os.getpid()  # this process, of which forks and what kernels start descend
_ANSWERED = 90  # what a fork ends with that has replied; no kernel that ends its process hits on it


def main() -> None:
    """Serve stdin until it ends; what cases print goes to stderr, and what they read is empty."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with os.fdopen(os.dup(0), "rb", buffering=0) as requests:  # unbuffered: forks read on where this one stopped
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a case that reads stdin takes no request
        adopt_orphans()
        end_with_requests(requests.fileno())
        with suppress(BrokenPipeError):  # whoever asked has ended
            serve(requests, replies)
    end_descendants(os.getpid())
    os._exit(0)  # a kernel's threads are not waited for


def serve(requests: IO[bytes], replies: IO[str]) -> None:
    """Answer every request: `hello`, then any number of `inspect`, `measure`, `open` and `profile`."""
    actions: dict[str, Callable[[Message, IO[bytes], IO[str]], None]] = {
        "inspect": _inspect, "measure": _measure, "open": _open, "profile": _profile,
    }  # fmt: skip
    while line := requests.readline():
        message = json.loads(line)
        if message["do"] == "hello":
            _say(replies, _greet())
            continue
        prepare_for_forks(message["build"].partition(":")[0])
        if message["device"] == "cpu" and hasattr(os, "fork"):
            _fork(actions[message["do"]], message, requests, replies)
            end_descendants(os.getpid())
            forget_children()
        else:
            _answer(actions[message["do"]], message, requests, replies)


@cache
def prepare_for_forks(module: str) -> None:
    """Import, once for all forks, what they need; and what is there by then no garbage collection of theirs visits."""
    with suppress(ImportError):  # the fork will say it
        import_module(module)
    if not torch.accelerator.is_available():  # or else the pass starts a thread for each GPU, and forks may make none
        x = torch.ones(1, requires_grad=True)
        torch.autograd.grad(x * 1.0, x, torch.ones(1))  # torch's first backward pass imports 500 modules: 0.3 s
    gc.collect()
    gc.freeze()


def _greet() -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "bncli": VERSION,
        "place": str(Path(__file__).resolve().parents[2]),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "profiles": True,  # a bncli from before says nothing of it
        "build": f"{build_entry.__module__}:{build_entry.__name__}",
    }


def _inspect(message: Message, requests: IO[bytes], replies: IO[str]) -> None:
    add_plugins(message.get("plugins", ()))
    told = message["truth"] and (message["truth"][0], freeze(message["truth"][1]))
    facts = inspect(read_case(message["case"]), told, message.get("flag", "--kernel"))
    _refuse_interference(message)
    _say(replies, {"facts": describe_answer(facts)})


def _measure(message: Message, requests: IO[bytes], replies: IO[str]) -> None:
    entry, clock, settings = _prepare(message)
    with _watch(message, entry, clock):
        result = measure(entry, clock, settings, message["seed"])
    _say(replies, {"result": describe_answer(result)})


def _profile(message: Message, requests: IO[bytes], replies: IO[str]) -> None:
    entry, settings = _build(message), TimerSettings(**message["effort"])
    found = profile_entry(entry, message["device"], settings, random.Random(message["seed"]))
    _say(replies, {"profiles": {name: [asdict(each) for each in kernels] for name, kernels in found.items()}})


@contextmanager
def _watch(message: Message, entry: Entry, clock: Clock) -> Iterator[None]:
    """Refuse what a kernel does while it is timed."""
    with ExitStack() as habits:
        if any(workload.norm is not None for workload in entry.workloads().values()):
            case = read_case(message["case"])
            rivals = {} if case.rival is None else {case.rival.label: case.rival}
            for name, workload in reversed(entry.workloads().items()):  # the candidate last, so that it answers first
                if workload.norm is not None:
                    habits.enter_context(watch_habits(rivals.get(name, case), workload, clock, _FAMILY))
        yield
    _refuse_interference(message)


def _refuse_interference(message: Message) -> None:
    """A rival may be slow, or a result right, by what a kernel has changed."""
    if faults := list_interference(message["case"].get("threads", torch.get_num_threads())):
        raise WrongError(faults[0])


def _open(message: Message, requests: IO[bytes], replies: IO[str]) -> None:
    """Hold a case's candidate and rivals ready, and size or time a chunk of one whenever asked, until `close`."""
    entry, clock, settings = _prepare(message)
    timers = make_timers(entry, clock, settings, random.Random(message["seed"]))
    _say(replies, {name: {"clones": timer.argument_copies, "cold": timer.cold} for name, timer in timers.items()})
    with _watch(message, entry, clock), pause_garbage_collection():
        while (line := requests.readline()) and (asked := json.loads(line))["do"] != "close":
            timer = timers[asked["contender"]]
            if asked["do"] == "size":
                timer.size(asked["seconds"])
                _say(replies, {"calls": timer.calls})
            else:
                _say(replies, {"seconds": timer.time_chunk(asked["block"])})
    _say(replies, {"closed": True})


def _prepare(message: Message) -> tuple[Entry, Clock, TimerSettings]:
    entry = _build(message)  # sets the threads that the clock depends on
    settings = TimerSettings(**message["effort"])
    return entry, choose_clock(message["device"], torch.get_num_threads(), graph=settings.graph), settings


def _build(message: Message) -> Entry:
    module, _, function = message["build"].partition(":")
    add_plugins(message.get("plugins", ()))
    try:
        build = getattr(import_module(module), function)
        entry: Entry = build(message["case"])
    except (ImportError, AttributeError, TypeError) as error:
        raise BncliError(f"bncli {VERSION} cannot build this case ({type(error).__name__}: {error})") from error
    return entry


def _fork(action: Callable[..., None], message: Message, requests: IO[bytes], replies: IO[str]) -> None:
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads do not survive it: they are not to
        child = os.fork()
    if child == 0:
        code = 1
        try:
            end_with_parent(parent)
            with suppress(OSError):  # where memory runs out, Linux ends this one and not whoever waits for it
                Path("/proc/self/oom_score_adj").write_text("1000")
            _answer(action, message, requests, replies)
            code = _ANSWERED
        finally:
            os._exit(code)  # no clean-up of what belongs to the parent
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != _ANSWERED:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended itself, with exit code {code}"
        status = "crashed" if code < 0 else "exited"
        _say(replies, {"error": f"the process that measured it {how}", "status": status})


def _answer(action: Callable[..., None], message: Message, requests: IO[bytes], replies: IO[str]) -> None:
    """Do it; what goes wrong is said: a mistake of the user's, a failure of the case, or a bug of bncli's."""
    try:
        action(message, requests, replies)
    except ConfigError as error:
        _say(replies, {"error": str(error), "status": "mistake"})
    except BncliError as error:
        _say(replies, {"error": str(error), "status": "wrong" if isinstance(error, WrongError) else "raised"})
    except (SystemExit, KeyboardInterrupt) as error:
        status = "exited" if isinstance(error, SystemExit) else "raised"
        _say(replies, {"error": f"it raised {quote_error(error)}", "status": status})
    except Exception as error:
        if is_foreign(str(message["case"].get("norm", ""))):
            _say(replies, {"error": f"it raised {quote_error(error)}", "status": "raised"})
        else:
            _say(replies, {"bug": traceback.format_exc()})


def _say(replies: IO[str], reply: Message) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
