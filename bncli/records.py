"""What a run leaves behind: numbers measured once, and how the run ended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Literal

Status = Literal["done", "diverged", "failed", "timed out"]


@dataclass(frozen=True)
class Record:
    """One number measured once.

    Quantities: `accuracy` (fraction of the evaluation split), `loss` (mean over the evaluation split),
    `train_loss` (mean over the steps since the evaluation before), `parameter_norm` (L2, of the parameter `layer`).

    Of probes: a metric of the whole layer by its name; of a metric of units `METRIC:mean`, `:median` and `:p90` over
    units; `METRIC:null`, what it says of two samples of one distribution; `percentile_15:median` and, of single units,
    `percentile_15:unit 0`, likewise 50 and 85. `layer` is then `LAYER/PLACE`, or the layer alone.
    """

    quantity: str
    step: int  # training steps taken when it was measured; 0 is before training
    value: float
    unit: str
    layer: str = ""  # "" is the whole network


@dataclass(frozen=True)
class RunInfo:
    """How one run ended and where it was made."""

    id: str
    status: Status
    step: int  # the last step trained; for a diverged run the first step whose loss was not finite
    reason: str = ""  # why it failed or diverged, in words
    layer: str = ""  # of a diverged run, the layer that stopped being finite first; empty where none was seen to
    engine: str = ""  # the path that trained it: "5 lanes (vmap)" or "plain"
    parameters: int = 0  # trainable numbers in the network
    # this run's share of: start (reading the data set, building the network), training, evaluation, data (drawing and
    # gathering batches), checkpointing, compilation, probing
    seconds: Mapping[str, float] = field(default_factory=dict)
    samples_per_second: float = 0.0  # training examples through its job, all lanes together, data counted in
    peak_memory: int = 0  # bytes: of its worker process, or of the GPU; 0 is unknown
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_numbers(self) -> bool:
        """Whether it trained to its end or diverged: what it measured is a result, and is stored."""
        return self.status in ("done", "diverged")


@dataclass(frozen=True)
class Layout:
    """Which curves a run measured, and at which steps: runs of one study share it."""

    keys: tuple[tuple[str, str, str], ...]  # (quantity, layer, unit) of each curve
    steps: tuple[tuple[int, ...], ...]  # of each curve, ascending

    @cached_property
    def places(self) -> Mapping[tuple[str, str], tuple[list[int], int, int]]:
        """By quantity and layer: the steps, and from where to where a run's values are the curve's."""
        ends = [0, *accumulate(map(len, self.steps))]
        parts = zip(self.keys, self.steps, pairwise(ends), strict=True)
        return {(quantity, layer): (list(steps), a, b) for (quantity, layer, _), steps, (a, b) in parts}


class Packed(Sequence[Record]):
    """Records kept as curves: a run's values (an array) curve after curve, and the layout that it shares."""

    def __init__(self, layout: Layout, values: Any) -> None:
        self.layout, self.values = layout, values

    def curve(self, quantity: str, layer: str) -> tuple[list[int], list[float]]:
        """Steps and values of one quantity, in order of steps."""
        steps, start, end = self.layout.places.get((quantity, layer), ([], 0, 0))
        return steps.copy(), self.values[start:end].tolist()

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]

    def __iter__(self) -> Iterator[Record]:
        for quantity, layer, unit in self.layout.keys:
            for step, value in zip(*self.curve(quantity, layer), strict=True):
                yield Record(quantity, step, value, unit, layer)


@dataclass(frozen=True)
class RunResult:
    """A finished run: what determined its numbers (`spec`), how it ended, what it measured."""

    spec: Mapping[str, Any]
    info: RunInfo
    records: Sequence[Record] = ()

    def curve(self, quantity: str, layer: str = "") -> tuple[list[int], list[float]]:
        """Steps and values of one quantity, in order of steps."""
        if isinstance(self.records, Packed):
            return self.records.curve(quantity, layer)
        found = [(r.step, r.value) for r in self.records if r.quantity == quantity and r.layer == layer]
        found.sort()
        return [step for step, _ in found], [value for _, value in found]


@dataclass(frozen=True)
class StudyRun:
    """One run of a study, with what the study calls it."""

    variant: str
    setting: Mapping[str, Any]  # the swept values
    seed: int
    id: str
    result: RunResult | None  # None if it was not trained
