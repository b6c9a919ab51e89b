"""Results made elsewhere: runs read from tables and logs of other tools, as curves by variant, seed and metric."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bncli.errors import DataError

Points = tuple[tuple[int, ...], tuple[float, ...]]  # steps, ascending, and values; nan and inf as they were written

Ending = Literal["done", "diverged", "failed"]
_ENDINGS: Mapping[str, Ending | None] = {"": None, "done": "done", "diverged": "diverged", "failed": "failed"}


@dataclass(frozen=True)
class LoggedRun:
    """One run as a file says it, before anybody knows its variant and its seed."""

    name: str  # of the run: a column's text, or its path below the folder that was given
    place: str  # "runs.csv:12" or a path, for messages
    fields: Mapping[str, str]  # what is said once of the run: columns of text, hyperparameters
    curves: Mapping[str, Points]  # by metric, in the order of the columns


@dataclass(frozen=True)
class ObservedRun:
    """A run that somebody else has trained."""

    variant: str
    seed: int
    curves: Mapping[str, Points]
    status: Ending | None  # where the file says so
    budget: int | None  # steps that it was allowed, where the file says so
    setting: str  # "training.lr=0.1", where the file says so
    place: str
    classes: int = 0  # that are told apart, where the file says so: a diverged run then counts as chance
    ended: int | None = None  # the step at which it ended, where the file says so


@dataclass(frozen=True)
class Observed:
    """Every run of a file or a folder, and what the reader had to leave open, a sentence each."""

    runs: tuple[ObservedRun, ...]
    notes: tuple[str, ...]
    seeded: bool  # seeds are given: runs of one seed are pairs


def read_results(path: Path, *, variant_from: str | None = None, seed_from: str | None = None) -> Observed:
    r"""Read runs that were made elsewhere.

    Args:
        path: a table (.csv, .tsv, .jsonl; tidy, or a chart of Weights & Biases), or a folder with logs of TensorBoard,
            Lightning or the Hugging Face trainer, or with one table a run.
        variant_from: a column or a hyperparameter, or a regular expression with one group that is searched for in the
            run's name or path; None takes the column `variant`, else the run's name without its seed.
        seed_from: likewise: `seed(\d+)`; None takes the column `seed`.

    Raises:
        DataError: in one line, with file and line, for what cannot be read or says two things at once.
    """
    from bncli.observed.logs import read_folder
    from bncli.observed.tables import read_table

    if not path.exists():
        raise DataError(f"--from {path}: there is no such file or folder (looked from {Path.cwd()})")
    asked = [given for given in (variant_from, seed_from) if given]
    logs = read_folder(path, asked) if path.is_dir() else read_table(path, asked)
    if not logs:
        raise DataError(f"--from {path}: no row in it has a step and a number")
    notes: list[str] = []
    seeds = _said("seed", seed_from, logs, path)
    variants = _said("variant", variant_from, logs, path)
    if not any(variants):
        variants = [_without(log.name, seed_from) for log in logs]
        notes.append(f"variants are called as the runs are ({_few(variants)}); --variant-from says otherwise")
    seeded = any(seeds)
    if not seeded:
        counts: dict[str, int] = {}
        for index, variant in enumerate(variants):
            counts[variant] = counts.get(variant, -1) + 1
            seeds[index] = str(counts[variant])
        notes.append("no seeds are given (column seed, or --seed-from): no two runs are a pair")
    found = [_observed(log, v, s) for log, v, s in zip(logs, variants, seeds, strict=True)]
    _refuse_twins(found, path)
    return Observed(tuple(found), tuple(notes), seeded)


def _said(what: str, given: str | None, logs: Sequence[LoggedRun], path: Path) -> list[str]:
    """Every run's variant or seed, as the column or the pattern says; "" where neither is there."""
    key = given or what
    if any(key in log.fields for log in logs):
        for log in logs:
            if not log.fields.get(key, "").strip():
                raise DataError(f"--from {path}: {log.place}: its {key!r} is empty; every run needs one")
        return [log.fields[key].strip() for log in logs]
    if given is None:
        return [""] * len(logs)
    option = f"--{what}-from"
    try:
        pattern = re.compile(given)
    except re.error as error:
        raise DataError(f"{option} {given!r}: no column is called so, and it is no pattern ({error})") from None
    if pattern.groups != 1:
        known = ", ".join(dict.fromkeys(key for log in logs for key in log.fields)) or "none"
        raise DataError(
            f"{option} {given!r}: must be a column (there are: {known}), or a pattern with one group in parentheses"
            r" for the run's name, such as 'seed(\d+)'"
        )
    found = []
    for log in logs:
        match = pattern.search(log.name)
        if match is None:
            raise DataError(f"{option} {given!r}: does not match the run {log.name!r} ({log.place})")
        found.append(str(match[1]))
    return found


def _without(name: str, pattern: str | None) -> str:
    """A run's name without its seed, and what joined the two."""
    match = re.search(pattern, name) if pattern else None
    if match is None:
        return name
    left, right = name[: match.start()].rstrip("/_-. ="), name[match.end() :].lstrip("/_-. ")
    return "/".join(filter(None, [left, right])) or name


def _observed(log: LoggedRun, variant: str, seed: str) -> ObservedRun:
    try:
        number = int(float(seed)) if float(seed) == int(float(seed)) else None
    except (ValueError, OverflowError):
        number = None
    if number is None or number < 0:
        raise DataError(f"{log.place}: a seed must be a whole number, 0 or more, got {seed!r}")
    status, budget = log.fields.get("status", ""), log.fields.get("budget", "")
    if status not in _ENDINGS:
        raise DataError(f"{log.place}: a status must be done, diverged or failed, got {status!r}")
    classes = log.fields.get("classes", "") or "0"
    ended = log.fields.get("ended", "")
    for what, given in (("budget", budget or "0"), ("number of classes", classes), ("step", ended or "0")):
        if not given.isdigit():
            raise DataError(f"{log.place}: a {what} must be a whole number, got {given!r}")
    return ObservedRun(
        variant, number, log.curves, _ENDINGS[status], int(budget) if budget else None, log.fields.get("setting", ""),
        log.place, int(classes), int(ended) if ended else None,
    )  # fmt: skip


def _refuse_twins(runs: Iterable[ObservedRun], path: Path) -> None:
    seen: dict[tuple[str, int, str], ObservedRun] = {}
    for run in runs:
        key = run.variant, run.seed, run.setting
        if key in seen:
            raise DataError(
                f"--from {path}: {seen[key].place} and {run.place} are both variant {run.variant!r}, seed {run.seed};"
                " keep one of them, or tell them apart with --variant-from and --seed-from"
            )
        seen[key] = run


def _few(names: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:3]) + (f", ... {len(distinct)} in all" if len(distinct) > 3 else "")


def curve_of(points: Iterable[tuple[int, float]]) -> Points:
    """A curve of (step, value) in any order; a step that was written twice with one value counts once.

    Raises:
        ValueError: if a step has two values; says which.
    """
    found: dict[int, float] = {}
    for step, value in points:
        if step in found and found[step] != value and not (value != value and found[step] != found[step]):
            raise ValueError(f"step {step:,} has two values, {found[step]:g} and {value:g}")
        found[step] = value
    steps = sorted(found)
    return tuple(steps), tuple(found[step] for step in steps)
