"""What `bncli bench` has found as one JSON document and in the formats of other tools."""

import csv
import io
import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from bncli.code_hash import VERSION
from bncli.errors import as_line
from bncli.format import written_bytes, written_ratio, written_seconds
from bncli.report.checks import markdown
from bncli.report.data import ReportData
from bncli.report.study.json import dumps, plain
from bncli.report.study.table import SYMBOLS
from bncli.report.timing.gate import list_claim_checks, list_result_checks, write_gate
from bncli.report.timing.table import list_warnings, name_group, name_rival, write_error
from bncli.timing.documents import SCHEMA
from bncli.timing.results import BenchRecord, BenchRow, Estimate, Facts


def build_document(record: BenchRecord) -> dict[str, Any]:
    """The record in types that JSON knows: seconds, bytes, operations a second."""
    apart = ("rows", "gate", "claims", "remeasurements", "failures")
    fields = {key: value for key, value in vars(record).items() if key not in apart}
    gate = None if record.gate is None else asdict(record.gate) | {"noise_floor": record.gate.noise_floor}
    rows, claims = [_build_row(row) for row in record.rows], [asdict(claim) for claim in record.claims]
    remeasured, failures = ([asdict(r) for r in found] for found in (record.remeasurements, record.failures))
    made: dict[str, Any] = plain({
        "schema": SCHEMA, **fields, "gate": gate, "claims": claims, "rows": rows, "failures": failures,
        "remeasurements": remeasured,
    })  # fmt: skip
    return made


def _build_row(row: BenchRow) -> dict[str, Any]:
    rate = {} if row.product_rate else {"product_rate_reason": "its matrix products, if it has any, are not counted"}
    return {
        "name": row.case.name,
        "case": asdict(row.case),
        "processes": [asdict(result) for result in row.results],
        "seconds": asdict(row.seconds),
        "ratios": {rival: asdict(ratio) for rival, ratio in row.ratios.items()},
        "verdict": row.verdict,
        "least_byte": row.work.least_byte,
        "algorithmic_byte": row.work.algorithmic_byte,
        "least_bandwidth": row.least_bandwidth,
        "algorithmic_bandwidth": row.algorithmic_bandwidth,
        "products": row.work.products,
        "product_rate": row.product_rate,
        **_list_facts(row.facts),
        **rate,
        "machine": asdict(row.rates),
        **({"profiles": _list_profiles(row)} if row.profiles else {}),
        **({} if row.rival_facts is None else {"rival": {"name": row.rival, **_list_facts(row.rival_facts)}}),
    }


def _list_profiles(row: BenchRow) -> dict[str, Any]:
    return {name: [asdict(kernel) for kernel in kernels] for name, kernels in row.profiles.items()}


def _list_facts(facts: Facts) -> dict[str, Any]:
    found, correctness = asdict(facts), facts.correctness
    found |= {"results": correctness.verdict, "error": correctness.error, **found.pop("correctness")}
    reasons = {f"{key}_reason": why for key, why in found.pop("reasons").items()}
    return {**found, **reasons}


def export_csv(data: ReportData) -> str:
    """One line a case: seconds, ratios, bytes, operations a second; an empty cell is unknown."""
    record = _record_of(data)
    lines = [_flatten(row) for row in record.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def export_markdown(data: ReportData) -> str:
    """A table for a pull request or a step summary, the gate's verdict first."""
    record = _record_of(data)
    rivals = list(record.rows[0].ratios) if record.rows else []
    versus = [f"vs {name_rival(rival)}" for rival in rivals]
    heads = ["", "case", "time", *versus, "peak", "saved", "error", "grad error", "implementation", "results"]
    lines = [f"### {as_line(f'{record.name}: {record.question}')}", ""]
    if record.gate:
        lines += [*write_gate(record.gate), ""]
    lines += [
        _join_cells(heads),
        _join_cells(["---"] * len(heads)),
        *(_join_cells(_write_cells(row)) for row in record.rows),
    ]
    found = {row.verdict for row in record.rows}
    symbols = ", ".join(f"`{symbol}` {verdict}" for verdict, (symbol, _) in SYMBOLS.items() if verdict in found)
    if record.rows:
        lines += ["", f"{symbols}: {versus[0]}; [ ] is a 95 % interval over {record.processes} processes."]
    if checks := list(list_result_checks(record)):
        lines += ["", markdown("wrong results and failures", checks)]
    lines += ["", *(f"- warning: {as_line(warning)}" for warning in list_warnings(record))]
    if record.claims:
        lines += ["", markdown("claims", list_claim_checks(record))]
    return "\n".join(lines).rstrip() + "\n"


def export_pytest_benchmark(data: ReportData) -> str:
    """What `pytest --benchmark-json` writes, for `pytest-benchmark compare` and whatever else reads it."""
    record = _record_of(data)
    whole = {
        "machine_info": {"cpu": {"brand_raw": record.environment.get("processor", "")}, **record.environment},
        "commit_info": {"id": "unversioned", "dirty": False},
        "benchmarks": [_build_benchmark(row) for row in record.rows],
        "datetime": record.started,
        "version": f"bncli {VERSION}",
    }
    return dumps(plain(whole)) + "\n"


def export_gha(data: ReportData) -> str:
    """The `customSmallerIsBetter` of github-action-benchmark: each case's time as a share of torch's batch norm's.

    The ratio, because runners differ; its interval as the range, the time as the extra.
    """
    record = _record_of(data)
    entries = []
    for row in record.rows:
        ratio = row.ratios[row.rival]
        entry = {
            "name": row.case.name,
            "unit": f"x {name_rival(row.rival)}",
            "value": ratio.value,
            "extra": _write_time(row),
        }
        if ratio.low is not None and ratio.high is not None:
            entry["range"] = f"{ratio.low:.3g} to {ratio.high:.3g}"
        entries.append(entry)
    return json.dumps(entries, indent=2, allow_nan=False) + "\n"


def export_bmf(data: ReportData) -> str:
    """Bencher Metric Format: latency in nanoseconds and the ratio to torch's batch norm, with their intervals."""
    record = _record_of(data)
    found = {
        row.case.name: {
            "latency": _build_metric(row.seconds, 1e9),
            "ratio": _build_metric(row.ratios[row.rival], 1.0),
        }
        for row in record.rows
    }
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


def _record_of(data: ReportData) -> BenchRecord:
    assert isinstance(data.findings, BenchRecord)
    return data.findings


def _flatten(row: BenchRow) -> dict[str, Any]:
    case, facts = row.case, row.facts
    ratios = {
        f"ratio_{rival}{end}": value
        for rival, ratio in row.ratios.items()
        for end, value in (("", ratio.value), ("_low", ratio.low), ("_high", ratio.high))
    }
    return {
        "name": case.name, "norm": case.name.partition("/")[0], "pass": case.pass_,
        "shape": "x".join(map(str, case.shape)), "dtype": case.dtype, "layout": case.layout, "device": case.device,
        "threads": case.threads, "compiled": case.compiled,
        "seconds": row.seconds.value, "seconds_low": row.seconds.low, "seconds_high": row.seconds.high,
        **ratios, "verdict": row.verdict,
        "least_byte": row.work.least_byte, "algorithmic_byte": row.work.algorithmic_byte,
        "least_bandwidth": row.least_bandwidth, "algorithmic_bandwidth": row.algorithmic_bandwidth,
        "machine_bandwidth": row.rates.bandwidth, "product_rate": row.product_rate,
        "machine_product_rate": row.rates.products[case.dtype],
        "peak_byte": facts.peak_byte, "saved_byte": facts.saved_byte, "error": facts.correctness.error,
        "output_error": facts.correctness.output_error, "gradient_error": facts.correctness.gradient_error,
        "implementation": facts.implementation, "results": facts.correctness.verdict, "truth": facts.correctness.truth,
        "processes": len(row.results), "outliers": sum(result.outliers["case"] for result in row.results),
    }  # fmt: skip


def _write_cells(row: BenchRow) -> Iterator[str]:
    first, *others = row.ratios.values()
    facts = row.facts
    yield f"`{SYMBOLS[row.verdict][0]}`"
    yield f"`{row.case.name}`"
    yield _write_time(row)
    yield written_ratio(first.value, first.low, first.high)
    yield from (written_ratio(other.value) for other in others)
    yield "n/a" if facts.peak_byte is None else written_bytes(facts.peak_byte)
    yield written_bytes(facts.saved_byte)
    yield write_error(facts.correctness.output_error)
    yield write_error(facts.correctness.gradient_error)
    yield facts.implementation
    yield facts.correctness.verdict


def _join_cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(as_line, cells))} |"


def _write_time(row: BenchRow) -> str:
    return written_seconds(row.seconds.value, row.seconds.low, row.seconds.high)


def _build_metric(estimate: Estimate, factor: float) -> dict[str, float]:
    ends = {"lower_value": estimate.low, "upper_value": estimate.high}
    return {"value": estimate.value * factor, **{key: end * factor for key, end in ends.items() if end is not None}}


def _build_benchmark(row: BenchRow) -> dict[str, Any]:
    seconds = [s for result in row.results for block in result.samples["case"] for s in block]
    return {
        "group": name_group(row),
        "name": row.case.name,
        "fullname": row.case.name,
        "params": None,
        "param": None,
        "extra_info": {
            "ratio": row.ratios[row.rival].value,
            "rival": row.rival,
            "implementation": row.facts.implementation,
        },
        "options": {
            "disable_gc": True,
            "timer": "process_time" if row.case.threads == 1 else "perf_counter",
            "warmup": True,
        },
        "stats": _compute_stats(seconds, row.results[0].calls["case"]),
    }


def _compute_stats(seconds: Sequence[float], calls: int) -> dict[str, Any]:
    """pytest-benchmark's statistics; its rounds are our chunks of calls."""
    ordered = sorted(seconds)
    mean, spread = statistics.fmean(ordered), statistics.stdev(ordered)
    q1, middle, q3 = statistics.quantiles(ordered, n=4, method="inclusive")
    fence = 1.5 * (q3 - q1)
    inside = [s for s in ordered if q1 - fence <= s <= q3 + fence]
    far, beyond = len(ordered) - len(inside), sum(abs(s - mean) > spread for s in ordered)
    return {
        "min": ordered[0], "max": ordered[-1], "mean": mean, "stddev": spread, "rounds": len(ordered),
        "median": middle, "iqr": q3 - q1, "q1": q1, "q3": q3, "iqr_outliers": far, "stddev_outliers": beyond,
        "outliers": f"{beyond};{far}", "ld15iqr": inside[0], "hd15iqr": inside[-1], "ops": 1 / mean,
        "total": sum(ordered), "iterations": calls, "data": list(seconds),
    }  # fmt: skip
