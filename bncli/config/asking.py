"""What a study asks beyond its comparison: how many seeds, claims, a recipe to be tuned, a limit to be found."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from bncli.catalogue import Count, Positive
from bncli.config.parts import Frozen
from bncli.errors import ConfigError, Problem, did_you_mean, unknown
from bncli.measures import MEASURES, metrics_named

TUNING_SEED = 1000  # tuning runs have seeds from here on, so that the report's are fresh
EXTENDABLE = "training.lr"  # a learning rate is never out of range


def _known_measure(name: str) -> str:
    return name if metrics_named(name) or MEASURES[name] else ""  # of a metric: `check` knows which there are


MeasureName = Annotated[str, AfterValidator(_known_measure)]


LOOKS = (5, 8, 10, 15, 20, 30, 50, 75, 100)  # numbers of seeds at which a study is reported until it is decided
MOST_SEEDS = 50  # of such a study, where nothing else is said


def read_seeds(given: object) -> object:
    """`5` is 0..4; `0..9` counts both ends; a list is itself; `{until: decided, max: 50}` is 0..49 at most."""
    if isinstance(given, Mapping):
        if given.get("until") != "decided" or not given.keys() <= {"until", "max"}:
            raise ValueError(f"must be {{until: decided, max: {MOST_SEEDS}}}, got {dict(given)!r}")
        return read_seeds(given.get("max", MOST_SEEDS))
    if isinstance(given, str) and ".." in given:
        first, _, last = given.partition("..")
        if first.strip().isdigit() and last.strip().isdigit():
            return tuple(range(int(first), int(last) + 1))
    if isinstance(given, str) and given.isdigit():
        given = int(given)
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return tuple(range(given))
    if isinstance(given, list | tuple):
        return tuple(given)
    if type(given) is int:
        raise ValueError(f"must be one seed or more, got {given}")
    raise ValueError(f"must be a number of seeds, a range like 0..9 or a list, got {given!r}")


class Bounds(Frozen):
    """Where a number is claimed to lie: below one limit, above another, or between both."""

    below: float | None = None
    above: float | None = None

    @model_validator(mode="after")
    def bounded(self) -> "Bounds":
        """At least one limit, and room between two."""
        if self.below is None and self.above is None:
            raise ConfigError("give {below: NUMBER}, {above: NUMBER} or both")
        if self.below is not None and self.above is not None and self.above >= self.below:
            raise ConfigError(f"nothing lies above {self.above:g} and below {self.below:g}")
        return self


class StudyClaim(Frozen):
    """A published or expected result that the runs confirm, refute, or leave open."""

    measure: MeasureName
    of: str  # a variant
    versus: str | None = None  # the variant that it is compared with
    at: dict[str, Any] = Field(default_factory=dict)  # swept keys and values; what is not named: at each of them
    ratio: Bounds | None = None  # `of` over `versus`, geometric mean over seeds
    difference: Bounds | None = None  # `of` less `versus`, mean over seeds, in the measure's unit (0.02 is 2 points)
    level: Bounds | None = None  # of `of` alone, mean over seeds, in the measure's unit
    source: Annotated[str, Field(min_length=1)]  # who says so, and where

    @model_validator(mode="after")
    def one_band(self) -> "StudyClaim":
        """Exactly one band, and a second variant where it compares."""
        given = [kind for kind in ("ratio", "difference", "level") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ConfigError("give exactly one of ratio, difference, level")
        if (given == ["level"]) != (self.versus is None):
            raise ConfigError("level is of one variant alone; ratio and difference need versus: VARIANT")
        return self


class Tune(Frozen):
    """One key of the recipe, chosen for each variant on the same grid with the same budget."""

    over: Annotated[
        dict[str, Annotated[tuple[Positive, ...], Field(min_length=2, strict=False)]], Field(min_length=1, max_length=1)
    ]  # dotted key -> its values; one key: sweep the others
    by: Literal["validation_accuracy", "validation_loss"] = "validation_accuracy"  # median over seeds, last evaluation
    seeds: Count = 3  # tuning seeds, from 1000 on
    extend: bool = False  # widen the grid for all while anybody's best lies on its edge
    race: bool = False  # a value that is significantly worse after some seeds gets no more

    @field_validator("over")
    @classmethod
    def ascending(cls, over: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        """Values in order, each once."""
        for values in over.values():
            if any(a >= b for a, b in pairwise(values)):
                raise ValueError(f"values must ascend, got {list(values)}")
        return over

    @property
    def key(self) -> str:
        """The tuned key."""
        return next(iter(self.over))

    @property
    def values(self) -> tuple[float, ...]:
        """The grid, before any extension."""
        return self.over[self.key]


class Bisect(Frozen):
    """The largest value of a key that trains stably, by bisection between two, for each variant and seed."""

    over: str = "training.lr"
    low: Positive = 0.01  # expected to be stable
    high: Positive = 100.0  # expected not to be
    within: Annotated[float, Field(gt=1)] = 1.25  # ends when unstable / stable is at most this

    @model_validator(mode="after")
    def room(self) -> "Bisect":
        """There is something between the ends."""
        if self.low >= self.high:
            raise ConfigError(f"low must be below high, got {self.low:g} and {self.high:g}")
        return self


def claim_problems(
    claims: Sequence[StudyClaim], variants: Mapping[str, Any], swept: Mapping[str, Any]
) -> Iterator[Problem]:
    """Claims about variants or settings that the study does not have."""
    for i, claim in enumerate(claims):
        for key, name in (("of", claim.of), ("versus", claim.versus)):
            if name is not None and name not in variants:
                yield Problem(("claims", i, key), unknown("variant", name, variants, in_order=True))
        for key in claim.at:
            if key not in swept:
                yield Problem(("claims", i, "at"), f"{key!r} is not swept{did_you_mean(key, swept)}")


def unmeasured(
    measures: Sequence[str], claims: Sequence[StudyClaim], searched: bool, probed: Sequence[str]
) -> Iterator[Problem]:
    """Measures asked for or claimed that need a search or a probe which the study does not have."""
    asked: list[tuple[tuple[str | int, ...], str]] = [(("measures", i), name) for i, name in enumerate(measures)]
    asked += [(("claims", i, "measure"), claim.measure) for i, claim in enumerate(claims)]
    for place, name in asked:
        kind = MEASURES[name].of if name in MEASURES else "metric"
        if kind == "search" and not searched:
            yield Problem(place, f"{name!r} is measured by tune: or bisect: only")
        if kind == "probe" and name not in probed:
            yield Problem(place, f"{name!r} is not probed; add it to probes.metrics")


def tune_problems(tune: Tune | None, bisect: Bisect | None, seeds: Sequence[int]) -> Iterator[Problem]:
    """Searches that contradict each other or the report."""
    if tune and bisect:
        yield Problem(("bisect",), "a study tunes or bisects, not both")
    if tune and max(seeds) >= TUNING_SEED:
        yield Problem(("seeds",), f"seeds from {TUNING_SEED} on are for tuning; the report's must be below")
    if tune and tune.extend and tune.key != EXTENDABLE:
        yield Problem(("tune", "extend"), f"only {EXTENDABLE} can be extended beyond its grid")


def tune_warnings(tune: Tune | None) -> Iterator[str]:
    """Grids that are too small or too coarse to be fair."""
    if tune is None:
        return
    if len(tune.values) < 5:
        yield f"tune: {len(tune.values)} values of {tune.key}; use 5 or more, half a decade apart"
    if max(b / a for a, b in pairwise(tune.values)) > 10**0.5 * 1.1:
        yield f"tune: values of {tune.key} are over half a decade apart; the best may lie between two"
    if tune.seeds < 3:
        yield f"tune: the median of {tune.seeds} seeds is one lucky run away from another choice; use 3 or more"
