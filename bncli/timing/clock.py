"""What tells the time: the wall, the process's processor time, or a GPU's events; tests turn one by hand."""

from collections.abc import Callable, Sequence
from time import perf_counter, process_time  # by name: a kernel that changes `time` changes no clock of ours
from typing import Any, Protocol

import torch

from bncli.errors import BncliError

Call = Callable[..., object]
Arguments = tuple[Any, ...]


class Clock(Protocol):
    """Seconds, of the wall for budgets, and of chunks of calls."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def time_chunk(self, call: Call, sets: Sequence[Arguments]) -> float:
        """Seconds from the first to the last of `call(*arguments)`, once for each of `sets`."""
        ...


class WallClock:
    """The wall's clock: right for work of several threads that is done when the call returns."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return perf_counter()

    def time_chunk(self, call: Call, sets: Sequence[Arguments]) -> float:
        """See Clock."""
        start = perf_counter()
        for arguments in sets:
            call(*arguments)
        return perf_counter() - start


class ProcessClock:
    """The processor time of this process: right for work of one thread, also where other processes want its core.

    A kernel that starts threads of its own is charged for all of them. On a virtual machine this clock has been seen to
    stand still over a chunk of 0.15 ms, once in some millions: such a chunk counts by the wall's.

    The wall's clock counts the others' turns as well, and they can beat in time with blocks: with three busy processes
    on two cores, one process measured the ratio of equal calls at 1.5 and another at 0.7, each to within 4 %.
    """

    def now(self) -> float:
        """Seconds of the wall, which budgets are in."""
        return perf_counter()

    def time_chunk(self, call: Call, sets: Sequence[Arguments]) -> float:
        """See Clock."""
        wall, start = perf_counter(), process_time()
        for arguments in sets:
            call(*arguments)
        return (process_time() - start) or (perf_counter() - wall)


class CudaClock:
    """Events on the current CUDA stream.

    Args:
        graph: capture the calls into a CUDA graph and time its replay, so that launches cost nothing: the kernels
            alone, with their arguments where the replay that uploads the graph has left them. From then on this process
            works on a stream of its own, because a capture takes no other, and the backward pass of a graph runs on the
            stream of its forward pass: arguments are to be made afterwards.
    """

    def __init__(self, graph: bool = False) -> None:
        self.graph = graph
        if graph:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            torch.cuda.set_stream(side)

    def now(self) -> float:
        """Seconds of the monotonic clock, once the GPU has done what it was given."""
        torch.cuda.synchronize()
        return perf_counter()

    def time_chunk(self, call: Call, sets: Sequence[Arguments]) -> float:
        """See Clock.

        Raises:
            BncliError: for calls that cannot be captured: they synchronise, or work on the host.
        """
        run = self._capture(call, sets) if self.graph else lambda: _call_all(call, sets)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1000  # elapsed_time is in milliseconds

    def _capture(self, call: Call, sets: Sequence[Arguments]) -> Callable[[], None]:
        call(*sets[0])  # what a library does at its first call cannot be captured
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
                _call_all(call, sets)
        except RuntimeError as error:
            why = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise BncliError(f"cannot be captured in a CUDA graph ({why}); leave --graph out, or --skip it") from None
        graph.replay()  # the first replay uploads the graph
        return graph.replay


def choose_clock(device: str, threads: int, *, graph: bool = False) -> Clock:
    """The clock that cases are timed by: processor time for one thread, which other programs cannot lengthen."""
    if device == "cuda":
        return CudaClock(graph)
    return ProcessClock() if threads == 1 else WallClock()


def _call_all(call: Call, sets: Sequence[Arguments]) -> None:
    for arguments in sets:
        call(*arguments)
