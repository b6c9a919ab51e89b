"""The numbers of a run as columns, in its folder and in memory; and what they may be."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import IO, Any

import numpy as np

from bncli.errors import StoreError, as_line
from bncli.files import digest
from bncli.records import CurveKey, Layout, Packed, Record, RunInfo, RunResult
from bncli.store.arrays import ARRAYS_BYTES, Member, list_members, read_arrays, unpack

SHARED_RECORDS = 10_000  # of a run; of more it is not remembered how they are arranged


def pack_records(run: RunResult) -> Packed:
    """A run's curves in the order in which they first appear, each in the order of its steps."""
    if isinstance(run.records, Packed):
        return run.records
    _, steps, values, *rest = columns = [*zip(*run.records, strict=True)] or [()] * len(Record._fields)
    arrange = _arrange if len(steps) <= SHARED_RECORDS else _arrange.__wrapped__
    layout, order = arrange(columns[0], steps, *rest)
    return Packed(layout, np.array(values, dtype=np.float64)[order])


@lru_cache(16)
def _arrange(metrics: Sequence[str], steps: Sequence[int], units: Sequence[str], *rest: Any) -> tuple[Layout, Any]:
    """The curves of records, and the order in which their values are those of one curve after the other."""
    unit_of: dict[tuple[Any, ...], str] = {}
    curves: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for i, (step, unit, *key) in enumerate(zip(steps, units, metrics, *rest, strict=True)):
        unit_of[*key,] = unit
        curves.setdefault((*key,), []).append((step, i))
    ordered = [sorted(curve) for curve in curves.values()]
    each = tuple(tuple(step for step, _ in curve) for curve in ordered)
    layout = Layout(tuple(CurveKey(*key) for key in unit_of), tuple(unit_of.values()), each)
    return layout, np.array([i for curve in ordered for _, i in curve], dtype=np.int64)


_NONE = -1  # in the column of indices: of no single unit
_COLUMNS: Mapping[str, Any] = {
    "metric": str, "step": np.int64, "value": np.float64, "unit": str, "layer": str, "place": str, "statistic": str,
    "index": np.int64,
}  # fmt: skip


def write_curves(file: IO[bytes], records: Sequence[Record]) -> None:
    """Write a run's records.

    Raises:
        StoreError: if they are more than can be read back.
    """
    rows = [
        (r.metric, r.step, r.value, r.unit, r.layer, r.place, r.statistic, _NONE if r.index is None else r.index)
        for r in records
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
    arrays: Any = {name: np.array(c, dtype=kind) for (name, kind), c in zip(_COLUMNS.items(), columns, strict=True)}
    if (size := sum(array.nbytes for array in arrays.values())) > ARRAYS_BYTES // 2:  # headers count too
        raise StoreError(
            f"a run's numbers may take {ARRAYS_BYTES // 2:,} bytes, not {size:,}; probe or evaluate less often"
        )
    np.savez_compressed(file, **arrays)


def read_curves(content: bytes, schema: int) -> tuple[Record, ...]:
    """Read them back, whichever schema they were written in.

    Raises:
        Exception: whatever comes of a file that is not one.
    """
    arrays = read_arrays(content)
    if schema == 1:
        old = [arrays[name].tolist() for name in ("quantity", "step", "value", "unit", "layer")]
        return tuple(
            Record(key.metric, step, value, unit, *key[1:])
            for quantity, step, value, unit, layer in zip(*old, strict=True)
            for key in [key_of_schema_1(quantity, layer)]
        )
    _check_columns(arrays)
    *columns, indices = (arrays[name].tolist() for name in _COLUMNS)
    known = [None if index == _NONE else index for index in indices]
    return tuple(Record(*row) for row in zip(*columns, known, strict=True))


def read_packed(content: bytes, schema: int) -> Packed:
    """The same as curves; runs that measured the same at the same steps share all but the values.

    Raises:
        Exception: as `read_curves`.
    """
    with suppress(Exception):  # what is not as bncli writes it today is read record by record, which says what is wrong
        return _read_columns(list_members(content))
    return pack_records(RunResult({}, RunInfo("", "done", 0), read_curves(content, schema)))


def _read_columns(members: Mapping[str, Member]) -> Packed:
    values = unpack(members["value"])
    shared = tuple(members[name] for name in _COLUMNS if name != "value")
    layout, order = (_read_shared if len(values) <= SHARED_RECORDS else _read_shared.__wrapped__)(shared)
    if values.dtype.kind != "f" or values.shape != order.shape:
        raise ValueError("column value is of another type, or not as long as the others")
    return Packed(layout, values.astype(np.float64)[order])


@lru_cache(64)
def _read_shared(members: Sequence[Member]) -> tuple[Layout, Any]:
    arrays = {member.name: unpack(member) for member in members}
    _check_columns({**arrays, "value": np.zeros(0)})
    if any(array.ndim != 1 for array in arrays.values()):
        raise ValueError("columns of several dimensions")
    metrics, steps, *rest, indices = (array.tolist() for array in arrays.values())
    return _arrange.__wrapped__(metrics, steps, *rest, [None if index == _NONE else index for index in indices])


def _check_columns(arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    if wrong := [name for name, kind in _COLUMNS.items() if arrays[name].dtype.kind != np.dtype(kind).kind]:
        raise ValueError(f"column {wrong[0]} is of another type")


def read_info(document: Mapping[str, Any]) -> RunInfo:
    """How a stored run ended, from JSON.

    Raises:
        Exception: whatever comes of a document that does not say it, or says what cannot be.
    """
    if not isinstance(document, dict) or not isinstance(document.get("seconds", {}), dict):
        raise ValueError("it does not say how the run ended, or how long it took")
    info = RunInfo(**document)
    texts = (info.id, info.status, info.reason, info.layer, info.engine, *info.fallbacks)
    if {*map(type, texts)} != {str} or isinstance(document.get("fallbacks"), str):
        raise ValueError("info has something else where there must be a text")
    if not info.has_numbers:
        raise ValueError(f"a run that is {info.status!r} is never stored")
    counts = (info.step, info.parameters, info.peak_memory, info.job_memory)
    if {*map(type, counts)} != {int} or min(counts) < 0 or max(counts) >= 2**63:
        raise ValueError("info has a step, parameters or bytes that are no whole number")
    amounts = (info.samples_per_second, *info.seconds.values())
    known = {*map(type, amounts)} <= {int, float} and all(map(math.isfinite, amounts))
    if not known or min(amounts) <= -1:  # sums round, just below 0
        raise ValueError("info has seconds or a rate that are no number")
    if not isinstance(info.environment, dict):
        raise ValueError("info has no environment")
    return info


def check_run(run: RunResult) -> None:
    """Pass if what was read of a run is what a run can be: its id, how it ended, its steps, its numbers.

    Raises:
        Exception: whatever comes of one that cannot be.
    """
    if not isinstance(run.spec, Mapping) or run_id(run.spec) != run.info.id:
        raise ValueError("its spec is that of another run")
    check_numbers(run)


def check_numbers(run: RunResult) -> None:
    """Pass if a run's steps and numbers are what its spec has asked for.

    Raises:
        Exception: whatever comes of one whose are not.
    """
    recipe, info, packed = run.spec.get("training", {}), run.info, pack_records(run)
    last, every = run.spec.get("stop", recipe.get("steps", info.step)), run.spec.get("evaluation", {}).get("every")
    ended = (info.status, info.step, last, every, bool(run.spec.get("classes")))
    least, most = _check_steps(packed.layout, *ended)
    if not ((packed.values >= least) & (packed.values <= most)).all():
        for record in packed:
            bounded = 0 <= record.value <= 1 if record.metric == "accuracy" else math.isfinite(record.value)
            if not bounded and record.metric != "parameter_norm":
                raise ValueError(f"{record.metric} at step {record.step} is {record.value}")


@lru_cache(256, typed=True)
def _check_steps(
    layout: Layout, status: str, step: int, last: int, every: int | None, classes: bool
) -> tuple[Any, Any]:
    """Pass if such curves can be of a run that ended so: asked once for all runs that share them.

    Returns:
        Of each value the least and the most that it may be: a share is within 0 and 1, all is finite but norms of
        parameters, which may overflow in a network that still works.
    """
    if step > last or (status == "done" and step != last):
        raise ValueError(f"it is {status} at step {step} of {last}")
    evaluated: dict[str, list[int]] = {}
    for key, steps in zip(layout.keys, layout.steps, strict=True):
        for measured in steps:
            if not 0 <= measured <= last or not key.metric:
                raise ValueError(f"it has {key.metric!r} of step {measured}, of {last}")
        if len({*steps}) < len(steps) or len({*layout.keys}) < len(layout.keys):
            raise ValueError("it has a number twice")
        if not key.layer:
            evaluated[key.metric] = sorted([*evaluated.get(key.metric, []), *steps])
    names = {*layout.units, *(text for key in layout.keys for text in key[:4])}
    if odd := sorted(name for name in names if not name.isprintable()):
        raise ValueError(f"it has a name that cannot be printed: {as_line(odd[0])}")
    if every is not None:
        due = [*range(0, last if status == "done" else step, every), *([last] if status == "done" else [])]
        for metric in ("loss", "accuracy") if classes else ("loss",):
            if evaluated.get(metric, []) != due:
                raise ValueError(f"{metric} was not measured at the steps at which it must have been")
    ends = {"accuracy": (0.0, 1.0), "parameter_norm": (-math.inf, math.inf)}
    largest = np.finfo(np.float64).max
    metrics = [key.metric for key, steps in zip(layout.keys, layout.steps, strict=True) for _ in steps]
    of_each = np.array([ends.get(metric, (-largest, largest)) for metric in metrics]).reshape(-1, 2)
    return of_each[:, 0].copy(), of_each[:, 1].copy()


def run_id(spec: Mapping[str, Any]) -> str:
    """What a run is called by what determined its numbers (`plan.Run.id`)."""
    return digest(spec)[:20]


@cache
def key_of_schema_1(quantity: str, layer: str) -> CurveKey:
    """Schema 1 wrote `w1:mean` and `percentile_15:unit 3`, and `hidden.0/norm` for a layer and a place in it."""
    metric, _, statistic = quantity.partition(":")
    name, _, place = layer.partition("/")
    if statistic.startswith("unit "):
        return CurveKey(metric, name, place, index=int(statistic.removeprefix("unit ")))
    return CurveKey(metric, name, place, statistic)


def migrate_findings(document: dict[str, Any]) -> dict[str, Any]:
    """A JSON document of findings, as it would have been written today; any other document as it is."""
    if document.get("schema") == "bncli/findings/1":
        runs = [{**run, "curves": list(map(_migrate_curve, run["curves"]))} for run in document["runs"]]
        document = {**document, "schema": "bncli/findings/2", "runs": runs}
    if document.get("schema") in ("bncli/shift/1", "bncli/shift/2"):
        return _migrate_shift(document)
    if document.get("schema") != "bncli/findings/2":
        return document
    arms = [{**arm, "summaries": list(map(_migrate_summary, arm["summaries"]))} for arm in document["arms"]]
    renamed = {f"superiority{end}": f"probability_of_improvement{end}" for end in ("", "_low", "_high")}
    verdicts = [{renamed.get(key, key): value for key, value in each.items()} for each in document["verdicts"]]
    notes = [{"text": text, "explanation": ""} for text in document["notes"]]
    new = {"schema": "bncli/findings/3", "arms": arms, "verdicts": verdicts, "notes": notes, "answer": "", "curves": []}
    return {**document, **new}


def _migrate_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Until schema 2 one number, `centre`, was the mean, or the median where a run had no value."""
    rest = {key: value for key, value in summary.items() if key not in ("centre", "spread", "centre_reason")}
    whole = summary["spread"] is not None or summary["reason"] == "one run has no spread"
    centre = {"mean": summary["centre"] if whole else None, "median": None if whole else summary["centre"]}
    return {
        **rest,
        **centre,
        "std": summary["spread"],
        "reason": summary["reason"].replace("spread", "standard deviation"),
    }


def _migrate_curve(curve: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: part for name, part in curve.items() if name not in ("quantity", "layer")}
    return {**key_of_schema_1(curve["quantity"], curve["layer"])._asdict(), **rest}


def _migrate_shift(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 kept curves and places otherwise; until 2 a cell's mean and std were `centre` and `spread`."""
    runs, first = document["runs"], document["schema"] == "bncli/shift/1"
    runs = [{**run, "curves": [_migrate_curve(curve) for curve in run["curves"]]} for run in runs] if first else runs
    placed = _place if first else dict
    arms = [{**arm, "cells": [_rename_cell(placed(cell)) for cell in arm["cells"]]} for arm in document["arms"]]
    parts = {key: [placed(part) for part in document[key]] for key in ("comparisons", "bands")}
    notes = [{"text": text, "explanation": ""} for text in document["notes"]]
    return {**document, **parts, "schema": "bncli/shift/3", "runs": runs, "arms": arms, "notes": notes}


def _rename_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {"centre": "mean", "spread": "std"}
    return {renamed.get(key, key): value for key, value in cell.items()}


def _place(part: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 1 wrote `hidden.0/norm` for a layer and a place in it, and of a band `unit 3` or `median of units`."""
    layer, _, place = part["layer"].partition("/")
    placed = {**part, "layer": layer, "place": place}
    if "unit" in part:
        of_one = placed.pop("unit").removeprefix("unit ")
        placed["index"] = int(of_one) if of_one.isdigit() else None
    return placed
