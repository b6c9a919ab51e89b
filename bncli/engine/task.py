"""One run of a loop that is somebody's own: it is given a norm and a seed, and what it yields becomes records."""

import inspect
import json
import math
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from operator import index
from pathlib import Path
from types import GeneratorType
from typing import Any

import numpy as np
import torch
from torch import nn

from bncli.code_hash import fingerprint
from bncli.engine.environment import JobMemory, environment
from bncli.engine.state import globals_kept
from bncli.engine.train import Report, Sign
from bncli.errors import ConfigError, as_line, first_line
from bncli.files import CHECKPOINT_BYTES, read_bytes
from bncli.norms import NORMS
from bncli.norms.replace import NormFactory, factory, replace_norms
from bncli.plan import Job, Run
from bncli.records import Record, RunInfo, RunResult
from bncli.tasks import TASKS

MOST_NUMBERS = 1_000_000  # of a run: what a store takes without ado
SIGN_SECONDS = 0.25  # between signs of life, of a loop that yields at every step
EXAMPLE = 'yield {"step": 100, "accuracy": 0.81}'
_NAME = re.compile(r"[A-Za-z][\w./-]*")  # of a metric
Yielded = tuple[int, dict[str, float]]


class TaskRun:
    """What the function of a task is given as its first argument."""

    def __init__(self, run: Run, checkpoint: Path) -> None:
        assert run.task
        self.variant = run.variant  # as the study calls it
        self.seed = run.seed  # random, numpy and torch are seeded by it already
        self.settings: Mapping[str, Any] = dict(run.task.options)  # the options, by name
        self.device = run.device  # "cpu", "cuda" or "mps"
        self.checkpoint = checkpoint  # a folder of the run's own, where the run finds it again if its worker is killed
        self._norm = run.norm

    @property
    def norm(self) -> NormFactory:
        """The variant's norm as a function of the channels: `run.norm(64)` is a module of (N, 64, ...).

        Raises:
            ConfigError: for a norm that acts on the weights of layers.
        """
        name = self._norm.name
        if NORMS[name].side == "weight":
            raise ConfigError(
                f"norm {name!r} acts on the weights of layers; build the model with batch norm, then"
                " model = run.replace_norms(model)"
            )
        return factory(name, **self._norm.options)

    def replace_norms(self, model: nn.Module, **how: Any) -> nn.Module:
        """A copy of the model with the variant's norm in the place of its norms, as `bncli.replace_norms` makes it.

        Args:
            model: with norms; the optimiser is to be made after.
            how: inputs, where, inplace, strict, adapters, and options of the norm.
        """
        options = NORMS.changed(self._norm.name, self._norm.options)  # the others stay as the old norm has them
        return replace_norms(model, self._norm.name, **{**options, **how})[0]


class _LoopError(Exception):
    """Why a run has failed, in words."""


def train_task(job: Job, report: Report = lambda sign: None, checkpoints: Path | None = None) -> list[RunResult]:
    """Run the loop of one job to its end, and return what it yielded.

    Whatever the loop raises or yields amiss is the reason why its run has failed; a number that is not finite ends it
    as diverged. Python's, numpy's and torch's global generators are seeded by the run's seed and put back.

    Args:
        job: of one run.
        report: called with signs of life.
        checkpoints: the job's folder, where what the loop keeps and what it has yielded outlive a killed worker.
    """
    (run,) = job.runs
    with _folder(checkpoints) as folder, globals_kept():
        random.seed(run.seed)
        np.random.seed(run.seed % 2**32)
        torch.manual_seed(run.seed)
        loop = _OwnLoop(run, folder)
        try:
            loop.run(report)
        except _LoopError as mistake:
            return [RunResult(run.spec(), RunInfo(run.id, "failed", max(loop.step, 0), as_line(str(mistake))))]
        finally:
            loop.close()
        return [loop.result()]


class _OwnLoop:
    """A run's loop at one step, and what it has yielded."""

    def __init__(self, run: Run, folder: Path) -> None:
        assert run.task
        self._run, self._options = run, run.task.options
        self._earlier = _Earlier(folder / "yielded.jsonl")
        self._given = TaskRun(run, folder / "own")
        self._given.checkpoint.mkdir(parents=True, exist_ok=True)
        self._begun = time.perf_counter()
        self._function: Callable[..., Any] = TASKS.load(run.task.name)
        self._start = time.perf_counter() - self._begun
        self._seconds, self._memory = 0.0, JobMemory(run.device)
        self._loop: Any = None
        self._numbers: list[tuple[int, dict[str, float]]] = []
        self._diverged = ""
        self.step = -1

    def run(self, report: Report) -> None:
        """Take all that the loop yields.

        Raises:
            _LoopError: if it raises, yields something else, or nothing.
        """
        self._loop, count, told = self._call(lambda: self._function(self._given, **self._options)), 0, -math.inf
        if not isinstance(self._loop, Iterator):
            raise _LoopError(
                f"{self._place()}: {self._run_name()} gave {_short(self._loop)}, expected a generator: {EXAMPLE}"
            )
        while (yielded := self._call(lambda: next(self._loop, _END))) is not _END:
            try:
                step, found = read_yielded(yielded, self.step)
            except ValueError as error:
                raise _LoopError(f"{self._place()}: {error}") from None
            if self.step < 0:
                self._numbers, earlier = self._earlier.before(step)
                self._seconds, count = self._seconds + earlier, sum(len(each) for _, each in self._numbers)
            self.step, count = step, count + len(found)
            if count > MOST_NUMBERS:
                raise _LoopError(f"{self._place()}: yielded more than {MOST_NUMBERS:,} numbers; yield less often")
            if bad := next((metric for metric, value in found.items() if not math.isfinite(value)), ""):
                self._diverged = f"{bad} is {found[bad]} ({self._place()})"
                break
            self._numbers.append((step, found))
            self._earlier.add(step, self._seconds, found)
            if time.monotonic() - told >= SIGN_SECONDS:
                report(Sign(step, found, None))
                told = time.monotonic()
        if self.step < 0:
            self._numbers, self._seconds = self._earlier.before(None)
            if not self._numbers:
                raise _LoopError(f"{self._place()}: {self._run_name()} ended without yielding anything; {EXAMPLE}")
            self.step = self._numbers[-1][0]

    def result(self) -> RunResult:
        """What it leaves behind."""
        info = RunInfo(
            self._run.id, "diverged" if self._diverged else "done", self.step, self._diverged, engine="task",
            seconds={"start": self._start, "training": self._seconds}, peak_memory=(memory := self._memory.peak()),
            job_memory=memory, environment=environment(self._run.device),
        )  # fmt: skip
        units = {"accuracy": "fraction"}
        numbers = [(metric, step, value) for step, found in self._numbers for metric, value in found.items()]
        return RunResult(self._run.spec(), info, tuple(Record(*each, units.get(each[0], "")) for each in numbers))

    def close(self) -> None:
        """Let the loop tidy up where it has not ended by itself."""
        with suppress(Exception):
            getattr(self._loop, "close", lambda: None)()

    def _call(self, part: Callable[[], Any]) -> Any:
        """Anybody's code for one stretch, its seconds counted.

        Raises:
            _LoopError: for whatever it raises.
        """
        begun = time.perf_counter()
        try:
            return part()
        except BaseException as error:  # sys.exit as well: it is this run's end, and no other's
            raise _LoopError(f"{first_line(error, 300)}{self._line_of(error)}") from error
        finally:
            self._seconds += time.perf_counter() - begun

    def _run_name(self) -> str:
        return getattr(self._function, "__name__", type(self._function).__name__)

    def _code(self) -> Any:
        return getattr(inspect.unwrap(self._function), "__code__", None)

    def _place(self) -> str:
        """Where the loop stands: "loop.py:12"."""
        frame = self._loop.gi_frame if isinstance(self._loop, GeneratorType) else None
        if frame:
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        code = self._code()
        return f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code else self._run.task.name  # type: ignore[union-attr]

    def _line_of(self, error: BaseException) -> str:
        """Where in the loop's own file an exception came from, else where at all: " (loop.py:12)"."""
        frames, trace = [], error.__traceback__
        while trace:
            frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
            trace = trace.tb_next
        code = self._code()
        own = [frame for frame in frames if code and frame[0] == code.co_filename]
        file, line = (own or frames)[-1]
        return f" ({Path(file).name}:{line})"


_END = object()


def read_yielded(given: object, last: int) -> Yielded:
    """A step and its numbers, of what a loop has yielded.

    Args:
        given: {"step": 100, "accuracy": 0.81}; numbers of Python, numpy, torch.
        last: the step before; -1 at first.

    Raises:
        ValueError: in words, if it is something else.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"yielded {_short(given)}, expected {EXAMPLE}")
    if "step" not in given:
        raise ValueError(f"yielded no step, only {', '.join(map(str, given)) or 'an empty dict'}; expected {EXAMPLE}")
    try:
        step = -1 if isinstance(given["step"], bool) else index(given["step"])
    except TypeError:
        step = -1
    if step < 0:
        raise ValueError(f"a step must be a whole number, 0 or more, got {_short(given['step'])}")
    if step <= last:
        raise ValueError(f"steps must ascend: yielded step {step:,} after step {last:,}")
    found = {}
    for metric, value in given.items():
        if metric == "step":
            continue
        if not isinstance(metric, str) or not _NAME.fullmatch(metric):
            raise ValueError(f"a metric's name must be letters, digits and _ . / - only, got {metric!r:.60}")
        number = _number(value)
        if number is None:
            raise ValueError(f"{metric} at step {step:,} must be one number, got {_short(value)}")
        if metric == "accuracy" and math.isfinite(number) and not 0 <= number <= 1:
            raise ValueError(
                f"accuracy at step {step:,} must be a fraction, 0 to 1, got {number:g}; divide it by 100, or call it"
                " something else"
            )
        found[metric] = number
    if not found:
        raise ValueError(f"yielded step {step:,} without a number; expected {EXAMPLE}")
    return step, found


def _number(value: Any) -> float | None:
    """One number of Python, numpy or torch; None for anything else."""
    with suppress(TypeError, ValueError, RuntimeError, OverflowError):
        value = value.detach() if isinstance(value, torch.Tensor) else value  # torch warns of a loss with its graph
        return None if isinstance(value, bool | str | bytes) else float(value)
    return None


class _Earlier:
    """What the same run yielded before its worker was killed: a line a yield, in a file beside the loop's own folder.

    A loop that goes on from a checkpoint of its own does not yield the steps before it again.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lines = self._read()

    def before(self, step: int | None) -> tuple[list[Yielded], float]:
        """What was yielded before a step (None: at all), and after how many seconds; the rest is forgotten."""
        kept = [each for each in self._lines if step is None or each[0] < step]
        self._place.write_text("".join(json.dumps(each) + "\n" for each in kept))
        return [(each[0], each[2]) for each in kept], kept[-1][1] if kept else 0.0

    def add(self, step: int, seconds: float, found: Mapping[str, float]) -> None:
        """Keep what was yielded now."""
        with self._place.open("a", encoding="utf-8") as file:
            file.write(json.dumps([step, seconds, found]) + "\n")

    def _read(self) -> list[tuple[int, float, dict[str, float]]]:
        """Up to the first line that is not whole."""
        lines: list[tuple[int, float, dict[str, float]]] = []
        with suppress(OSError, ValueError, TypeError):
            for text in read_bytes(self._place, CHECKPOINT_BYTES).decode().splitlines():
                step, seconds, found = json.loads(text)
                whole = read_yielded({**found, "step": step}, lines[-1][0] if lines else -1)
                if not all(map(math.isfinite, (float(seconds), *whole[1].values()))):
                    break
                lines.append((step, float(seconds), whole[1]))
        return lines


@contextmanager
def _folder(checkpoints: Path | None) -> Iterator[Path]:
    """A folder for what a run keeps, one for each state of bncli's code; where there is none, one that goes after."""
    if checkpoints is None:
        with tempfile.TemporaryDirectory(prefix="bncli-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    folder = checkpoints / f"task-{fingerprint()}"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def _short(value: object) -> str:
    shape = getattr(value, "shape", None)
    text = repr(value)
    return (
        f"a {type(value).__name__} of shape {tuple(shape)}" if shape else text if len(text) <= 60 else text[:57] + "..."
    )
