"""What a run leaves behind: numbers measured once, and how the run ended."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

Status = Literal["done", "diverged", "failed", "timed out"]


# metrics that are three: the 15th, 50th and 85th percentile of a unit over examples (Ioffe & Szegedy 2015, figure 1)
PERCENTILES = ("percentile_15", "percentile_50", "percentile_85")


class CurveKey(NamedTuple):
    """What a number is of: numbers of a run that share it are one curve over steps."""

    metric: str
    layer: str = ""  # "" is the whole network
    place: str = ""  # where in the layer: "layer" behind itself, "norm", "activation"; "" where that says nothing
    statistic: str = ""  # over units: "mean", "median", "p90"; "null": what noise alone makes of the mean; "" is none
    # of the single unit that it is of, or of the null draw where there are several; hides tuple.index
    index: int | None = None  # type: ignore[assignment]


class Record(NamedTuple):  # of all frozen data the one made by the hundred thousand: a tuple is made four times as fast
    """One number measured once.

    Metrics: `accuracy` (fraction of the evaluation split), `loss` (mean over the evaluation split), `train_loss` (mean
    over the steps since the evaluation before), `parameter_norm` (L2, of the parameter `layer`); and those of probes.
    Of a metric of units there are the mean, the median and the 90th percentile over units; of one of the whole layer
    the number itself, without a statistic; of those that compare two samples also what they say of two samples of one
    distribution (`null`, each draw by its index where there are several). `PERCENTILES` have their median over units
    and, where single units are asked for, each by its index.
    """

    metric: str
    step: int  # training steps taken when it was measured; 0 is before training
    value: float
    unit: str  # of measure
    layer: str = ""  # this and what follows: as in `CurveKey`
    place: str = ""
    statistic: str = ""
    index: int | None = None  # type: ignore[assignment]  # hides tuple.index

    @property
    def key(self) -> CurveKey:
        """The curve that it belongs to."""
        return CurveKey(self.metric, self.layer, self.place, self.statistic, self.index)


@dataclass(frozen=True)
class RunInfo:
    """How one run ended and where it was made."""

    id: str
    status: Status
    step: int  # the last step trained; for a diverged run the first step whose loss was not finite
    reason: str = ""  # why it failed or diverged, in words
    layer: str = ""  # of a diverged run, the layer that stopped being finite first; empty where none was seen to
    engine: str = ""  # the path that trained it: "5 lanes (vmap)" or "plain"
    fallbacks: tuple[str, ...] = ()  # where another path was taken than was asked for, and why, a sentence each
    parameters: int = 0  # trainable numbers in the network
    # this run's share of: start (reading the data set, building the network), training, evaluation, data (drawing and
    # gathering batches), checkpointing, compilation, probing
    seconds: Mapping[str, float] = field(default_factory=dict)
    samples_per_second: float = 0.0  # training examples through its job, all lanes together, data counted in
    peak_memory: int = 0  # bytes: of its worker process, or of the GPU, since that began; 0 is unknown
    job_memory: int = 0  # bytes: the same, while this run was trained; 0 is unknown, and of several runs at once
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_numbers(self) -> bool:
        """Whether it trained to its end or diverged: what it measured is a result, and is stored."""
        return self.status in ("done", "diverged")

    def __post_init__(self) -> None:
        object.__setattr__(self, "fallbacks", tuple(self.fallbacks))  # JSON gives a list


@dataclass(frozen=True)
class Layout:
    """Which curves a run measured, and at which steps: runs of one study share it."""

    keys: tuple[CurveKey, ...]
    units: tuple[str, ...]  # of measure, of each curve
    steps: tuple[tuple[int, ...], ...]  # of each curve, ascending

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.keys, self.units, self.steps))

    @cached_property
    def places(self) -> Mapping[tuple[str, str, str, str, int | None], tuple[list[int], int, int]]:
        """By curve: the steps, and from where to where a run's values are the curve's."""
        ends = [0, *accumulate(map(len, self.steps))]
        parts = zip(self.keys, self.steps, pairwise(ends), strict=True)
        return {key: (list(steps), a, b) for key, steps, (a, b) in parts}

    @cached_property
    def size(self) -> int:
        """How many numbers a run has."""
        return sum(map(len, self.steps))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of everything that was measured, in that order."""
        return tuple(dict.fromkeys(key.metric for key in self.keys))


class Packed(Sequence[Record]):
    """Records kept as curves: a run's values (an array) curve after curve, and the layout that it shares."""

    def __init__(self, layout: Layout, values: Any) -> None:
        self.layout, self.values = layout, values

    def curve(self, key: tuple[str, str, str, str, int | None]) -> tuple[list[int], list[float]]:
        """Steps and values of one curve, in order of steps."""
        steps, start, end = self.layout.places.get(key, ([], 0, 0))
        return steps.copy(), self.values[start:end].tolist()

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]

    def __iter__(self) -> Iterator[Record]:
        for key, unit in zip(self.layout.keys, self.layout.units, strict=True):
            for step, value in zip(*self.curve(key), strict=True):
                yield Record(key.metric, step, value, unit, *key[1:])


@dataclass(frozen=True)
class RunResult:
    """A finished run: what determined its numbers (`spec`), how it ended, what it measured."""

    spec: Mapping[str, Any]
    info: RunInfo
    records: Sequence[Record] = ()

    @property
    def budget(self) -> int | None:
        """Steps that it was allowed to train; None of a task without an option `steps`."""
        steps = self.spec.get("stop", (self.spec.get("training") or self.spec.get("task") or {}).get("steps"))
        return steps if type(steps) is int else None

    def metrics(self) -> list[str]:
        """Names of everything that was measured, in that order."""
        if isinstance(self.records, Packed):
            return [*self.records.layout.metrics]
        return list(dict.fromkeys(record.metric for record in self.records))

    def keys(self, metric: str) -> list[CurveKey]:
        """The curves that there are of a metric, in the order in which they were first measured."""
        if isinstance(self.records, Packed):
            return [key for key in self.records.layout.keys if key.metric == metric]
        return list(dict.fromkeys(r.key for r in self.records if r.metric == metric))

    def steps(self, metric: str) -> Sequence[int]:
        """When a metric of the whole network was measured, in order."""
        if isinstance(self.records, Packed):
            return self.records.layout.places.get(CurveKey(metric), ([], 0, 0))[0]
        return self.curve(metric)[0]

    def unit(self, key: CurveKey) -> str:
        """The unit of one curve; empty where it was not measured."""
        if isinstance(self.records, Packed):
            return dict(zip(self.records.layout.keys, self.records.layout.units, strict=True)).get(key, "")
        return next((record.unit for record in self.records if record.key == key), "")

    def curve(
        self, metric: str, layer: str = "", place: str = "", statistic: str = "", index: int | None = None
    ) -> tuple[list[int], list[float]]:
        """Steps and values of one curve, in order of steps; `curve(*key)` for one of `keys`."""
        if isinstance(self.records, Packed):
            return self.records.curve((metric, layer, place, statistic, index))
        key = CurveKey(metric, layer, place, statistic, index)
        found = [(r.step, r.value) for r in self.records if r.layer == layer and r.metric == metric and r.key == key]
        found.sort()
        return [step for step, _ in found], [value for _, value in found]


def read_run_document(run: Mapping[str, Any]) -> RunResult:
    """What a run in a document of findings was; a number that was not finite, and is null there, is infinite.

    Raises:
        Exception: whatever comes of a document that does not say it.
    """
    records = [
        Record(key.metric, step, math.inf if value is None else value, curve["unit"], *key[1:])
        for curve in run["curves"]
        for key in [CurveKey(*(curve[field] for field in CurveKey._fields))]
        for step, value in zip(curve["steps"], curve["values"], strict=True)
    ]
    return RunResult(run["spec"], RunInfo(**run["info"]), records)


@dataclass(frozen=True)
class StudyRun:
    """One run of a study, with what the study calls it."""

    variant: str
    setting: Mapping[str, Any]  # the swept values
    seed: int
    id: str
    result: RunResult | None  # None if it was not trained


def group_arms(runs: Iterable[StudyRun]) -> list[tuple[str, Mapping[str, Any], dict[int, RunResult]]]:
    """(variant, setting, results by seed) for every arm, in the order of the runs; one that has no result has none."""
    arms: dict[tuple[str, str], tuple[str, Mapping[str, Any], dict[int, RunResult]]] = {}
    for run in runs:
        arm = arms.setdefault((run.variant, repr(run.setting)), (run.variant, run.setting, {}))
        if run.result is not None:
            arm[2][run.seed] = run.result
    return list(arms.values())
