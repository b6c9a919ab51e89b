"""What a run leaves behind: numbers measured once, and how the run ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["done", "diverged", "failed"]


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
    engine: str = ""  # the path that trained it: "5 lanes (vmap)" or "plain"
    parameters: int = 0  # trainable numbers in the network
    # this run's share of: start (reading the data set, building the network), training, evaluation, data (drawing and
    # gathering batches), checkpointing, compilation, probing
    seconds: Mapping[str, float] = field(default_factory=dict)
    samples_per_second: float = 0.0  # training examples through its job, all lanes together, data counted in
    peak_memory: int = 0  # bytes: of its worker process, or of the GPU; 0 is unknown
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """A finished run: what determined its numbers (`spec`), how it ended, what it measured."""

    spec: Mapping[str, Any]
    info: RunInfo
    records: tuple[Record, ...] = ()

    def curve(self, quantity: str, layer: str = "") -> tuple[list[int], list[float]]:
        """Steps and values of one quantity, in order of steps."""
        found = [(r.step, r.value) for r in self.records if r.quantity == quantity and r.layer == layer]
        found.sort()
        return [step for step, _ in found], [value for _, value in found]
