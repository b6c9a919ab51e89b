"""Many runs in one file, which a store keeps beside its records so that thousands are read in a second."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bncli.records import CurveKey, Layout, Packed, RunInfo, RunResult

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
