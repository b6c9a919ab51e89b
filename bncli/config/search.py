"""A search over several keys of the recipe: its space, its budget, and spaces in which nothing can be found."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_serializer

from bncli.catalogue import LARGEST, WHOLE, Meaning, Spelling
from bncli.config.asking import TUNING_SEED, Bisect, BySplit, Tune
from bncli.config.parts import Frozen
from bncli.config.recipe import Training
from bncli.data import Seed
from bncli.errors import ConfigError, Problem

_FORMS = "{log: [LOW, HIGH]}, {linear: [LOW, HIGH]} or a list of values"
KEEP = 3  # one of so many trials goes on from a rung to the next, which is so many times as long (Li et al. 2018)
RUNGS = 3


class Range(Frozen):
    """Numbers between two ends, drawn evenly or evenly in their logarithms."""

    scale: Literal["log", "linear"]
    low: float
    high: float

    @model_serializer
    def flat(self) -> dict[str, Any]:
        """As it is written in YAML."""
        return {self.scale: [self.low, self.high]}

    def at(self, share: float) -> float:
        """The number so far up the range, from 0 to 1."""
        if self.scale == "log":
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + (self.high - self.low) * share
        return self.rounded(value)

    def rounded(self, value: float) -> float:
        """With six digits, within the ends: it reads well, and means the same on every machine."""
        return min(max(float(f"{value:.6g}"), self.low), self.high)


def _read_values(given: object) -> object:
    """A range or a list of values."""
    if isinstance(given, Range):
        return given
    if isinstance(given, list | tuple):
        if len(given) < 2:
            raise ConfigError(f"has nothing to choose from, got {list(given)!r}; give two values or more")
        return tuple(given)
    scale, ends = next(iter(given.items())) if isinstance(given, Mapping) and len(given) == 1 else ("", ())
    if scale not in ("log", "linear") or not _two_numbers(ends):
        raise ConfigError(f"must be {_FORMS}, got {given!r}")
    low, high = map(float, ends)
    if not (low < high and max(-low, high) <= LARGEST):
        raise ConfigError(f"{scale}: the low end comes first and the high end above it, got {list(ends)}")
    if scale == "log" and low <= 0:
        raise ConfigError(f"log: both ends must be > 0, got {list(ends)}; a list of values may hold 0")
    return Range.model_validate({"scale": scale, "low": low, "high": high})


def _two_numbers(ends: object) -> bool:
    return isinstance(ends, list | tuple) and len(ends) == 2 and all(type(end) in (int, float) for end in ends)


_SPACE = {
    "type": "object", "minProperties": 1, "additionalProperties": {"anyOf": [
        {"type": "array", "minItems": 2},
        *({"type": "object", "required": [scale], "additionalProperties": False, "properties": {
            scale: {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        }} for scale in ("log", "linear")),
    ]},
}  # fmt: skip


class Search(Frozen):
    """Several keys of the recipe, chosen together for each variant, by as many trials for each."""

    over: Annotated[
        dict[str, Annotated[Range | tuple[Any, ...], BeforeValidator(_read_values)]],
        Field(min_length=1, max_length=20),
        Spelling(f"{{KEY: {_FORMS}}}", _SPACE),
        Meaning("dotted keys, and what each may be: `{training.lr: {log: [.001, 10]}}`; whole numbers as a list"),
    ]
    trials: Annotated[
        int, Field(ge=1, le=10_000), WHOLE, Meaning("of each variant: points of the space that are tried", "trials")
    ] = 40
    sampler: Annotated[
        Literal["halton", "random", "tpe"],
        Meaning("halton, random: the same points for all variants; tpe: each variant's own, after its trials before"),
    ] = "halton"
    prune: Annotated[
        Literal["halving"] | None,
        Meaning("halving: the better third goes on at 1/9 and at 1/3 of training.steps; null: all to their end"),
    ] = None
    by: Annotated[BySplit, Meaning("what is best: the median over seeds, where a trial ends")] = "validation_accuracy"
    seeds: Annotated[
        int,
        Field(ge=1, le=10_000),
        WHOLE,
        Meaning(f"of each trial, from {TUNING_SEED} on: the report's are fresh", "seeds"),
    ] = 3
    sampler_seed: Annotated[Seed, Meaning("another one has the sampler try other points", "seed")] = 0

    def count_trials(self) -> list[int]:
        """How many trials of a variant are trained to each rung; without halving to their end alone."""
        counts = [self.trials]
        while self.prune and len(counts) < RUNGS:
            counts.append(math.ceil(counts[-1] / KEEP))
        return counts

    def ladder(self, steps: int) -> tuple[int, ...]:
        """The steps at which a run of so many is looked at, its end last; without halving none."""
        return tuple(math.ceil(steps / KEEP**rung) for rung in reversed(range(RUNGS))) if self.prune else ()

    def known_values(self) -> dict[str, tuple[Any, ...]]:
        """Of each key values that may be tried: of a range its ends, and one within that is no whole number."""
        return {
            key: (each.low, each.at(0.6180339), each.high) if isinstance(each, Range) else each
            for key, each in self.over.items()
        }


def search_problems(
    tune: Tune | None, bisect: Bisect | None, search: Search | None, swept: Mapping[str, Any], seeds: Sequence[int]
) -> Iterator[Problem]:
    """Searches that contradict each other, the sweep or the report."""
    if search and (tune or bisect):
        yield Problem(("search",), f"a study {'tunes' if tune else 'bisects'} or searches, not both")
    if search and max(seeds) >= TUNING_SEED:
        yield Problem(("seeds",), f"seeds from {TUNING_SEED} on are for the search; the report's must be below")
    keys = {"tune": tune.over if tune else (), "bisect": [bisect.over] if bisect else ()}
    for kind, found in (keys | {"search": search.over if search else ()}).items():
        for key in found:
            if key in swept:
                yield Problem(
                    (kind, "over", *([key] * (kind != "bisect"))), f"{key} is swept too; take one of them out"
                )
    for key in search.over if search else ():
        if key.partition(".")[0] in ("data", "evaluation") or key == "training":
            what = "a search chooses keys of the recipe and of the model, as training.lr or model.width"
            yield Problem(("search", "over", key), f"{what}, and trials must be scored on the same data")
        elif search and search.prune and key == "training.steps":
            yield Problem(("search", "over", key), "trials of unlike length have no rungs in common; take prune out")
    if search and not any(isinstance(each, Range) for each in search.over.values()):
        points = math.prod(len(each) for each in search.over.values() if isinstance(each, tuple))
        if points < search.trials:
            yield Problem(("search", "trials"), f"there are {points} points in all; at most so many, or a wider space")


def at_space(problem: Problem, key: str) -> Problem:
    """A problem of a swept key as that of the key of a search."""
    if problem.path != ("sweep", key):
        return problem
    remedy = "; give a list of whole numbers" if problem.message.startswith("must be a whole number") else ""
    message = problem.message.replace("swept", "searched").replace("sweep", "search")
    return Problem(("search", "over", key), message + remedy)


def suggest_option(training: Training, key: str) -> str:
    """`training.optimizer.momentum` for `training.momentum`; "" where a key is not written so."""
    section, _, name = key.rpartition(".")
    parts = {"training.optimizer": training.optimizer, "training.schedule": training.schedule}
    if section != "training" or name in Training.model_fields:
        return ""
    return next((f"{place}.{name}" for place, part in parts.items() if name in part.options), "")


def search_warnings(search: Search | None) -> Iterator[str]:
    """Searches that are too small to find much."""
    if search and search.trials < 10 * len(search.over):
        keys = f"{len(search.over)} keys" if len(search.over) > 1 else "1 key"
        yield f"search: {search.trials} trials of {keys}; use 10 or more for each key"
