"""Tables of runs: tidy CSV or JSON lines, one row a run and step; and charts that Weights & Biases exports."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bncli.errors import DataError
from bncli.observed import LoggedRun, Points, curve_of

STEPS = ("step", "_step", "global_step", "trainer/global_step", "iteration", "iter", "epoch")  # the first there is
RUN = ("run", "run_name", "run_id", "name")  # who calls a run by a name of its own
OURS = ("variant", "seed", "setting", "status", "budget", "classes", "ended")
TIMES = ("wall time", "wall_time", "_timestamp", "_runtime", "timestamp", "time", "relative time")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class TableLine:
    """One line of a table."""

    line: int  # of the file, from 1
    cells: Mapping[str, str]  # by column; empty cells are left out


def read_table(path: Path, asked: Sequence[str] = (), name: str = "") -> list[LoggedRun]:
    """The runs of one table.

    Args:
        path: .csv, .tsv or .jsonl.
        asked: columns that are a variant or a seed, whatever they are called.
        name: of the run, in a table that names none.

    Raises:
        DataError: in one line, with the line of the file.
    """
    columns, rows = _read(path)
    step = next((c for wanted in STEPS for c in columns if c.lower() == wanted), None)
    if step is None:
        raise DataError(f"{path}: has no column of steps (one of {', '.join(STEPS)}); it has {_listed(columns)}")
    others = [column for column in columns if column != step]
    if others and path.suffix != ".jsonl" and all(" - " in column for column in others):
        return _chart(path, rows, step)
    keys = [c for c in columns if c in (*OURS, *asked) or c.lower() in RUN]
    runs: dict[tuple[str, ...], list[TableLine]] = {}
    for row in rows:
        runs.setdefault(tuple(row.cells.get(key, "") for key in keys if key in OURS[:3] or key not in OURS), []).append(
            row
        )
    ignored = [c for c in columns if c.lower() in (*TIMES, *STEPS)]
    texts = [c for c in columns if c not in (*keys, *ignored) and not _starts_with_number(c, rows)]
    metrics = [c for c in columns if c not in (*keys, *ignored, *texts)]
    if not metrics:
        raise DataError(f"{path}: has no column of numbers beside {step!r}; it has {_listed(columns)}")
    return [_log(path, same, step, metrics, [*keys, *texts], name) for same in runs.values()]


def _log(
    path: Path, rows: Sequence[TableLine], step: str, metrics: Sequence[str], fields: Sequence[str], name: str
) -> LoggedRun:  # fmt: skip
    said = {key: next((row.cells[key] for row in rows if key in row.cells), "") for key in fields}
    called = next((said[key] for key in said if key.lower() in RUN), "") or name or path.stem
    place = f"{path.name}:{rows[0].line}"
    points = [(row, _step(path, row, step)) for row in rows]
    curves: dict[str, Points] = {}
    for metric in metrics:
        found = [(at, _number(path, row, metric)) for row, at in points if metric in row.cells]
        try:
            if found:
                curves[metric] = curve_of(found)
        except ValueError as error:
            which = ", ".join(f"{key} {said[key]}" for key in said if key in OURS[:3]) or called
            raise DataError(f"{path}: {metric} of {which}: {error}; one row a run and step") from None
    return LoggedRun(called, place, said, curves)


def _chart(path: Path, rows: Sequence[TableLine], step: str) -> list[LoggedRun]:
    """Columns `RUN - METRIC`, with `...__MIN` and `...__MAX` that are dropped."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        at = _step(path, row, step)
        for column in row.cells:
            if column == step or column.endswith(("__MIN", "__MAX")):
                continue
            value = _number(path, row, column)
            bounds = [_number(path, row, column + end) for end in ("__MIN", "__MAX") if column + end in row.cells]
            if column.startswith("Group: ") or any(not math.isclose(value, bound, rel_tol=1e-6) for bound in bounds):
                raise DataError(
                    f"{path}:{row.line}: column {column!r} is an average over a group of runs (its __MIN and __MAX"
                    " differ from it), and no run's own numbers are there; export the chart ungrouped"
                )
            run, _, metric = column.rpartition(" - ")
            found.setdefault(run, {}).setdefault(metric, []).append((at, value))
    return [
        LoggedRun(run, path.name, {}, {m: curve_of(points) for m, points in of.items()}) for run, of in found.items()
    ]


def _read(path: Path) -> tuple[list[str], list[TableLine]]:
    """Columns, those with nothing in them as well, and rows."""
    columns: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_objects(path, file) if path.suffix in (".jsonl", ".ndjson") else _lines(path, file, columns))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8 (byte {error.start:,}); expected a table") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not rows:
        raise DataError(f"{path}: is empty; expected a first line with columns such as variant,seed,step,accuracy")
    return list(dict.fromkeys([*columns, *(column for row in rows for column in row.cells)])), rows


def _lines(path: Path, file: Any, columns: list[str]) -> Iterator[TableLine]:
    first = file.readline()
    delimiter = "\t" if path.suffix == ".tsv" else max(",;\t", key=first.count)
    file.seek(0)
    reader = csv.reader(file, delimiter=delimiter)
    columns += [column.strip() for column in next(reader, [])]
    if twice := next((c for c in columns if columns.count(c) > 1), None):
        raise DataError(f"{path}:1: column {twice!r} is there twice")
    for cells in reader:
        if len(cells) > len(columns):
            raise DataError(f"{path}:{reader.line_num}: has {len(cells)} cells under {len(columns)} columns")
        if found := {c: cell.strip() for c, cell in zip(columns, cells, strict=False) if cell.strip()}:
            yield TableLine(reader.line_num, found)


def _objects(path: Path, file: Any) -> Iterator[TableLine]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: is no JSON ({error!s:.80}); expected one object a line") from None
        if not isinstance(given, dict):
            raise DataError(f"{path}:{number}: expected an object, got {line.strip():.40}")
        yield TableLine(number, flat(given))


def flat(given: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Cells of a JSON object: what is nested gets dotted names; lists and nulls are left out."""
    found: dict[str, str] = {}
    for key, value in given.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        elif isinstance(value, str | int | float):
            found[f"{above}{key}"] = str(value)
    return found


def _starts_with_number(column: str, rows: Sequence[TableLine]) -> bool:
    first = next((row.cells[column] for row in rows if column in row.cells), "")
    try:
        float(first)
    except ValueError:
        return False
    return True


def _number(path: Path, row: TableLine, column: str) -> float:
    try:
        return float(row.cells[column])
    except ValueError:
        raise DataError(
            f"{path}:{row.line}: {column}: expected a number, got {row.cells[column]!r:.40}; leave a cell empty where"
            " nothing was measured"
        ) from None


def _step(path: Path, row: TableLine, column: str) -> int:
    if column not in row.cells:
        raise DataError(f"{path}:{row.line}: its {column!r} is empty; every row needs a step")
    value = _number(path, row, column)
    if not (math.isfinite(value) and value == int(value) and value >= 0):
        raise DataError(f"{path}:{row.line}: {column}: expected a whole number, 0 or more, got {row.cells[column]!r}")
    return int(value)


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(islice(columns, 8))
    return (shown or "no columns") + (", ..." if len(columns) > 8 else "")
