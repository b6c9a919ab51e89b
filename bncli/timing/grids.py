"""Grids of cases in the words of a command line: norms with options, shapes, number formats, passes, threads."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from bncli.config.bench import Bench, DType, Grid, ImageLayout, Pass, changed, misfits, read_shape
from bncli.config.budget import MOST_CASES, written
from bncli.config.parts import Part
from bncli.config.yaml_tree import parse
from bncli.errors import ConfigError, describe, unknown
from bncli.norms import NORMS
from bncli.plugins.code import split_code
from bncli.timing.cases import Case, TimedNorm

SHAPE = "N32C64H28W28"  # where norms are given and no shape: a small layer of a residual network
MOST_THREADS = 1024
_NORM = re.compile(r"([^()]+?)\s*(?:\((.*)\))?", re.DOTALL)


@dataclass(frozen=True)
class Axes:
    """What a command line says of grids, each a list whose texts may be lists again: "f32,bf16"."""

    norm: Sequence[str] = ()
    shape: Sequence[str] = ()
    dtype: Sequence[str] = ()
    pass_: Sequence[str] = ()
    layout: Sequence[str] = ()
    threads: Sequence[str] = ()
    compile: bool | None = None


def choose_grids(bench: Bench | None, axes: Axes) -> tuple[Bench, list[str]]:
    """The grids of a preset with the axes that are given in the place of its own; without one, a grid of those alone.

    Returns:
        The bench, and the kernels among its norms, which no preset can name.

    Raises:
        ConfigError: for a value that is none, in one line that names its flag.
    """
    norms = [read_norm(text, "--norm") for text in _split("--norm", axes.norm)]
    literals = {"dtypes": (axes.dtype, DType), "layouts": (axes.layout, ImageLayout), "passes": (axes.pass_, Pass)}
    flags = {"dtypes": "dtype", "layouts": "layout", "passes": "pass"}
    given: dict[str, tuple[Any, ...]] = {
        "norms": tuple(_make_part(norm) for norm in norms if ":" not in norm[0]),
        "shapes": tuple(_read_shape(text) for text in _split("--shape", axes.shape)),
        **{key: tuple(_read_name(flags[key], text, get_args(kind)) for text in _split(f"--{flags[key]}", texts))
           for key, (texts, kind) in literals.items()},
        "threads": tuple(_read_threads(text) for text in _split("--threads", axes.threads)),
        "compile": () if axes.compile is None else (axes.compile,),
    }  # fmt: skip
    chosen = {key: values for key, values in given.items() if values or (key == "norms" and norms)}
    bench = bench or Bench(cases=(Grid(norms=(Part(name="none", options={}),), shapes=(SHAPE,)),))
    if not chosen:
        return bench, []
    grids = tuple(grid.model_copy(update=chosen) for grid in bench.cases)
    if (cases := sum(grid.count() for grid in grids)) > MOST_CASES:
        raise ConfigError(f"{written(cases)} combinations; at most {MOST_CASES:,} at once: list less")
    _check_fits(grids, "--norm" if norms else "--shape")
    return bench.model_copy(update={"cases": grids}), [name for name, _ in norms if ":" in name]


def check_rival(rival: TimedNorm, cases: Sequence[Case]) -> None:
    """Refuse a norm that cannot be timed on the shapes of these cases.

    Raises:
        ConfigError: that says on which.
    """
    shapes = dict.fromkeys(case.setting["shape"] for case in cases)
    if ":" not in rival[0] and (problem := next(misfits(_make_part(rival), shapes), "")):
        raise ConfigError(f"--vs {rival[0]}: {problem}")


def _check_fits(grids: Sequence[Grid], flag: str) -> None:
    for grid in grids:
        for part in grid.norms:
            if problem := next(misfits(part, grid.shapes), ""):
                raise ConfigError(f"{flag}: {problem}")


def read_norm(text: str, flag: str) -> TimedNorm:
    """`group`, `group(groups=8)`, `FILE.py:NAME` or `MODULE:NAME`.

    Raises:
        ConfigError: for no such norm, option or value, or code that is written otherwise; `flag` begins the message.
    """
    found = _NORM.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"{flag} {text}: expected NORM or NORM(OPTION=VALUE), as group(groups=8), or FILE.py:NAME")
    name, inner = found[1], found[2]
    if ":" in name:
        split_code(name, flag)
        if inner is not None:
            raise ConfigError(f"{flag} {text}: code is called with the number of channels alone, and takes no options")
        return name, ()
    if name not in NORMS:
        key = name.partition("=")[0].strip()
        if "=" in name and key in {key for row in NORMS.values() for key in row.options}:
            raise ConfigError(f"{flag} {text}: an option stands in parentheses behind its norm, as in group(groups=8)")
        raise ConfigError(f"{flag}: {unknown('norm', name, NORMS)}; or give FILE.py:NAME or MODULE:NAME")
    try:
        return name, changed(_make_part((name, tuple(_read_options(inner or "")))))
    except ConfigError as error:
        raise ConfigError(*(f"{flag} {text}: {describe(problem)}" for problem in error.problems)) from None


def _make_part(norm: TimedNorm) -> Part:
    name, options = norm
    return Part(name=name, options=NORMS.options(name, dict(options)))


def _read_options(text: str) -> Iterator[tuple[str, Any]]:
    for piece in split_list(text):
        key, equals, value = piece.partition("=")
        try:
            values = parse(f"[{value}]").data if equals else None
        except ConfigError:
            values = None
        if not values or len(values) > 1:
            raise ConfigError(f"expected OPTION=VALUE in the parentheses, as in group(groups=8), got {piece!r}")
        yield key.strip(), values[0]


def _read_shape(text: str) -> str:
    try:
        return read_shape(text)
    except ValueError as error:
        raise ConfigError(f"--shape: {error}") from None


def _read_name(flag: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise ConfigError(f"--{flag}: {unknown(flag, text, known, in_order=True)}")
    return text


def _read_threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_THREADS):
        raise ConfigError(f"--threads: must be a whole number from 1 to {MOST_THREADS:,}, got {text!r}")
    return int(text)


def _split(flag: str, texts: Sequence[str]) -> list[str]:
    for text in texts:
        if not split_list(text):
            raise ConfigError(f"{flag}: expected a value, or several with commas, got {text!r}")
    return [piece for text in texts for piece in split_list(text)]


def split_list(text: str) -> list[str]:
    """The pieces between commas that stand in no brackets; no empty ones."""
    pieces, depth = [""], 0
    for letter in text:
        depth = max(depth + (letter in "([{") - (letter in ")]}"), 0)
        if letter == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece.strip() for piece in pieces if piece.strip()]
