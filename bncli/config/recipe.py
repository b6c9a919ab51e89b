"""How a study trains, evaluates and probes: every key with its default, range and unit."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from bncli.catalogue import Count, Fraction, NonNegative, Positive
from bncli.config.parts import Before, Frozen, Part, part_of
from bncli.data import DATASETS
from bncli.errors import ConfigError
from bncli.models import MODELS
from bncli.optim import LOSSES, OPTIMIZERS, SCHEDULES
from bncli.shift import METRICS
from bncli.tasks import TASKS

ModelPart = Annotated[Part, part_of(MODELS, "mlp")]
TaskPart = Annotated[Part, part_of(TASKS)]
DataPart = Annotated[Part, part_of(DATASETS, "mnist")]
SchedulePart = Annotated[Part, part_of(SCHEDULES, "constant")]
LossPart = Annotated[Part, part_of(LOSSES)]
OptimizerPart = Annotated[Part, part_of(OPTIMIZERS, "sgd")]


class Augmentation(Frozen):
    """What is done to training images, example by example and drawn from the run's seed."""

    crop: Annotated[int, Field(ge=0)] = 0  # pixels by which they are moved at most, each way; 0 comes in at the edge
    flip: bool = False  # half of them are mirrored, left and right
    cutout: Annotated[int, Field(ge=0)] = 0  # pixels of a side of the square that is cut out


class Training(Frozen):
    """The recipe that every variant trains by."""

    steps: Count = 2000  # optimiser steps
    batch_size: Count = 60  # examples
    optimizer: OptimizerPart = Part(name="sgd", options=OPTIMIZERS.options("sgd", {}))
    lr: Positive = 0.1  # learning rate
    schedule: SchedulePart = Part(name="constant", options=SCHEDULES.options("constant", {}))  # what multiplies it
    weight_decay: NonNegative = 0.0  # L2 for sgd and adam, decoupled for adamw
    decay: Literal["all", "weights"] = "all"  # what decays: every parameter, or weights of layers: no bias, no norm
    clip: Positive | None = None  # largest L2 norm of a run's whole gradient
    loss: Annotated[LossPart | None, Before(None)] = None  # null: cross-entropy of classes, squared error of numbers
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the target's probability, spread over all classes
    # tf32: on a GPU, products and convolutions of operands cut to 10 bits | mixed: bfloat16 forward and backward
    precision: Literal["float32", "tf32", "mixed"] = "float32"
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"  # of images, in runs trained one by one
    augment: Annotated[Augmentation | None, Before(None)] = None  # what is done to training images; null: nothing


class Evaluation(Frozen):
    """When, on what and with which statistics the network is evaluated."""

    every: Count = 100  # steps between evaluations; also before the first step and after the last
    split: Literal["validation", "test"] = "test"
    # running averages | population statistics over `precise_batches` training batches | the evaluated batch's own
    statistics: Literal["running", "precise", "batch"] = "running"
    precise_batches: Count = 100  # training batches behind `precise`


ProbePlace = Literal["layer", "norm", "activation"]


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


class Probes(Frozen):
    """What is measured of distributions, gradients and the loss while a run trains; nothing unless `metrics` says so.

    Probes change no number of training. Written `light` or `{metrics: light, ...}`.
    """

    metrics: Annotated[tuple[str, ...], Field(strict=False), BeforeValidator(_metrics)] = ()  # a tier, or names
    every: Count = 500  # steps between probes: a drift is over so many; `mode: train` has one before training too
    # layer: what a layer gives; norm: what reaches the activation, normalised or not; activation: what it gives
    sites: Annotated[tuple[ProbePlace, ...], Field(min_length=1, strict=False)] = ("norm",)
    layers: Annotated[tuple[str, ...], Field(strict=False)] = ()  # patterns of layers' names; all where there are none
    split: Literal["train", "validation", "test"] = "test"  # that the probe set is taken from: its first examples
    examples: Count = 500  # in the probe set, the same at every probe
    # running statistics, or batch statistics of the probe set cut into training batches
    mode: Literal["evaluation", "train"] = "evaluation"
    null_draws: Count = 1  # pairs of samples drawn for a null band, at every fourth probe
    units: Annotated[int, Field(ge=0)] = 0  # single channels of each site whose percentiles are kept
    # steps along the negative gradient at which the loss is looked at, in learning rates
    step_sizes: Annotated[tuple[Positive, ...], Field(min_length=1, strict=False)] = (0.5, 1.0, 2.0, 4.0)

    @model_validator(mode="before")
    @classmethod
    def shorthand(cls, given: Any) -> Any:
        """Probes with every default but the metrics may be written as a tier."""
        return {"metrics": given} if isinstance(given, str) else given


class Target(Frozen):
    """The level whose first crossing is timed: a fixed one of any metric, or the median final value of one variant."""

    model_config = ConfigDict(extra="allow")  # {METRIC: LEVEL}
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    accuracy: Fraction | None = None  # of the evaluation split
    final_of: str | None = None  # a variant

    @model_validator(mode="after")
    def one_of_them(self) -> "Target":
        """Exactly one of them says what the level is."""
        if sum(level is not None for level in self.model_dump().values()) != 1:
            raise ValueError("give one of {accuracy: 0.95}, {METRIC: LEVEL} and {final_of: VARIANT}")
        return self


class MetricPart(Frozen):
    """A metric of any name: which way is better, its unit, and what difference is too small to matter."""

    better: Literal["higher", "lower"]
    unit: str = ""  # in words: points, seconds
    margin: NonNegative = 0.0  # in its unit; 0: no two variants are called equivalent


class Margins(Frozen):
    """Differences too small to matter: an interval within them says `equivalent`."""

    ratio: Positive = 0.05  # ratios between 1/1.05 and 1.05
    accuracy: Positive = 0.002  # 0.2 points
    loss: Positive = 0.01  # nats
    bias_growth: Positive = 0.01  # L2 norm a step
    share: Positive = 0.05  # 5 of 100 runs
    decades: Positive = 0.1  # a tenth of a power of ten
