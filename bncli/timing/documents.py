"""Cases, results and records as JSON has them, read back; also under the names that some keys had at first."""

import math
from collections.abc import Mapping
from typing import Any

from bncli.errors import StoreError
from bncli.timing.cases import Case, Work
from bncli.timing.results import (
    BenchRecord,
    BenchRow,
    CaseFailure,
    CaseJudgement,
    CaseResult,
    Correctness,
    Estimate,
    Facts,
    GateResult,
    KernelJudgement,
    KernelShare,
    Rates,
)

SCHEMA = "bncli/bench/2"  # of the document that `bncli bench --json` writes
_OLD_SCHEMA = "bncli/bench/1"
OLD_NAMES = {  # what keys were called in documents of that schema, and still are between processes
    "clones": "argument_copies",
    "ran": "implementation",
    "whole": "complete",
    "again": "remeasurements",
    "measured_again": "remeasured",
}


def read_case(document: Mapping[str, Any]) -> Case:
    """The inverse of `asdict`, also after JSON has made lists of tuples."""
    options = tuple((key, freeze(value)) for key, value in document["options"])
    versus = document.get("versus") and (document["versus"][0], freeze(document["versus"][1]))
    return Case(**{**document, "options": options, "shape": tuple(document["shape"]), "versus": versus})


def freeze(value: Any) -> Any:
    """Lists, in lists too, as the tuples that they were."""
    return tuple(map(freeze, value)) if isinstance(value, list) else value


def read_result(document: Mapping[str, Any]) -> CaseResult:
    """The inverse of `asdict`, also after JSON has made lists of tuples.

    Raises:
        ValueError: for times that are none.
    """
    seconds = [s for blocks in document["samples"].values() for block in blocks for s in block]
    if not all(0 < each < math.inf for each in seconds):
        raise ValueError("a time that is not above 0")
    changed = {
        "samples": {name: tuple((a, b) for a, b in blocks) for name, blocks in document["samples"].items()},
        "seconds": {name: Estimate(**estimate) for name, estimate in document["seconds"].items()},
        "ratios": {name: Estimate(**estimate) for name, estimate in document["ratios"].items()},
        "warnings": tuple(document["warnings"]),
    }
    return CaseResult(**{**_rename(document), **changed})


def read_facts(document: Mapping[str, Any]) -> Facts:
    """The inverse of `asdict`, also after JSON has made lists of tuples."""
    found = document["correctness"]
    return Facts(**{**_rename(document), "correctness": Correctness(**{**found, "faults": tuple(found["faults"])})})


def read_profiles(document: Mapping[str, Any]) -> dict[str, tuple[KernelShare, ...]]:
    """What ran, by contender: the inverse of `asdict` of each of its parts."""
    return {name: tuple(KernelShare(**each) for each in found) for name, found in document.items()}


def read_record(place: str, document: Mapping[str, Any]) -> BenchRecord:
    """What `bncli bench --json` wrote, by this bncli or by one from before the keys had their names.

    Args:
        place: where it was read, for what is said if it is no such document.
        document: all of it.

    Raises:
        StoreError: if it is none, or of another schema.
    """
    schema = document.get("schema")
    if schema not in (SCHEMA, _OLD_SCHEMA):
        raise StoreError(f"{place}: document of schema {schema!r}, this bncli reads {SCHEMA} and {_OLD_SCHEMA}")
    try:
        fields = _rename({key: value for key, value in document.items() if key != "schema"})
        return BenchRecord(**fields | {
            "rows": tuple(map(_read_row, fields["rows"])),
            "warnings": tuple(fields["warnings"]),
            "clock_hertz": tuple(fields["clock_hertz"]),
            "gate": fields["gate"] and _read_gate(fields["gate"]),
            "claims": tuple(KernelJudgement(**c | {"ratio": Estimate(**c["ratio"])}) for c in fields["claims"]),
            "remeasurements": tuple(map(read_result, fields["remeasurements"])),
            "failures": tuple(CaseFailure(**each) for each in fields.get("failures", ())),
        })  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{place}: no document of `bncli bench --json` ({type(error).__name__}: {error})") from None


def _read_row(document: Mapping[str, Any]) -> BenchRow:
    row = _rename(document)
    return BenchRow(
        read_case(row["case"]),
        tuple(map(read_result, row["processes"])),
        Estimate(**row["seconds"]),
        {rival: Estimate(**ratio) for rival, ratio in row["ratios"].items()},
        Work(row["least_byte"], row["algorithmic_byte"], row["products"]),
        _gather_facts(row),
        Rates(**row["machine"]),
        _gather_facts(row["rival"]) if "rival" in row else None,
        read_profiles(row.get("profiles", {})),
    )


def _gather_facts(row: Mapping[str, Any]) -> Facts:
    """Of the keys of a row, or of its rival."""
    truth = row.get("truth", "float64" if row["error"] is not None else "")  # at first all were held against it
    correctness = Correctness(
        truth, row.get("output_error", row["error"]), row.get("output_tolerance"), row.get("gradient_error"),
        row.get("gradient_tolerance"), tuple(row.get("faults", ())),
    )  # fmt: skip
    reasons = {
        key.removesuffix("_reason"): why
        for key, why in row.items()
        if key.endswith("_reason") and key != "product_rate_reason"
    }
    return Facts(row["implementation"], row["saved_byte"], row["peak_byte"], correctness, reasons)


def _read_gate(document: Mapping[str, Any]) -> GateResult:
    judgements = (_rename(each) for each in document["judgements"])
    fields: dict[str, Any] = {
        "verdict": document["verdict"],
        "judgements": tuple(
            CaseJudgement(**each | {"change": each["change"] and Estimate(**each["change"])}) for each in judgements
        ),
        **{key: tuple(document[key]) for key in ("new", "gone", "left_out", "unchecked") if key in document},
    }
    return GateResult(**fields)


def _rename(document: Mapping[str, Any]) -> dict[str, Any]:
    return {OLD_NAMES.get(key, key): value for key, value in document.items()}
