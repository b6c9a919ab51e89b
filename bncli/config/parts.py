"""The parts of a study: data, network, recipe, evaluation, probes; every key with its default, range and unit."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_serializer,
    model_validator,
)

from bncli.catalogue import Catalogue, Count, Fraction, NonNegative, Positive
from bncli.data import DATASETS
from bncli.engine import OPTIMIZERS, SCHEDULES
from bncli.errors import ConfigError, Path, Problem, problems_of
from bncli.models import MODELS
from bncli.norms import NORMS
from bncli.shift import METRICS


class Frozen(BaseModel):
    """Plain frozen data; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Part(Frozen):
    """A name with options, written `name` or `{name: ..., option: ...}`; every option is filled in."""

    name: str
    options: dict[str, Any]

    @model_serializer
    def flat(self) -> dict[str, Any]:
        """As it is written in YAML."""
        return {"name": self.name, **self.options}


def part_of(catalogue: Catalogue[Any], default: str | None = None) -> BeforeValidator:
    """Reads a part of `catalogue`; `default` is the name of one that is given by its options alone."""

    def parse(given: object) -> object:
        if isinstance(given, Part):
            return given
        if isinstance(given, str):
            given = {"name": given}
        if isinstance(given, Mapping) and default:
            given = {"name": default, **given}
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise ConfigError(f"must be a {catalogue.kind}'s name or {{name: ..., option: ...}}, got {given!r}")
        options = {key: value for key, value in given.items() if key != "name"}
        return Part(name=given["name"], options=catalogue.options(given["name"], options))

    return BeforeValidator(parse)


NormPart = Annotated[Part, part_of(NORMS)]
ModelPart = Annotated[Part, part_of(MODELS, "mlp")]
DataPart = Annotated[Part, part_of(DATASETS, "mnist")]
SchedulePart = Annotated[Part, part_of(SCHEDULES, "constant")]
OptimizerPart = Annotated[Part, part_of(OPTIMIZERS, "sgd")]


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
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the target's probability, spread over all classes
    precision: Literal["float32", "mixed"] = "float32"  # mixed: bfloat16 forward and backward in training
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"  # of images, in runs trained one by one


class Evaluation(Frozen):
    """When, on what and with which statistics the network is evaluated."""

    every: Count = 100  # steps between evaluations; also before the first step and after the last
    split: Literal["validation", "test"] = "test"
    # running averages | population statistics over `precise_batches` training batches | the evaluated batch's own
    statistics: Literal["running", "precise", "batch"] = "running"
    precise_batches: Count = 100  # training batches behind `precise`


Place = Literal["layer", "norm", "activation"]


TIERS = ("light", "standard", "full")  # each holds what stands before it


def _metrics(given: object) -> object:
    """A tier is all of its metrics; names are checked."""
    if isinstance(given, str) and given in TIERS:
        known = TIERS[: TIERS.index(given) + 1]
        return tuple(name for name, row in METRICS.items() if row.tier in known)
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
    sites: Annotated[tuple[Place, ...], Field(min_length=1, strict=False)] = ("norm",)
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
    """The level whose first crossing is timed: a fixed accuracy, or the median final accuracy of one variant."""

    accuracy: Fraction | None = None  # of the evaluation split
    final_of: str | None = None  # a variant

    @model_validator(mode="after")
    def one_of_the_two(self) -> "Target":
        """Exactly one of the two says what the level is."""
        if (self.accuracy is None) == (self.final_of is None):
            raise ValueError("give either {accuracy: 0.95} or {final_of: VARIANT}")
        return self


class Margins(Frozen):
    """Differences too small to matter: an interval within them says `equivalent`."""

    ratio: Positive = 0.05  # ratios between 1/1.05 and 1.05
    accuracy: Positive = 0.002  # 0.2 points
    loss: Positive = 0.01  # nats
    bias_growth: Positive = 0.01  # L2 norm a step
    share: Positive = 0.05  # 5 of 100 runs
    decades: Positive = 0.1  # a tenth of a power of ten


M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], given: Any, keys_at: Callable[[Path], list[str]], prefix: Path = ()) -> M:
    """`given` as a `model`.

    Args:
        model: a frozen model.
        given: a plain tree.
        keys_at: the keys known at a path and near it, for suggestions.
        prefix: where `given` stands.

    Raises:
        ConfigError: with every problem that was found.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = problems_of(error.errors(), keys_at)
        raise ConfigError(*(Problem(prefix + p.path, p.message) for p in found)) from None
