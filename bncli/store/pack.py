"""The numbers of runs as columns: of one run in its folder, of thousands in a pack that is read in a second."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import IO, Any

import numpy as np

from bncli.records import CurveKey, Layout, Packed, Record, RunInfo, RunResult

VERSION = 2  # a pack of another is made anew


@dataclass(frozen=True)
class Pack:
    """Runs by id, each with the time at which its folder was made (ns): another time is another run."""

    runs: Mapping[str, RunResult]
    made: Mapping[str, int]

    def dump(self) -> bytes:
        """As one file: the documents as JSON, the values of all runs with the same curves as one array."""
        layouts: dict[Layout, list[str]] = {}
        packed = {run_id: _packed(run) for run_id, run in self.runs.items()}
        for run_id, records in packed.items():
            layouts.setdefault(records.layout, []).append(run_id)
        groups = [
            {"keys": layout.keys, "units": layout.units, "steps": layout.steps, "ids": ids}
            for layout, ids in layouts.items()
        ]
        documents = {
            run_id: {"spec": run.spec, "info": asdict(run.info), "made": self.made[run_id]}
            for run_id, run in self.runs.items()
        }
        text = json.dumps({"version": VERSION, "groups": groups, "documents": documents}, allow_nan=False)
        values: Any = {
            f"values_{i}": np.array([packed[run_id].values for run_id in ids], dtype=np.float64)
            for i, ids in enumerate(layouts.values())
        }
        file = io.BytesIO()
        np.savez(file, text=np.frombuffer(text.encode(), dtype=np.uint8), **values)
        return file.getvalue()


def load_pack(content: bytes) -> Pack:
    """The inverse of `Pack.dump`.

    Raises:
        Exception: whatever comes of a file that is not one, or of another version: it is to be made anew.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        whole = json.loads(arrays["text"].tobytes())
        if whole["version"] != VERSION:
            raise ValueError(f"version {whole['version']}")
        runs, documents = {}, whole["documents"]
        for i, group in enumerate(whole["groups"]):
            keys = tuple(CurveKey(*key) for key in group["keys"])
            layout = Layout(keys, tuple(group["units"]), tuple(map(tuple, group["steps"])))
            for run_id, row in zip(group["ids"], arrays[f"values_{i}"], strict=True):
                found = documents[run_id]
                runs[run_id] = RunResult(found["spec"], RunInfo(**found["info"]), Packed(layout, row))
    return Pack(runs, {run_id: document["made"] for run_id, document in documents.items()})


def _packed(run: RunResult) -> Packed:
    """A run's curves in the order in which they first appear, each in the order of its steps."""
    if isinstance(run.records, Packed):
        return run.records
    units: dict[CurveKey, str] = {}
    curves: dict[CurveKey, list[tuple[int, float]]] = {}
    for record in run.records:
        key = record.key
        units[key] = record.unit
        curves.setdefault(key, []).append((record.step, record.value))
    ordered = [sorted(curve) for curve in curves.values()]
    layout = Layout(tuple(units), tuple(units.values()), tuple(tuple(step for step, _ in curve) for curve in ordered))
    return Packed(layout, np.array([value for curve in ordered for _, value in curve], dtype=np.float64))


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
