"""Checks in processes of their own: one that may hang, print or end its process, and training in two at once."""

import copy
import gc
import io
import json
import os
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from bncli.norms.contract.candidates import Candidate, first_line, step
from bncli.norms.contract.neighbours import prefix


@dataclass(frozen=True)
class Ended:
    """How a task ended that ran in a process of its own."""

    how: Literal["done", "late", "gone"]
    value: Any = None  # what the task gave, as JSON has it; where it is gone, how its process ended, in words
    printed: str = ""  # by Python's print


def run_apart(task: Callable[[], Any], seconds: float) -> Ended:
    """Run a task in a fork of this process, with one thread, no input and nowhere to print; ended after `seconds`.

    Where nothing forks (Windows), it runs in this process, without a limit.
    """
    if not hasattr(os, "fork"):
        with redirect_stdout(io.StringIO()) as printed:
            try:
                return Ended("done", json.loads(json.dumps(task())), printed.getvalue())
            except SystemExit as error:
                return Ended("gone", f"it raised {first_line(error)}")
    answers, writing = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a process that may have threads; this fork has one
        child = os.fork()
    if child == 0:
        try:
            os.close(answers)
            _answer(task, writing)
        finally:
            os._exit(1)  # no clean-up of what belongs to the parent
    os.close(writing)
    try:
        line = _read_line(answers, time.monotonic() + seconds)
        if line is None:
            return Ended("late")
        if line.endswith(b"\n"):
            return Ended(**json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended itself, with exit code {code}"
        return Ended("gone", f"its process {how}")
    finally:
        os.close(answers)
        if child:
            _end(child)


def _answer(task: Callable[[], Any], writing: int) -> None:
    """Do the task and write how it ended as one line."""
    os.setsid()  # so that whatever it starts can be ended with it
    with suppress(OSError):  # where memory runs out, Linux ends this one and not whoever waits for it
        Path("/proc/self/oom_score_adj").write_text("1000")
    gc.freeze()  # what is there by now no collection visits, and so copies
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()) as printed:
        try:
            ended = {"how": "done", "value": task()}
        except BaseException as error:  # SystemExit too
            ended = {"how": "gone", "value": f"it raised {first_line(error)}"}
    line = json.dumps({**ended, "printed": printed.getvalue()[:1000]}) + "\n"
    with os.fdopen(writing, "wb") as file:
        file.write(line.encode())
    os._exit(0)


def _read_line(pipe: int, until: float) -> bytes | None:
    """What comes up to the end of a line or of the pipe; None if neither has come in time."""
    found = b""
    while not found.endswith(b"\n"):
        if not select.select([pipe], [], [], max(until - time.monotonic(), 0))[0]:
            return None
        part = os.read(pipe, 2**16)
        if not part:
            break
        found += part
    return found


def _end(child: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # with what it has started
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # which may not lead its group yet
    os.waitpid(child, 0)


def train_in_two_processes(candidates: Mapping[str, Candidate]) -> dict[str, str]:
    """Each norm in `DistributedDataParallel` on two processes of this machine: what went wrong, by name.

    Gradients are the mean of both processes' own, or those of one process on both batches together; what evaluation
    needs is the first process's in both, or that of the batches together.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        processes = [
            context.Process(target=_take_part, args=(rank, f"{folder}/store", candidates, queue)) for rank in range(2)
        ]
        for process in processes:
            process.start()
        found = queue.get(), queue.get()
        for process in processes:
            process.join()
    return {**found[0], **found[1]}


def _take_part(rank: int, rendezvous: str, candidates: Mapping[str, Candidate], queue: object) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    networks, alone, wrong = {}, {}, {}
    for each, candidate in candidates.items():
        try:
            torch.manual_seed(0)
            network = nn.Sequential(nn.Conv2d(candidate.channels, candidate.channels, 1), candidate.settled())
            networks[each], alone[each] = network, _train_alone(candidate, network)
        except Exception as error:
            wrong[each] = first_line(error)
    init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    for each, twins in alone.items():
        try:
            _train_distributed(candidates[each], rank, networks[each], twins)
        except Exception as error:
            wrong[each] = first_line(error)
    destroy_process_group()
    queue.put(wrong)  # type: ignore[attr-defined]


def _train_alone(candidate: Candidate, network: nn.Module) -> list[nn.Module]:
    """Copies that have seen the batch of the first process, that of the second, and both as one batch."""
    both = [candidate.images(rank) for rank in range(2)]
    weights = torch.randn(both[0].shape, generator=torch.Generator().manual_seed(4))  # of `step`, for each batch
    twins = []
    for x, gy in ((both[0], weights), (both[1], weights), (torch.cat(both), torch.cat([weights, weights]) / 2)):
        twins.append(copy.deepcopy(network))
        step(twins[-1], [twins[-1]], x, gy)
    return twins


def _train_distributed(candidate: Candidate, rank: int, network: nn.Module, alone: list[nn.Module]) -> None:
    wrapped = DistributedDataParallel(network, find_unused_parameters=True)
    step(wrapped, [], candidate.images(rank))
    first, second, union = alone
    gradients = [[p.grad for p in each.parameters()] for each in (network, first, second, union)]
    for (key, _), found, *own, whole in zip(network.named_parameters(), *gradients, strict=True):
        there = [gradient for gradient in own if gradient is not None]
        if there and not (whole is not None and torch.allclose(found, whole, rtol=1e-3, atol=1e-4)):
            assert_close(found, torch.stack(there).mean(0), rtol=1e-3, atol=1e-4, msg=prefix(key))
    network.eval()
    network(candidate.images())
    with torch.no_grad():
        y = wrapped(
            candidate.images()
        )  # which gives all processes the first one's buffers, in a way that no version counts
    for buffer, wanted, whole in zip(network.buffers(), first.buffers(), union.buffers(), strict=True):
        if not torch.allclose(buffer, whole):
            assert_close(buffer, wanted)
    assert_close(y, copy.deepcopy(network)(candidate.images()), rtol=0, atol=0)
