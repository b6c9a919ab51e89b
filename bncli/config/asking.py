"""What a study asks beyond its comparison: how many seeds, claims, a recipe to be tuned, a limit to be found."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from bncli.catalogue import LARGEST, WHOLE, Meaning, Positive, Spelling
from bncli.config.parts import Frozen
from bncli.errors import ConfigError, Problem, did_you_mean, unknown
from bncli.measures import MEASURES, metrics_named

TUNING_SEED = 1000  # tuning runs have seeds from here on, so that the report's are fresh
EXTENDABLE = "training.lr"  # a learning rate is never out of range


def _known_measure(name: str) -> str:
    return name if metrics_named(name) or MEASURES[name] else ""  # of a metric: `check` knows which there are


MeasureName = Annotated[
    str, AfterValidator(_known_measure), Spelling("name of a measure", {"enum": list(MEASURES.own)})
]


BySplit = Literal["validation_accuracy", "validation_loss"]  # of the last evaluation: what a search chooses by
ANY_KEYS = Spelling("{KEY: value}", {"type": "object"})


class Bounds(Frozen):
    """Where a number is claimed to lie: below one limit, above another, or between both."""

    below: Annotated[float | None, Meaning("it lies below this", "that of the number")] = None
    above: Annotated[float | None, Meaning("it lies above this", "that of the number")] = None

    @model_validator(mode="after")
    def bounded(self) -> "Bounds":
        """At least one limit, and room between two."""
        if self.below is None and self.above is None:
            raise ConfigError("give {below: NUMBER}, {above: NUMBER} or both")
        if self.below is not None and self.above is not None and self.above >= self.below:
            raise ConfigError(f"nothing lies above {self.above:g} and below {self.below:g}")
        return self

    def says_nothing(self, low: float, high: float) -> str:
        """Why no number from `low` to `high`, or every one, lies within; "" if some do."""
        below = math.inf if self.below is None else self.below
        above = -math.inf if self.above is None else self.above
        if (below <= low and low > -math.inf) or (above >= high and high < math.inf):
            return f"can never hold: it lies between {low:g} and {high:g}"
        always = above < low and (below > high or below == math.inf)
        return f"always holds: it lies between {low:g} and {high:g}" if always else ""


class StudyClaim(Frozen):
    """A published or expected result that the runs confirm, refute, or leave open."""

    measure: Annotated[MeasureName, Meaning("what it is about: a name of `bncli ls measures`")]
    of: Annotated[str, Meaning("the variant that it is about")]
    versus: Annotated[str | None, Meaning("the variant that it is compared with")] = None
    at: Annotated[
        dict[str, Any],
        ANY_KEYS,
        Meaning("swept keys and the values where it holds; any others: at each"),
    ] = Field(default_factory=dict)
    ratio: Annotated[Bounds | None, Meaning("`of` over `versus`, geometric mean over seeds")] = None
    difference: Annotated[
        Bounds | None,
        Meaning("`of` less `versus`, mean over seeds, in the measure's unit: .02 is 2 points"),
    ] = None
    level: Annotated[Bounds | None, Meaning("`of` alone, mean over seeds, in the measure's unit")] = None
    source: Annotated[str, Field(min_length=1), Meaning("who says so, and where")]

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
        dict[str, Annotated[tuple[Positive, ...], Field(min_length=2, strict=False)]],
        Field(min_length=1, max_length=1),
        Meaning("dotted key and its values, ascending: `{training.lr: [.1, .3, 1]}`; one key", "the key's"),
    ]
    by: Annotated[BySplit, Meaning("what is best: the median over seeds, at the end")] = "validation_accuracy"
    seeds: Annotated[
        int,
        Field(ge=1, le=10_000),
        WHOLE,
        Meaning(f"of each value, from {TUNING_SEED} on: the report's are fresh", "seeds"),
    ] = 3
    extend: Annotated[bool, Meaning("widen the grid for all while anybody's best lies on its edge")] = False
    race: Annotated[bool, Meaning("a value that is significantly worse after some seeds gets no more")] = False

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

    over: Annotated[str, Meaning("the dotted key that is searched")] = "training.lr"
    low: Annotated[Positive, Meaning("a value that is expected to be stable", "the key's")] = 0.01
    high: Annotated[Positive, Meaning("a value that is expected not to be", "the key's")] = 100.0
    within: Annotated[
        float, Field(ge=1.001, le=LARGEST), Meaning("it ends when unstable over stable is at most this", "ratio")
    ] = 1.25

    @model_validator(mode="after")
    def room(self) -> "Bisect":
        """There is something between the ends."""
        if self.low >= self.high:
            raise ConfigError(f"low must be below high, got {self.low:g} and {self.high:g}")
        return self


def _reach(measure: str, kind: str) -> tuple[float, float]:
    """Between what a ratio, difference or level of a measure can lie, both ends included."""
    unit = MEASURES[measure].unit if measure in MEASURES else ""
    most = 1 if unit in ("fraction", "share") else math.inf
    if kind == "difference":
        return -most, most
    counted = kind == "ratio" or unit in ("fraction", "share", "steps", "seconds", "examples")
    return 0 if counted else -math.inf, most if kind == "level" else math.inf


def claim_problems(
    claims: Sequence[StudyClaim], variants: Mapping[str, Any], swept: Mapping[str, Any]
) -> Iterator[Problem]:
    """Claims about variants or settings that the study does not have."""
    for i, claim in enumerate(claims):
        for key, name in (("of", claim.of), ("versus", claim.versus)):
            if name is not None and name not in variants:
                yield Problem(("claims", i, key), unknown("variant", name, variants, in_order=True))
        if claim.versus == claim.of:
            yield Problem(("claims", i, "versus"), f"must be another variant than `of`, got {claim.of!r} for both")
        for kind in ("ratio", "difference", "level"):
            bounds: Bounds | None = getattr(claim, kind)
            if bounds and (why := bounds.says_nothing(*_reach(claim.measure, kind))):
                yield Problem(("claims", i, kind), f"{why}, as every {kind} of {claim.measure} does")
        for key, value in claim.at.items():
            if key not in swept:
                yield Problem(("claims", i, "at"), f"{key!r} is not swept{did_you_mean(key, swept)}")
            elif value not in swept[key]:
                known = ", ".join(map(repr, swept[key]))
                yield Problem(("claims", i, "at"), f"{value!r} is no value that {key} is swept over ({known})")


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
        yield f"tune: values of {tune.key} are over half a decade apart and the best may lie between two; add some"
    if tune.seeds < 3:
        yield f"tune: the median of {tune.seeds} seeds is one lucky run away from another choice; use 3 or more"
