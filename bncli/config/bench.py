"""A bench preset: which norms are timed, on what, in which passes, for how long, and what is claimed of them."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from bncli.catalogue import WHOLE, Meaning, Spelling
from bncli.config.asking import ANY_KEYS, Bounds
from bncli.config.budget import MOST_CASES, MOST_NUMBERS, written
from bncli.config.parts import Frozen, Listed, NormPart, Part, validated
from bncli.errors import ConfigError, Problem, did_you_mean
from bncli.norms import NORMS

Pass = Literal["train-forward", "train-backward", "train-both", "eval-forward"]
DType = Literal["f32", "f64", "bf16", "f16"]
ImageLayout = Literal["nchw", "channels_last"]
_SIZE = "[1-9][0-9]*"
_SHAPE = re.compile(rf"N({_SIZE})C({_SIZE})(?:H({_SIZE})W({_SIZE}))?|({_SIZE})x({_SIZE})(?:x({_SIZE})x({_SIZE}))?")


def sizes(shape: str) -> tuple[int, ...]:
    """`N32C64H56W56` or `32x64x56x56` to (32, 64, 56, 56), `N256C512` or `256x512` to (256, 512).

    Raises:
        ValueError: if it is written otherwise.
    """
    found = _SHAPE.fullmatch(shape)
    if not found:
        raise ValueError(f"must be written like N32C64H56W56, 32x64x56x56 or N256C512, got {shape!r}")
    return tuple(int(size) for size in found.groups() if size)


def read_shape(given: str) -> str:
    """A shape as names of cases write it, `N32C64H56W56`.

    Raises:
        ValueError: if it is written otherwise, or too much.
    """
    if any(len(digits) > 9 for digits in re.findall("[0-9]+", given)) or prod(sizes(given)) > MOST_NUMBERS:
        raise ValueError(f"at most {MOST_NUMBERS:,} numbers can be timed, got {given[:60]}; give fewer examples")
    return "".join(f"{axis}{size}" for axis, size in zip("NCHW", sizes(given), strict=False))


def _listed(given: object) -> object:
    """One value stands for a list of it."""
    return tuple(given) if isinstance(given, list | tuple) else (given,)


Threads = Annotated[int, Field(ge=1, le=1_024), WHOLE]
_LIST = (Field(min_length=1, strict=False), BeforeValidator(_listed), Listed())
BenchShape = Annotated[
    str,
    AfterValidator(read_shape),
    Spelling("like N32C64H56W56, 32x64x56x56 or N256C512", {"type": "string", "pattern": f"^(?:{_SHAPE.pattern})$"}),
]


AXES = ("shape", "dtype", "layout", "pass", "threads", "compile")  # of a grid, beside its norms


class Grid(Frozen):
    """Every combination of its lists is a case; a list of one may be written as its value."""

    norms: Annotated[tuple[NormPart, ...], *_LIST, Meaning("what is timed")]
    shapes: Annotated[tuple[BenchShape, ...], *_LIST, Meaning("of the inputs: examples, channels, height, width")]
    dtypes: Annotated[tuple[DType, ...], *_LIST, Meaning("of the inputs: float32, ...")] = ("f32",)
    layouts: Annotated[tuple[ImageLayout, ...], *_LIST, Meaning("of images in memory; (N, C) has but one")] = ("nchw",)
    passes: Annotated[tuple[Pass, ...], *_LIST, Meaning("what of a training step, or an evaluation, is timed")] = (
        "train-forward",
        "train-backward",
    )
    threads: Annotated[tuple[Threads, ...], *_LIST, Meaning("that compute, on a CPU", "threads")] = (1,)
    compile: Annotated[tuple[bool, ...], *_LIST, Meaning("by torch.compile")] = (False,)

    def count(self) -> int:
        """How many cases it has, if none of its lists repeats itself."""
        return prod(len(each) for _, each in self)

    def settings(self) -> Iterator[dict[str, Any]]:
        """Every combination of its lists but the norms, by axis."""
        for shape, dtype, layout, *rest in product(
            self.shapes, self.dtypes, self.layouts, self.passes, self.threads, self.compile
        ):
            placed = layout if len(sizes(shape)) > 2 else "nc"
            yield dict(zip(AXES, (shape, dtype, placed, *rest), strict=True))


RIVALS = {"torch": "native", "copy": "copy"}  # as claims call them -> as measurements do


class KernelClaim(Frozen):
    """A ratio of times that is said to hold; `bncli bench --check` confirms or refutes it, or leaves it open."""

    of: Annotated[str, Meaning("a norm as case names begin: `batch`, or `batch,impl=plain`")]
    versus: Annotated[str, Meaning("another such, or a rival: torch (its batch norm), or copy (of the same bytes)")] = (
        "torch"
    )
    at: Annotated[
        dict[str, Any],
        ANY_KEYS,
        Meaning(f"axes ({', '.join(AXES)}) and their values; any others: at each"),
    ] = Field(default_factory=dict)
    ratio: Annotated[Bounds, Meaning("time of `of` over time of `versus`")]
    source: Annotated[str, Field(min_length=1), Meaning("who says so, and where")]

    @field_validator("at")
    @classmethod
    def placed(cls, at: dict[str, Any]) -> dict[str, Any]:
        """A shape as grids have it, however it is written."""
        shape = at.get("shape")
        return {**at, "shape": read_shape(shape)} if isinstance(shape, str) else at


MOST_SECONDS = 7 * 24 * 3600  # of measuring: a week


class Bench(Frozen):
    """What a bench preset says."""

    question: Annotated[str, Meaning("what is asked, in words")] = "how fast are these norms on this machine?"
    budget: Annotated[float, Field(gt=0, le=MOST_SECONDS), Meaning("of measuring, shared by all cases", "seconds")] = (
        60.0
    )
    warm: Annotated[
        bool, Meaning("leave the arguments in the cache; otherwise many sets of them rotate, so that none is there")
    ] = False
    truth: Annotated[
        NormPart | None, Meaning("what kernels from the command line must compute; null: found by their names")
    ] = None
    cases: Annotated[tuple[Grid, ...], *_LIST, Meaning("grids: every combination of a grid's lists is timed")]
    claims: Annotated[
        tuple[KernelClaim, ...],
        Field(strict=False, max_length=1_000),
        Meaning("what is said to hold; judged by `bncli bench --check`"),
    ] = ()


def changed(part: Part) -> tuple[tuple[str, Any], ...]:
    """A norm's options that differ from its defaults."""
    known = NORMS[part.name].options
    return tuple((key, value) for key, value in part.options.items() if value != known[key].default)


def label(norm: str, options: Sequence[tuple[str, Any]]) -> str:
    """How a case's name begins: `batch,impl=plain`."""
    return ",".join([norm, *(f"{key}={_written(value)}" for key, value in options)])


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def bench_of(tree: Mapping[str, Any]) -> Bench:
    """Validate a plain tree, as YAML gives it.

    Raises:
        ConfigError: with every problem that was found.
    """
    bench = validated(Bench, dict(tree))
    cases = sum(grid.count() for grid in bench.cases)
    if cases > MOST_CASES:
        said = f"{written(cases)} combinations; at most {MOST_CASES:,} in one preset"
        raise ConfigError(Problem(("cases",), f"{said}: list less, or split it over several"))
    problems = [
        Problem(("cases", number, "norms", place), message)
        for number, grid in enumerate(bench.cases)
        for place, part in enumerate(grid.norms)
        for message in misfits(part, grid.shapes)
    ]
    shapes = list(dict.fromkeys(shape for grid in bench.cases for shape in grid.shapes))
    problems += [Problem(("truth",), message) for message in (misfits(bench.truth, shapes) if bench.truth else ())]
    problems += claim_problems(bench.claims, bench.cases)
    if problems:
        raise ConfigError(*problems)
    return bench


def misfits(part: Part, shapes: Iterable[str]) -> Iterator[str]:
    """Why a norm cannot be timed on inputs of these shapes."""
    row = NORMS[part.name]
    if row.side != "activation":
        yield f"norm {part.name!r} acts on a {row.side}, not on activations; it has no case to time"
        return
    for shape in shapes:
        examples, channels, *locations = sizes(shape)
        last = part.options.get("over") == "last" and bool(locations)
        if row.needs_locations and prod(locations) < 2:
            few = "1" if locations else "none"
            yield f"norm {part.name!r} takes its statistics over locations, and {shape} has {few}"
        elif last and locations[-1] != channels:
            yield f"norm {part.name!r}: over=last normalises the last axis, and that of {shape} is not {channels}"
        elif wrong := row.misfit(part.options, channels, locations=prod(locations) > 1 and not last):
            yield f"norm {part.name!r}{wrong} (shape {shape})"
        elif row.batch_statistics and examples == 1 and locations in ([], [1, 1]):
            yield f"norm {part.name!r} needs more than one value a channel, and {shape} has one"


def claim_problems(claims: Sequence[KernelClaim], grids: Sequence[Grid]) -> Iterator[Problem]:
    """Claims about norms or settings that no grid has."""
    timed = [[label(part.name, changed(part)) for part in grid.norms] for grid in grids]
    known = list(dict.fromkeys(name for names in timed for name in names))
    for i, claim in enumerate(claims):
        if why := claim.ratio.says_nothing(0, math.inf):
            yield Problem(("claims", i, "ratio"), f"{why}, as every ratio of times does")
        names = [("of", claim.of, known), ("versus", claim.versus, [*known, *RIVALS])]
        names += [("at", axis, list(AXES)) for axis in claim.at]
        strange = [(key, name, those) for key, name, those in names if name not in those]
        for key, name, those in strange:
            what = "is no axis of a grid" if key == "at" else "is not timed"
            yield Problem(("claims", i, key), f"{name!r} {what}{did_you_mean(name, those)} (known: {', '.join(those)})")
        beside = [name for name in (claim.of, claim.versus) if name not in RIVALS]
        places = [
            {tuple(setting.values()) for grid, here in zip(grids, timed, strict=True) if name in here
             for setting in grid.settings() if claim.at.items() <= setting.items()}
            for name in beside
        ]  # fmt: skip
        if not strange and not set.intersection(*places):
            yield Problem(("claims", i, "at"), f"no grid times {' beside '.join(beside)} there")


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
