"""The clocks; a GPU's with stand-ins for torch.cuda, which takes down what is asked of it and in what order."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from bncli.errors import BncliError
from bncli.timing import clock
from bncli.timing.clock import CudaClock, ProcessClock, WallClock, choose_clock


class Cuda:
    """Says what happens, and lets every event pass 2 ms later than the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.did: list[str] = []
        self.refuses = False
        cuda, events = self, iter(range(100))

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                self.number = next(events)

            def record(self) -> None:
                cuda.did.append("record")

            def elapsed_time(self, end: Any) -> float:
                return 2.0 * (end.number - self.number)

        class Stream:
            def wait_stream(self, other: Any) -> None:
                cuda.did.append("wait")

        class Graph:
            def replay(self) -> None:
                cuda.did.append("replay")

        @contextmanager
        def graph(made: Graph, stream: Any) -> Iterator[None]:
            cuda.did.append("capture")
            yield
            if cuda.refuses:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
            cuda.did.append("captured")

        for name, value in {
            "Event": Event, "Stream": Stream, "CUDAGraph": Graph, "graph": graph,
            "synchronize": lambda: cuda.did.append("synchronize"), "current_stream": Stream,
            "set_stream": lambda stream: cuda.did.append("set stream"),
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)

    def call(self, argument: str) -> None:
        self.did.append(argument)


def test_a_gpu_is_timed_by_events_around_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    assert choose_clock("cuda", 1).time_chunk(cuda.call, [("a",), ("b",)]) == 2e-3
    assert cuda.did == ["synchronize", "record", "a", "b", "record", "synchronize"]


def test_a_graph_is_captured_on_a_stream_of_its_own_and_its_replay_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    clock = choose_clock("cuda", 1, graph=True)
    assert cuda.did == ["wait", "set stream"]
    cuda.did.clear()
    assert clock.time_chunk(cuda.call, [("a",), ("b",)]) == 2e-3
    warm_up, capture = ["a", "synchronize"], ["capture", "a", "b", "captured", "replay"]
    assert cuda.did == [*warm_up, *capture, "synchronize", "record", "replay", "record", "synchronize"]


def test_what_cannot_be_captured_is_one_line_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    cuda.refuses = True
    with pytest.raises(BncliError) as caught:
        CudaClock(graph=True).time_chunk(cuda.call, [("a",)])
    assert str(caught.value) == (
        "cannot be captured in a CUDA graph (operation not permitted when stream is capturing); leave --graph out, or"
        " --skip it"
    )


def test_a_kernel_is_charged_for_threads_of_its_own() -> None:
    def spin() -> None:
        while time.thread_time() < 0.02:
            pass

    def kernel() -> None:
        thread = threading.Thread(target=spin)
        thread.start()
        thread.join()

    assert ProcessClock().time_chunk(kernel, [()]) >= 0.02


def test_a_clock_that_stood_still_gives_way_to_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    walls = iter([3.0, 5.0])
    monkeypatch.setattr(clock, "process_time", lambda: 1.0)
    monkeypatch.setattr(clock, "perf_counter", lambda: next(walls))
    assert ProcessClock().time_chunk(lambda: None, [()]) == 2.0


def test_one_thread_is_timed_by_its_processor_time() -> None:
    assert isinstance(choose_clock("cpu", 1), ProcessClock)
    assert isinstance(choose_clock("cpu", 2), WallClock)
