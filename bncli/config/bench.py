"""A bench preset: which norms are timed, on what, in which passes, and for how long."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from bncli.catalogue import Count, Positive
from bncli.config.parts import Frozen, NormPart, Part, validated
from bncli.errors import ConfigError, Path, Problem
from bncli.norms import NORMS

Pass = Literal["train-forward", "train-backward", "train-both", "eval-forward"]
_SHAPE = re.compile(r"N([1-9][0-9]*)C([1-9][0-9]*)(?:H([1-9][0-9]*)W([1-9][0-9]*))?")


def sizes(shape: str) -> tuple[int, ...]:
    """`N32C64H56W56` to (32, 64, 56, 56), `N256C512` to (256, 512).

    Raises:
        ValueError: if it is written otherwise.
    """
    found = _SHAPE.fullmatch(shape)
    if not found:
        raise ValueError(f"must be written like N32C64H56W56 or N256C512, got {shape!r}")
    return tuple(int(size) for size in found.groups() if size)


def _shape(given: str) -> str:
    sizes(given)
    return given


def _listed(given: object) -> object:
    """One value stands for a list of it."""
    return tuple(given) if isinstance(given, list | tuple) else (given,)


_LIST = (Field(min_length=1, strict=False), BeforeValidator(_listed))


class Grid(Frozen):
    """Every combination of its lists is a case; a list of one may be written as its value."""

    norms: Annotated[tuple[NormPart, ...], *_LIST]
    shapes: Annotated[tuple[Annotated[str, AfterValidator(_shape)], ...], *_LIST]
    dtypes: Annotated[tuple[Literal["f32", "f64", "bf16", "f16"], ...], *_LIST] = ("f32",)
    layouts: Annotated[tuple[Literal["nchw", "channels_last"], ...], *_LIST] = ("nchw",)  # (N, C) has but one
    passes: Annotated[tuple[Pass, ...], *_LIST] = ("train-forward", "train-backward")
    threads: Annotated[tuple[Count, ...], *_LIST] = (1,)
    compile: Annotated[tuple[bool, ...], *_LIST] = (False,)  # by torch.compile


class Bench(Frozen):
    """What a bench preset says."""

    question: str = "how fast are these norms on this machine?"
    budget: Positive = 60.0  # seconds of measuring, shared by all cases
    warm: bool = False  # arguments in the cache; otherwise many sets of them take turns, so that none is
    cases: Annotated[tuple[Grid, ...], *_LIST]


def bench_of(tree: Mapping[str, Any]) -> Bench:
    """Validate a plain tree, as YAML gives it.

    Raises:
        ConfigError: with every problem that was found.
    """
    bench = validated(Bench, dict(tree), _keys_at)
    problems = [
        Problem(("cases", number, "norms", place), message)
        for number, grid in enumerate(bench.cases)
        for place, part in enumerate(grid.norms)
        for message in misfits(part, grid)
    ]
    if problems:
        raise ConfigError(*problems)
    return bench


def misfits(part: Part, grid: Grid) -> Iterator[str]:
    """Why a norm cannot be timed on the shapes of its grid."""
    row = NORMS[part.name]
    if row.side != "activation":
        yield f"norm {part.name!r} acts on a {row.side}, not on activations; it has no case to time"
        return
    for shape in grid.shapes:
        examples, channels, *locations = sizes(shape)
        if row.needs_locations and not locations:
            yield f"norm {part.name!r} takes its statistics over locations, and {shape} has none"
        elif wrong := row.misfit(part.options, channels, locations=bool(locations)):
            yield f"norm {part.name!r}{wrong} (shape {shape})"
        elif row.batch_statistics and examples == 1 and locations in ([], [1, 1]):
            yield f"norm {part.name!r} needs more than one value a channel, and {shape} has one"


def is_bench(data: Mapping[str, Any]) -> bool:
    """Whether a plain tree is meant as a bench preset: it has cases and no variants."""
    return "cases" in data and "variants" not in data


def check_kind(data: Mapping[str, Any], wanted: Literal["study", "bench"], name: str) -> None:
    """Refuse a preset of the other kind.

    Raises:
        ConfigError: that names the command.
    """
    if wanted == "study" and is_bench(data):
        raise ConfigError(f"{name}: is a bench preset; run it by `bncli bench`")
    if wanted == "bench" and "variants" in data and "cases" not in data:
        raise ConfigError(f"{name}: is a study; run it by `bncli compare` or `bncli train`")


def _keys_at(path: Path) -> list[str]:
    return [*(Grid.model_fields if path[:1] == ("cases",) else ()), *Bench.model_fields]
