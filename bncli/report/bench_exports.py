"""What `bncli bench` has found in the formats of other tools, each made from the same record."""

import csv
import io
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bncli import __version__
from bncli.bench.results import Estimate
from bncli.bench.rows import BenchRecord, Row
from bncli.notation import written_bytes, written_ratio, written_seconds
from bncli.report.bench_document import document
from bncli.report.bench_table import group_of, warnings_of
from bncli.report.document import dumps, plain
from bncli.report.table import SYMBOLS


def as_json(record: BenchRecord) -> str:
    """The whole record."""
    return dumps(document(record)) + "\n"


def as_csv(record: BenchRecord) -> str:
    """One line a case: seconds, ratios, bytes, operations a second; an empty cell is unknown."""
    lines = [_flat(row) for row in record.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def as_markdown(record: BenchRecord) -> str:
    """A table for a pull request or a step summary."""
    heads = ("", "case", "time", "vs torch", "vs copy", "peak", "saved", "error", "ran")
    lines = [f"### {record.name}: {record.question}", "", _cells(heads), _cells(["---"] * len(heads))]
    lines += [_cells(_markdown_row(row)) for row in record.rows]
    found = {row.verdict for row in record.rows}
    symbols = ", ".join(f"`{symbol}` {verdict}" for verdict, (symbol, _) in SYMBOLS.items() if verdict in found)
    lines += ["", f"{symbols}: time against torch's own batch norm; [ ] is the 95 % interval of a median."]
    lines += ["", *(f"- warning: {warning}" for warning in warnings_of(record))]
    return "\n".join(lines).rstrip() + "\n"


def as_pytest_benchmark(record: BenchRecord) -> str:
    """What `pytest --benchmark-json` writes, for `pytest-benchmark compare` and whatever else reads it."""
    whole = {
        "machine_info": {"cpu": {"brand_raw": record.environment.get("processor", "")}, **record.environment},
        "commit_info": {"id": "unversioned", "dirty": False},
        "benchmarks": [_pytest_row(row) for row in record.rows],
        "datetime": record.started,
        "version": f"bncli {__version__}",
    }
    return dumps(plain(whole)) + "\n"


def as_gha(record: BenchRecord) -> str:
    """The `customSmallerIsBetter` of github-action-benchmark: each case's time as a share of torch's batch norm's.

    The ratio, because runners differ; its interval as the range, the time as the extra.
    """
    entries = []
    for row in record.rows:
        ratio = row.result.ratios["native"]
        entry = {"name": row.case.name, "unit": "x torch", "value": ratio.value, "extra": _time(row)}
        if ratio.low is not None and ratio.high is not None:
            entry["range"] = f"{ratio.low:.3g} to {ratio.high:.3g}"
        entries.append(entry)
    return json.dumps(entries, indent=2, allow_nan=False) + "\n"


def as_bmf(record: BenchRecord) -> str:
    """Bencher Metric Format: latency in nanoseconds and the ratio to torch's batch norm, with their intervals."""
    found = {
        row.case.name: {
            "latency": _metric(row.seconds, 1e9),
            "ratio": _metric(row.result.ratios["native"], 1.0),
        }
        for row in record.rows
    }
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


EXPORTS: Mapping[str, Callable[[BenchRecord], str]] = {
    "json": as_json,
    "csv": as_csv,
    "md": as_markdown,
    "pytest-benchmark": as_pytest_benchmark,
    "gha": as_gha,
    "bmf": as_bmf,
}


def _flat(row: Row) -> dict[str, Any]:
    case, result, facts = row.case, row.result, row.facts
    native, copy = result.ratios["native"], result.ratios["copy"]
    return {
        "name": case.name, "norm": case.name.partition("/")[0], "pass": case.pass_,
        "shape": "x".join(map(str, case.shape)), "dtype": case.dtype, "layout": case.layout, "device": case.device,
        "threads": case.threads, "compiled": case.compiled,
        "seconds": row.seconds.value, "seconds_low": row.seconds.low, "seconds_high": row.seconds.high,
        "ratio_native": native.value, "ratio_native_low": native.low, "ratio_native_high": native.high,
        "verdict": row.verdict,
        "ratio_copy": copy.value, "ratio_copy_low": copy.low, "ratio_copy_high": copy.high,
        "least_byte": row.work.least_byte, "algorithmic_byte": row.work.algorithmic_byte,
        "least_bandwidth": row.least_bandwidth, "algorithmic_bandwidth": row.algorithmic_bandwidth,
        "machine_bandwidth": row.rates.bandwidth, "product_rate": row.product_rate,
        "machine_product_rate": row.rates.products[case.dtype],
        "peak_byte": facts.peak_byte, "saved_byte": facts.saved_byte, "error": facts.error, "ran": facts.ran,
        "blocks": len(result.samples["case"]), "outliers": result.outliers["case"], "stopped": result.stopped,
    }  # fmt: skip


def _markdown_row(row: Row) -> Iterator[str]:
    native, facts = row.result.ratios["native"], row.facts
    yield f"`{SYMBOLS[row.verdict][0]}`"
    yield f"`{row.case.name}`"
    yield _time(row)
    yield written_ratio(native.value, native.low, native.high)
    yield written_ratio(row.result.ratios["copy"].value)
    yield "n/a" if facts.peak_byte is None else written_bytes(facts.peak_byte)
    yield written_bytes(facts.saved_byte)
    yield "n/a" if facts.error is None else f"{facts.error:.1e}"
    yield facts.ran


def _cells(cells: Sequence[str] | Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _time(row: Row) -> str:
    return written_seconds(row.seconds.value, row.seconds.low, row.seconds.high)


def _metric(estimate: Estimate, factor: float) -> dict[str, float]:
    ends = {"lower_value": estimate.low, "upper_value": estimate.high}
    return {"value": estimate.value * factor, **{key: end * factor for key, end in ends.items() if end is not None}}


def _pytest_row(row: Row) -> dict[str, Any]:
    return {
        "group": group_of(row),
        "name": row.case.name,
        "fullname": row.case.name,
        "params": None,
        "param": None,
        "extra_info": {"ratio_native": row.result.ratios["native"].value, "ran": row.facts.ran},
        "options": {"disable_gc": True, "timer": "perf_counter", "warmup": True},
        "stats": _pytest_stats([s for block in row.result.samples["case"] for s in block], row.result.calls["case"]),
    }


def _pytest_stats(seconds: Sequence[float], calls: int) -> dict[str, Any]:
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
