"""How a study trains, evaluates and probes: every key with its default, range, unit and meaning."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from bncli.catalogue import WHOLE, Count, Fraction, Meaning, Natural, NonNegative, Positive, Spelling
from bncli.config.parts import ONCE, Before, Frozen, Part, part_of
from bncli.data import DATASETS
from bncli.errors import ConfigError
from bncli.models import MODELS
from bncli.optim import LOSSES, OPTIMIZERS, SCHEDULES
from bncli.shift import METRICS, ProbePlace
from bncli.tasks import TASKS

ModelPart = Annotated[Part, *part_of(MODELS, "mlp")]
DataPart = Annotated[Part, *part_of(DATASETS, "mnist")]
SchedulePart = Annotated[Part, *part_of(SCHEDULES, "constant")]
OptimizerPart = Annotated[Part, *part_of(OPTIMIZERS, "sgd")]
TaskPart = Annotated[Part, *part_of(TASKS)]
LossPart = Annotated[Part, *part_of(LOSSES)]


class Augmentation(Frozen):
    """What is done to training images, example by example and drawn from the run's seed."""

    crop: Annotated[Natural, Meaning("how far they are moved at most, each way; 0 comes in at the edge", "pixels")] = 0
    flip: Annotated[bool, Meaning("half of them are mirrored, left and right")] = False
    cutout: Annotated[Natural, Meaning("side of the square that is cut out", "pixels")] = 0


class Batching(Frozen):
    """Which training examples come together; by default any, and each once an epoch."""

    classes_per_batch: Annotated[
        Count | None, Meaning("each batch has examples of so many classes alone; null: of any", "classes")
    ] = None


class Training(Frozen):
    """The recipe that every variant trains by."""

    steps: Annotated[Count, Meaning("how long every run trains", "optimiser steps")] = 2000
    batch_size: Annotated[Count, Meaning("of each step", "examples")] = 60
    optimizer: Annotated[OptimizerPart, Meaning("what makes a step of a gradient")] = Part(
        name="sgd", options=OPTIMIZERS.options("sgd", {})
    )
    lr: Annotated[Positive, Meaning("learning rate", "step a unit of gradient")] = 0.1
    schedule: Annotated[SchedulePart, Meaning("what multiplies the learning rate in the course of training")] = Part(
        name="constant", options=SCHEDULES.options("constant", {})
    )
    weight_decay: Annotated[NonNegative, Meaning("L2 for sgd and adam, decoupled for adamw", "factor")] = 0.0
    decay: Annotated[
        Literal["all", "weights"], Meaning("what decays: every parameter, or weights of layers: no bias, no norm")
    ] = "all"
    clip: Annotated[
        Positive | None, Meaning("largest L2 norm of a run's whole gradient; null: any", "norm of the gradient")
    ] = None
    loss: Annotated[
        LossPart | None, Before(None), Meaning("null: cross-entropy of classes, squared error of numbers")
    ] = None
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1), Meaning("of the target's probability, spread over all classes", "share")
    ] = 0.0
    precision: Annotated[
        Literal["float32", "tf32", "mixed"],
        Meaning(
            "tf32: on a GPU, products and convolutions of operands cut to 10 bits; mixed: bfloat16 forward and backward"
        ),
    ] = "float32"
    deterministic: Annotated[
        bool,
        Before(False),
        Meaning("on a GPU, operations that give equal bits each time where torch has such; a warning names others"),
    ] = False
    memory_format: Annotated[
        Literal["channels_last", "contiguous"], Meaning("of images, in runs trained one by one")
    ] = "channels_last"
    augment: Annotated[Augmentation | None, Before(None), Meaning("what is done to training images; null: nothing")] = (
        None
    )
    batches: Annotated[Batching, Meaning("which training examples come together")] = Batching()
    ranks: Annotated[
        int,
        Field(ge=1, le=1_000),
        WHOLE,
        Meaning("that train one run, each on its share of every batch; on CUDA each with its own GPU", "processes"),
    ] = 1

    @model_serializer(mode="wrap")
    def without_younger(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what studies and runs before these keys do: one process, batches of any examples, any algorithm."""
        young = {"ranks": 1, "batches": Batching(), "deterministic": False}
        absent = {key for key, before in young.items() if getattr(self, key) == before}
        return {key: value for key, value in write(self).items() if key not in absent}


class Evaluation(Frozen):
    """When, on what and with which statistics the network is evaluated."""

    every: Annotated[
        Count, Meaning("between two evaluations; there is one before the first step and after the last too", "steps")
    ] = 100
    split: Annotated[Literal["validation", "test"], Meaning("the part of the data that accuracies are of")] = "test"
    statistics: Annotated[
        Literal["running", "precise", "batch"],
        Meaning("of norms: running averages, of `precise_batches` training batches, or the evaluated batch's own"),
    ] = "running"
    precise_batches: Annotated[
        int,
        Field(ge=1, le=10_000),
        WHOLE,
        Meaning("that `statistics: precise` is taken over", "training batches"),
    ] = 100


TIERS = ("light", "standard", "full")  # each holds what stands before it


def _metrics(given: object) -> object:
    """A tier is all of its metrics that are bncli's own: a plug-in changes no preset. Names are checked."""
    if isinstance(given, str) and given in TIERS:
        known = TIERS[: TIERS.index(given) + 1]
        return tuple(name for name, row in METRICS.own.items() if row.tier in known)
    if isinstance(given, str) or not isinstance(given, list | tuple):
        raise ConfigError(f"must be one of {', '.join(TIERS)} or a list of metrics, got {given!r}")
    for name in given:
        METRICS[str(name)]
    return given


_TIER_OR_NAMES = Spelling(
    f"{' or '.join(TIERS)}, or list of metrics",
    {"anyOf": [{"enum": list(TIERS)}, {"type": "array", "items": {"enum": list(METRICS.own)}}]},
)


class Probes(Frozen):
    """What is measured of distributions, gradients and the loss while a run trains; nothing unless `metrics` says so.

    Probes change no number of training. Written `light` or `{metrics: light, ...}`.
    """

    metrics: Annotated[
        tuple[str, ...],
        Field(strict=False),
        BeforeValidator(_metrics),
        ONCE,
        _TIER_OR_NAMES,
        Meaning("what is measured: names of `bncli ls metrics`, or a tier, which holds the tiers before it"),
    ] = ()
    every: Annotated[
        Count,
        Meaning("between two probes: a drift is over so many; `mode: train` has one before them", "steps"),
    ] = 500
    sites: Annotated[
        tuple[ProbePlace, ...],
        Field(min_length=1, strict=False),
        ONCE,
        Meaning(
            "layer: what a layer gives; norm: what reaches the activation, normalised or not; activation: what it gives"
        ),
    ] = ("norm",)
    layers: Annotated[
        tuple[str, ...],
        Field(strict=False),
        Meaning("patterns of layers' names (`hidden.2*`, `blocks.-1*`: the last block); []: all layers"),
    ] = ()
    split: Annotated[
        Literal["train", "validation", "test"], Meaning("that the probe set is taken from: its first examples")
    ] = "test"
    examples: Annotated[Count, Meaning("in the probe set, the same at every probe", "examples")] = 500
    mode: Annotated[
        Literal["evaluation", "train"],
        Meaning("with running statistics, or with batch statistics of the probe set cut into training batches"),
    ] = "evaluation"
    null_draws: Annotated[
        int,
        Field(ge=1, le=1_000),
        WHOLE,
        Meaning("drawn for a null band, at every fourth probe", "pairs of samples"),
    ] = 1
    units: Annotated[
        int,
        Field(ge=0, le=10_000),
        WHOLE,
        Meaning("single ones of each site whose percentiles are kept", "channels"),
    ] = 0
    step_sizes: Annotated[
        tuple[Positive, ...],
        Field(min_length=1, max_length=100, strict=False),
        ONCE,
        Meaning("steps along the negative gradient at which the loss is looked at", "learning rates"),
    ] = (0.5, 1.0, 2.0, 4.0)

    @model_validator(mode="before")
    @classmethod
    def shorthand(cls, given: Any) -> Any:
        """Probes with every default but the metrics may be written as a tier."""
        return {"metrics": given} if isinstance(given, str) else given

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        """A tier, or keys."""
        return {"anyOf": [{"enum": list(TIERS)}, handler(core)]}


class Target(Frozen):
    """The level whose first crossing is timed: a fixed one of any metric, or the median final value of one variant."""

    model_config = ConfigDict(extra="allow")  # {METRIC: LEVEL}
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    accuracy: Annotated[Fraction | None, Meaning("to be reached on the evaluation split", "share")] = None
    final_of: Annotated[str | None, Meaning("the variant whose median final accuracy is to be reached")] = None

    @model_validator(mode="after")
    def one_of_them(self) -> "Target":
        """Exactly one of them says what the level is."""
        if sum(level is not None for level in self.model_dump().values()) != 1:
            raise ValueError("give one of {accuracy: 0.95}, {METRIC: LEVEL} and {final_of: VARIANT}")
        return self


class MetricPart(Frozen):
    """A metric of any name: which way is better, its unit, and what difference is too small to matter."""

    better: Annotated[Literal["higher", "lower"], Meaning("which way is better")]
    unit: Annotated[str, Meaning("in words: points, seconds")] = ""
    margin: Annotated[
        NonNegative,
        Meaning("a difference too small to matter; 0: none is", "the metric's"),
    ] = 0.0


class Margins(Frozen):
    """Differences too small to matter: an interval within them says `equivalent`."""

    ratio: Annotated[Positive, Meaning("of ratios: .05 is from 1/1.05 to 1.05", "share")] = 0.05
    accuracy: Annotated[Positive, Meaning("of accuracies: .002 is 0.2 points", "share of the examples")] = 0.002
    loss: Annotated[Positive, Meaning("of losses", "nats")] = 0.01
    bias_growth: Annotated[Positive, Meaning("of the growth of the biases", "L2 norm a step")] = 0.01
    share: Annotated[Positive, Meaning("of runs: .05 is 5 of 100", "share of the runs")] = 0.05
    decades: Annotated[Positive, Meaning("of ranges of a swept or tuned key", "powers of ten")] = 0.1
