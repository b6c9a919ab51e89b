"""The published schema says what documents are: those made here keep it, and a wrong one does not."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from analysis.made_runs import arm_of, ask_of, reaching, run_of

from bncli.analysis import ArmRuns, analyse
from bncli.analysis.readers import TrialRuns
from bncli.findings import Claim
from bncli.records import StudyRun
from bncli.report.study.json import document, dumps

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema.json").read_text())
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def errors(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """What of JSON Schema the published one uses; every violation with its place."""
    if "$ref" in schema:
        return errors(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], at)
    if "anyOf" in schema:
        tried = [errors(value, one, at) for one in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    if "const" in schema or "enum" in schema:
        return [] if value in schema.get("enum", [schema.get("const")]) else [f"{at}: {value!r}"]
    kinds = schema.get("type", list(TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not any(isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds):
        return [f"{at}: {value!r} is no {kinds}"]
    if isinstance(value, list):
        return [e for i, item in enumerate(value) for e in errors(item, schema.get("items", {}), f"{at}[{i}]")]
    return _object_errors(value, schema, at) if isinstance(value, dict) else []


def _object_errors(value: dict[str, Any], schema: dict[str, Any], at: str) -> list[str]:
    found = [f"{at}: lacks {key}" for key in schema.get("required", []) if key not in value]
    for key, item in value.items():
        patterns = [s for pattern, s in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
        known = schema.get("properties", {}).get(key) or next(iter(patterns), schema.get("additionalProperties", {}))
        found += (
            [f"{at}: {key} is unknown"]
            if known is False
            else errors(item, {} if known is True else known, f"{at}.{key}")
        )
    return found


@pytest.fixture(scope="module")
def made() -> Any:
    """Findings with all that they can hold: censored and diverged runs, a claim, a tuning that diverged."""
    diverged = run_of({0: 0.1}, {0: 2.3}, status="diverged", step=30)
    trials = {s: [(0.1, run_of({0: 0.1, 1000: 0.9}, {0: 2.3, 1000: 1.0})), (1.0, diverged)] for s in (1000, 1001)}
    arms = [
        ArmRuns("none", {"training.batch_size": 60}, {0: reaching(900), 1: reaching(None)}, trials),
        arm_of("batch", [reaching(400), diverged], {"training.batch_size": 60}),
    ]
    claims = (
        Claim("steps_to_target", "batch", "none", {}, "ratio", 0.6, None, "us"),
        Claim("best_accuracy", "none", None, {}, "level", None, 0.1, "us"),  # of a measure that no table has
    )
    ask = ask_of("steps_to_target", "final_accuracy", "final_loss", "usable_range")
    return analyse(arms, dataclasses.replace(ask, claims=claims, searched="training.lr", chosen_by="validation_loss"))


def test_a_document_of_a_search_keeps_the_schema_also_where_trials_diverged_or_are_too_few() -> None:
    ends = [run_of({0: 0.1}, {0: 2.3}, status="diverged", step=30), *(run_of({}, {0: 2.3, 9: i / 9}) for i in range(9))]
    trials = [TrialRuns({"training.lr": i + 1.0, "model.depth": i % 2}, [{1000: run}]) for i, run in enumerate(ends)]
    space = {"training.lr": {"log": [1.0, 10.0]}, "model.depth": [0, 1]}
    ask = dataclasses.replace(ask_of("final_accuracy"), chosen_by="validation_loss", space=space, sampler="halton")
    made = json.loads(dumps(document(analyse([ArmRuns("none", {}, {0: reaching(900)}, trials=trials)], ask))))
    (search,) = made["searches"]
    assert errors(made, SCHEMA) == []
    assert search["trials"][0]["median_reason"] == "a number that was not finite is null"
    assert [weight.get("share_reason") for weight in search["importances"]] == ["10 trials; it takes 20", None]


def test_a_document_keeps_the_schema(made: Any) -> None:
    assert errors(json.loads(dumps(document(made))), SCHEMA) == []


def test_a_whole_document_keeps_the_schema(made: Any) -> None:
    runs = [StudyRun("none", {}, 0, "x", run_of({}, {0: 2.3, 9: float("nan")})), StudyRun("none", {}, 1, "y", None)]
    assert errors(json.loads(dumps(document(made, {"seeds": (0, 1)}, runs))), SCHEMA) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"schema": "bncli/findings/0"}, "$: 'bncli/findings/0'"),
        ({"verdict": []}, "$: verdict is unknown"),
        ({"headlines": [1]}, "$.headlines[0]: 1 is no ['string']"),
    ],
)
def test_what_is_not_in_the_schema_is_refused(made: Any, change: dict[str, Any], error: str) -> None:
    assert [e.replace("$.schema", "$") for e in errors(json.loads(dumps(document(made))) | change, SCHEMA)] == [error]


def test_every_measure_says_unit_direction_and_scale() -> None:
    assert set(SCHEMA["$defs"]["Measure"]["required"]) >= {"unit", "direction", "scale"}
