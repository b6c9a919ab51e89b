"""What `bncli bench` has found as one JSON document: raw samples first, and a reason wherever a number is missing."""

from dataclasses import asdict
from typing import Any

from bncli.bench.rows import BenchRecord, Row
from bncli.report.document import plain

SCHEMA = "bncli/bench/1"


def document(record: BenchRecord) -> dict[str, Any]:
    """The record in types that JSON knows: seconds, bytes, operations a second."""
    fields = {key: value for key, value in vars(record).items() if key not in ("rows", "gate", "claims", "again")}
    gate = None if record.gate is None else asdict(record.gate) | {"noise_floor": record.gate.noise_floor}
    rows, claims = [_row(row) for row in record.rows], [asdict(claim) for claim in record.claims]
    looks = [asdict(result) for result in record.again]
    made: dict[str, Any] = plain(
        {"schema": SCHEMA, **fields, "gate": gate, "claims": claims, "rows": rows, "again": looks}
    )
    return made


def _row(row: Row) -> dict[str, Any]:
    facts = asdict(row.facts)
    reasons = {f"{key}_reason": why for key, why in facts.pop("reasons").items()}
    if row.product_rate is None:
        reasons["product_rate_reason"] = "its matrix products, if it has any, are not counted"
    return {
        "name": row.case.name,
        "case": asdict(row.case),
        "processes": [asdict(result) for result in row.results],
        "seconds": asdict(row.seconds),
        "ratios": {yardstick: asdict(ratio) for yardstick, ratio in row.ratios.items()},
        "verdict": row.verdict,
        "least_byte": row.work.least_byte,
        "algorithmic_byte": row.work.algorithmic_byte,
        "least_bandwidth": row.least_bandwidth,
        "algorithmic_bandwidth": row.algorithmic_bandwidth,
        "products": row.work.products,
        "product_rate": row.product_rate,
        **facts,
        **reasons,
        "machine": asdict(row.rates),
    }
