"""What a gate asks of a baseline, whoever has written it."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from bncli.records import CurveKey, read_run_document
from bncli.store.pack import check_numbers, check_run, read_info


def check_baseline(document: Mapping[str, Any]) -> None:
    """Pass if a baseline has what a gate asks of it: of learning, its runs with their numbers; of timing, readings.

    Raises:
        Exception: whatever comes of one that has not.
    """
    schema = document.get("schema")
    if type(schema) is int:  # of timing, which says itself which schemas it reads
        _expect(
            isinstance(document["machine"], Mapping) and bool(document["readings"]), "it has no machine, no readings"
        )
        for of_case in document["readings"].values():
            for values in of_case.values():
                _expect(bool(values), "a case has no readings")
                for ratio, seconds in values:
                    _expect(_is_number(ratio) and _is_number(seconds) and ratio > 0, "a reading is no number")
        return
    _expect(schema == "bncli/findings/3", f"schema {schema!r} is not that of a baseline")
    _expect(isinstance(document["runs"], list) and bool(document["runs"]), "it has no runs")
    measures = [measure["name"] for measure in document["measures"]]
    held = Counter[str]()  # runs of each arm that have values
    for run in document["runs"]:
        _expect(isinstance(run["variant"], str) and type(run["seed"]) is int, "a run has no variant or no seed")
        _expect(isinstance(run["setting"], Mapping), "a run has no setting")
        if run["info"] is None:
            continue
        read_info(run["info"])
        _expect(isinstance(run["spec"], Mapping), "a run has no spec")
        _expect(run["id"] == run["info"]["id"], "a run has the id of another")
        if run["values"]:
            held[_name_arm(run)] += 1
            _expect(sorted(run["values"]) == sorted(measures), "a run lacks a measure of the study, or has another")
        for value in (run["values"] or {}).values():
            _expect(value.keys() == {"value", "low", "high", "reason"}, "a run has a value without bounds or reason")
            _expect(all(n is None or _is_number(n) for n in [*value.values()][:3]), "a run's value is no number")
        for curve in run["curves"]:
            _expect(curve.keys() >= {*CurveKey._fields}, "a curve does not say what it is of")
            _expect(all(type(step) is int for step in curve["steps"]), "a step is no whole number")
            _expect(all(n is None or _is_number(n) for n in curve["values"]), "a curve has something else than numbers")
            _expect(len(curve["steps"]) == len(curve["values"]), "a curve has more steps than values, or fewer")
        (check_run if "evaluation" in run["spec"] else check_numbers)(read_run_document(run))  # else made elsewhere
    study = document["study"] or {}
    if any(study.get(key) for key in ("tune", "bisect", "search")):  # its trials may be runs of its arms too
        return
    runs = Counter(f"{_name_arm(run)} seed {run['seed']}" for run in document["runs"])
    _expect(max(runs.values()) == 1, f"it has a run twice: {runs.most_common(1)[0][0]}")
    for arm in document["arms"]:
        name, count = _name_arm(arm), arm["seeds"]
        _expect(held[name] == count, f"it has {held[name]} runs of {name}, of {count}")
        del held[name]
    _expect(not held, f"it has runs of {next(iter(held), '')}, and no such arm")


def _name_arm(of: Mapping[str, Any]) -> str:
    setting = json.dumps(of["setting"], sort_keys=True) if of["setting"] else ""
    return f"{of['variant']} {setting}".rstrip()


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
