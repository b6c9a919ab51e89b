"""The numbers of a run as columns of one file, a row a record; what older schemas wrote is migrated at read."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import IO, Any

import numpy as np

from bncli.records import CurveKey, Record

_NONE = -1  # in the column of indices: of no single unit
_COLUMNS: Mapping[str, Any] = {
    "metric": str, "step": np.int64, "value": np.float64, "unit": str, "layer": str, "place": str, "statistic": str,
    "index": np.int64,
}  # fmt: skip


def write_curves(file: IO[bytes], records: Sequence[Record]) -> None:
    """Write a run's records."""
    rows = [
        (r.metric, r.step, r.value, r.unit, r.layer, r.place, r.statistic, _NONE if r.index is None else r.index)
        for r in records
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
    arrays = {name: np.array(c, dtype=kind) for (name, kind), c in zip(_COLUMNS.items(), columns, strict=True)}
    np.savez_compressed(file, allow_pickle=False, **arrays)


def read_curves(file: IO[bytes], schema: int) -> tuple[Record, ...]:
    """Read them back, whichever schema they were written in.

    Raises:
        Exception: whatever comes of a file that is not one.
    """
    with np.load(file, allow_pickle=False) as arrays:
        if schema == 1:
            old = [arrays[name].tolist() for name in ("quantity", "step", "value", "unit", "layer")]
            return tuple(
                Record(key.metric, step, value, unit, *key[1:])
                for quantity, step, value, unit, layer in zip(*old, strict=True)
                for key in [key_of_schema_1(quantity, layer)]
            )
        *columns, indices = (arrays[name].tolist() for name in _COLUMNS)
        known = [None if index == _NONE else index for index in indices]
        return tuple(Record(*row) for row in zip(*columns, known, strict=True))


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
    if document.get("schema") != "bncli/findings/1":
        return document
    runs = [{**run, "curves": list(map(_migrate_curve, run.get("curves", ())))} for run in document.get("runs", ())]
    return {**document, "schema": "bncli/findings/2", "runs": runs}


def _migrate_curve(curve: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: part for name, part in curve.items() if name not in ("quantity", "layer")}
    return {**key_of_schema_1(curve["quantity"], curve["layer"])._asdict(), **rest}
