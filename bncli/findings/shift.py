"""What the analysis says of shift, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bncli.findings import ArmCurve, Direction, Note, Scale

Side = Literal["less", "more", "same", "open", "not comparable"]  # of shift, or of whatever else is measured
Trend = Literal["rising", "falling", "open"]


@dataclass(frozen=True)
class Definition:
    """One metric of shift: a column of the table, and the subject of a sentence."""

    name: str  # "percentile-drift-relative"
    label: str  # in a sentence: "relative percentile drift"
    kind: str  # what it is a function of, as its row says: "pair", "gradient", ...
    unit: str
    scale: Scale  # a ratio where it has a zero and no upper end
    better: Direction | None  # the side called better by those who proposed it
    summary: str = ""  # what it measures, in a line


@dataclass(frozen=True)
class Cell:
    """One metric at one layer of one arm: over the seeds, each seed's mean over all probes."""

    metric: str
    layer: str  # "hidden.2.0"; "" is the whole network
    place: str  # where in the layer: "layer", "norm" or "activation"; "" where that says nothing
    values: Mapping[int, float]  # by seed
    mean: float  # over seeds
    std: float | None  # standard deviation over seeds; None of one seed
    first: float  # mean over seeds at the first probe
    last: float
    trend: Trend  # from the first third of the probes to the last, by a 95 % interval over seeds
    null: float | None  # below it lie 95 % of what sampling noise alone makes of it; None where it has no band
    within_noise: bool  # not above `null`; never where a run diverged or the number is not finite
    low: float | None = None  # ends of the 95 % t-interval of `mean` over seeds; None of one seed
    high: float | None = None


@dataclass(frozen=True)
class ShiftArm:
    """One variant at one setting of the sweep."""

    variant: str
    setting: Mapping[str, Any]
    is_reference: bool
    seeds: int
    cells: tuple[Cell, ...]
    probing: float | None  # seconds of probing, as a share of training time


@dataclass(frozen=True)
class ShiftComparison:
    """One arm against the reference by one metric, paired by seed."""

    metric: str
    layer: str  # "" is all layers: the mean of logarithms, or of differences, over the layers that can be compared
    place: str  # in the layer, as in `Cell`
    variant: str
    reference: str
    setting: Mapping[str, Any]
    pairs: int
    estimate: float | None  # ratio of geometric means, or mean difference
    low: float | None  # ends of the 95 % t-interval
    high: float | None
    side: Side  # "less": nearer to what the metric is where nothing shifts, or smaller
    within_noise: bool  # both arms, at every layer that is compared
    reason: str = ""


@dataclass(frozen=True)
class PercentileBand:
    """The 15th, 50th and 85th percentile at a site over training: mean over seeds."""

    variant: str
    setting: Mapping[str, Any]
    layer: str
    place: str  # in the layer, as in `Cell`
    index: int | None  # of the unit; None is the median over units
    steps: tuple[int, ...]
    low: tuple[float, ...]
    middle: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Course:
    """One metric at one layer of one arm over training: mean over seeds at each probe that all of them have."""

    metric: str
    variant: str
    setting: Mapping[str, Any]
    layer: str
    place: str  # in the layer, as in `Cell`
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class ShiftFindings:
    """What happened to the distributions, by every definition that was asked for."""

    name: str
    question: str
    setup: str
    probes: str  # what was probed: "500 test examples every 500 steps, with running statistics"
    layers: tuple[str, ...]  # patterns of layers that were asked for; none is all
    definitions: tuple[Definition, ...]
    arms: tuple[ShiftArm, ...]
    comparisons: tuple[ShiftComparison, ...]
    bands: tuple[PercentileBand, ...]
    sentences: tuple[str, ...]  # of each arm whether definitions agree, then one a definition
    notes: tuple[Note, ...]  # how the numbers are to be read, what matters most first
    warnings: tuple[str, ...]
    environment: Mapping[str, Any]
    courses: tuple[Course, ...] = ()
    curves: tuple[ArmCurve, ...] = ()  # of whole networks, as in `Findings`
