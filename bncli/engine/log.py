"""What a job has measured so far, where its seconds go, which lanes diverged and in which layer first."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from bncli.engine.environment import JobMemory, environment, peak_memory
from bncli.engine.layers import NetworkLayer, outputs_of
from bncli.engine.network import Network
from bncli.optim import LOSSES
from bncli.plan import Job
from bncli.records import Record, RunInfo, RunResult

_NOT_FINITE = "the training loss is not finite"


class Log:
    """Records of every lane, and the step at which it diverged."""

    def __init__(self, job: Job, network: Network, loss: str, engine: str) -> None:
        self._job, self._network, self._engine = job, network, engine
        self._memory = JobMemory(job.runs[0].device)
        self._units = {"accuracy": "fraction", "loss": LOSSES[loss].unit}
        self._records: list[list[Record]] = [[] for _ in job.runs]
        self._diverged: list[tuple[int, str] | None] = [None for _ in job.runs]
        self._blamed: list[str] = ["" for _ in job.runs]
        self._last: dict[str, list[float]] = {}  # of the newest evaluation, by metric and lane

    def add(self, step: int, found: dict[str, Tensor], train_losses: Tensor | None) -> None:
        """Take one evaluation: `found` by metric, each (*lanes,); `train_losses` (steps since, *lanes)."""
        with torch.no_grad():
            columns = {metric: values.reshape(-1).tolist() for metric, values in found.items()}
            norms = {name: self._norms(p) for name, p in self._network.parameters.items()}
            trained = None if train_losses is None else train_losses.view(len(train_losses), -1).double().cpu()
        for lane, records in enumerate(self._records):
            if self._diverged[lane]:
                continue
            self._diverged[lane] = _divergence(step, lane, columns["loss"][lane], trained)
            if self._diverged[lane]:
                continue
            if trained is not None:
                records.append(Record("train_loss", step, trained[:, lane].mean().item(), self._units["loss"]))
            records += [Record(metric, step, v[lane], self._units[metric]) for metric, v in columns.items()]
            records += [Record("parameter_norm", step, v[lane], "L2", name) for name, v in norms.items()]
        self._last = {metric: columns[metric] for metric in ("accuracy", "loss") if metric in columns}

    def add_probe(self, found: Sequence[Sequence[Record]]) -> None:
        """Take what a probe measured, by lane; nothing of lanes that have diverged."""
        for records, lane, gone in zip(self._records, found, self._diverged, strict=True):
            if not gone:
                records.extend(lane)

    def _norms(self, parameter: Tensor) -> list[float]:
        flat = parameter.reshape(*self._network.lanes, -1) if self._network.lanes else parameter.reshape(1, -1)
        norms: list[float] = flat.norm(dim=-1).tolist()
        return norms

    def means(self) -> dict[str, float]:
        """Mean accuracy, where there are classes, and loss of the lanes that live."""
        return {metric: self._living(values) for metric, values in self._last.items()}

    def _living(self, values: Sequence[float]) -> float:
        living = [v for v, gone in zip(values, self._diverged, strict=True) if not gone]
        return sum(living) / len(living) if living else math.nan

    def blown_up_since(self, step: int) -> dict[int, list[int]]:
        """Steps after `step` whose training loss was not finite, and the lanes that diverged there."""
        found: dict[int, list[int]] = {}
        for lane, gone in enumerate(self._diverged):
            if gone and gone[0] > step and gone[1] == _NOT_FINITE:
                found.setdefault(gone[0], []).append(lane)
        return found

    def blame(self, lane: int, layer: str) -> None:
        """Take down which layer of a lane stopped being finite first."""
        self._blamed[lane] = layer

    def all_diverged(self) -> bool:
        """Whether no lane is worth training on."""
        return all(self._diverged)

    def state(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "records": [list(map(tuple, records)) for records in self._records],
            "diverged": self._diverged, "blamed": self._blamed, "last": self._last,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        records = [[Record(*record) for record in records] for records in state["records"]]
        diverged, blamed = (list(state[key]) for key in ("diverged", "blamed"))
        last = {metric: list(values) for metric, values in state["last"].items()}
        if {len(part) for part in (records, diverged, blamed, *last.values())} != {len(self._job.runs)}:
            raise ValueError("its log has another number of runs")
        self._records, self._diverged, self._blamed, self._last = records, diverged, blamed, last

    def results(self, step: int, seconds: Mapping[str, float], fallbacks: Sequence[str]) -> list[RunResult]:
        """How every run ended; a lane's seconds are its equal share of the job's."""
        count, batch = len(self._job.runs), self._job.runs[0].training.batch_size
        spent = seconds["training"] + seconds["data"]
        share = {kind: total / count for kind, total in seconds.items()}
        where, memory = environment(self._job.runs[0].device), peak_memory(self._job.runs[0].device)
        found = []
        for run, records, gone, layer in zip(self._job.runs, self._records, self._diverged, self._blamed, strict=True):
            info = RunInfo(
                id=run.id, status="diverged" if gone else "done", step=gone[0] if gone else step,
                reason=gone[1] if gone else "", layer=layer, engine=self._engine, fallbacks=tuple(fallbacks),
                parameters=self._network.size,
                seconds=share, samples_per_second=count * batch * step / spent if spent else 0.0,
                peak_memory=memory, job_memory=self._memory.peak() if count == 1 else 0, environment=where,
            )  # fmt: skip
            found.append(RunResult(run.spec(), info, tuple(records)))
        return found


def _divergence(step: int, lane: int, loss: float, trained: Tensor | None) -> tuple[int, str] | None:
    if trained is not None:
        bad = (~trained[:, lane].isfinite()).nonzero()
        if len(bad):
            return step - len(trained) + int(bad[0]) + 1, _NOT_FINITE
    if not math.isfinite(loss):
        return step, "the evaluation loss is not finite"
    return None


def first_overflows(network: Network, x: Tensor, *, clipped: bool = False) -> list[str]:
    """For each lane, the layer that makes a batch's loss infinite or NaN; "" where every layer is finite.

    A parameter that is not finite was made so by the step before: the gradient runs from the output to the input, so
    the last such layer overflowed first. Where all parameters are finite, an output is not: the first such layer.

    Args:
        network: with the weights that the step is taken from.
        x: (*lanes, N, features), the batch of the step.
        clipped: whether gradients are clipped by their common norm, which spreads one NaN over all of them: then
            nothing is said where parameters are not finite.
    """
    layers = network.layers(x[0] if network.lanes else x)
    names = {module for layer in layers for module in _modules(layer)}
    outputs = network.watch(x, lambda model: outputs_of(model, names), shared=False)
    count = len(x) if network.lanes else 1
    blamed = [""] * count
    for layer in reversed(layers):  # so that the first in order has the last word
        for lane in _not_finite([outputs[module] for module in _modules(layer)], count):
            blamed[lane] = layer.name
    for layer in layers:  # and here the last
        for lane in _not_finite([network.parameters[name] for name in layer.parameters], count):
            blamed[lane] = "" if clipped else layer.name
    return blamed


def _modules(layer: NetworkLayer) -> list[str]:
    return [name for name in (layer.name, layer.norm, layer.activation) if name]


def _not_finite(tensors: list[Tensor], lanes: int) -> set[int]:
    """The lanes in which some tensor (*lanes, ...) has a value that is not finite."""
    bad = [(~torch.isfinite(tensor.detach())).reshape(lanes, -1).any(-1) for tensor in tensors]
    return {lane for each in bad for lane in each.nonzero().flatten().tolist()}


T = TypeVar("T")
KINDS = ("start", "training", "evaluation", "data", "checkpointing", "compilation", "probing")


class Stopwatch:
    """Seconds of each kind; of two that nest, a second counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(KINDS, 0.0)

    @contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """Charge what happens inside to `kind`."""
        start, others = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            nested = sum(self.seconds.values()) - others
            self.seconds[kind] += time.perf_counter() - start - nested

    def each(self, kind: str, items: Iterable[T]) -> Iterator[T]:
        """`items`, with the making of each charged to `kind`."""
        source = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.seconds[kind] += time.perf_counter() - start
            yield item
