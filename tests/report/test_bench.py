"""What `bncli bench` shows and exports, from a record made by hand."""

import csv
import importlib.util
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bncli.report.data import ReportData
from bncli.report.exports import FORMATS, render
from bncli.report.timing.exports import build_document
from bncli.report.timing.gate import list_checks
from bncli.report.timing.table import show
from bncli.timing.documents import read_record
from bncli.timing.results import BenchRecord, CaseFailure, Correctness, KernelShare

from .made_bench import record


def exported(form: str, given: BenchRecord) -> str:
    return str(render(ReportData(given.name, given, checks=list_checks(given)), form))


def shown(width: int, **changes: object) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show(record(**changes), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_at_160_columns() -> None:
    lines = shown(160).splitlines()
    assert lines[3:9] == [
        "   norm                               time             vs torch   vs copy         GB/s      GFLOP/s      peak     saved     error   grad error   implementation",
        "train-forward/N32C64H28W28/f32/nchw/cpu",
        " + batch              2.00 ms [1.80, 2.20]   0.59x [0.58, 0.59]     1.78x   6.42 (50%)                6.42 MB   6.42 MB   5.0e-07      4.0e-07   bncli",
        " = batch,impl=plain   2.00 ms [1.80, 2.20]   1.00x [0.99, 1.01]     1.78x   6.42 (50%)                    n/a   6.42 MB       n/a          n/a   native",
        "train-backward/N32C64H28W28/f32/nchw/cpu",
        " ? iternorm           2.00 ms [1.80, 2.20]                2.70x     1.78x   9.63 (75%)   315 (197%)   6.54 MB   6.46 MB   5.4e-06          n/a   bncli",
    ]  # fmt: skip


LONG = "void at::native::batch_norm_transform_input_kernel<float, float, float, true, int>(at::GenericPackedTensor)"


def test_kernels_are_a_table_of_shares_whose_long_names_are_cut_and_small_ones_summed() -> None:
    shares = (0.5, 0.25, 0.12, 0.05, 0.03, 0.02, 0.01, 0.01, 0.006, 0.004)
    kernels = (KernelShare(LONG, 1.0, 0.5), *(KernelShare(f"k{i}", 2.0, shares[i]) for i in range(1, 10)))
    first, second, third = record().rows
    profiles = {
        "case": kernels,
        "native": (KernelShare("reduce", 1.4, 0.997), KernelShare("copy", 1.0, 0.003)),
        "copy": (),
    }
    rows = (
        replace(first, profiles=profiles),
        second,
        replace(third, profiles={"case": (KernelShare("k", 12345.0, 1.0),)}),
    )
    lines = shown(70, rows=rows).splitlines()
    begin = lines.index("batch/train-forward/N32C64H28W28/f32/nchw/cpu")
    assert lines[begin - 3 : begin + 17] == [
        "what ran in a call, by torch's profiler: operators, without the time",
        "of those they call; it slows calls, so the shares are of its own",
        "times, not of those above",
        "batch/train-forward/N32C64H28W28/f32/nchw/cpu",
        " of      operator                                       a call   share",
        " batch   void at::native::batch_norm_transform_inp...        1     50%",
        "         k1                                                  2     25%",
        "         k2                                                  2     12%",
        "         k3                                                  2      5%",
        "         k4                                                  2      3%",
        "         k5                                                  2      2%",
        "         k6                                                  2      1%",
        "         k7                                                  2      1%",
        "         2 others                                            4      1%",
        " torch   reduce                                            1.4    100%",
        "         1 other                                             1     <1%",
        " copy    nothing was seen                                    0      0%",
        "iternorm/train-backward/N32C64H28W28/f32/nchw/cpu",
        " of         operator   a call   share",
        " iternorm   k           12345    100%",
    ]
    found = json.loads(json.dumps(build_document(record(rows=rows))))
    assert found["rows"][0]["profiles"]["case"][0] == {"name": LONG, "count": 1.0, "share": 0.5}
    assert "profiles" not in found["rows"][1]
    assert read_record("x.json", found).rows[0].profiles == profiles


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 180])
def test_no_line_is_wider_than_the_terminal_and_columns_left_out_are_named(width: int) -> None:
    text = shown(width)
    assert max(len(line) for line in text.splitlines() if "cpu" not in line) <= width
    assert ("left out at" in text) == (width < 180)
    assert "0.59x [0.58, 0.59]" in text


def test_what_is_wrong_or_failed_is_said_and_has_no_speed() -> None:
    first, *others = record().rows
    wrong = Correctness("layer in float64", 0.58, 1e-5, faults=("its output differs", "it writes into its input"))
    rows = (replace(first, facts=replace(first.facts, correctness=wrong)), *others)
    failure = CaseFailure("mine:Hangs/eval-forward/N8C16/f32/nc/cpu", "timed out", "it gave no answer within 120 s")
    text = shown(160, rows=rows, failures=(failure,))
    assert "\n n/a batch              2.00 ms" in text
    assert "\nwrong      results of batch/train-forward/N32C64H28W28/f32/nchw/cpu\n" in text
    assert "\n           its output differs; it writes into its input\n" in text
    assert f"\ntimed out  measurement of {failure.name}\n           it gave no answer within 120 s\n" in text
    found = json.loads(exported("json", record(rows=rows, failures=(failure,))))
    assert [row["results"] for row in found["rows"]] == ["wrong", "right", "right"]
    assert (found["rows"][0]["verdict"], found["rows"][0]["error"]) == ("not comparable", 0.58)
    assert found["rows"][0]["faults"] == ["its output differs", "it writes into its input"]
    assert found["failures"][0]["status"] == "timed out"


def test_kernels_that_nothing_is_known_of_are_a_warning() -> None:
    first, *others = record().rows
    facts = replace(first.facts, correctness=Correctness(), reasons={"error": "say what is right"})
    rows = (replace(first, case=replace(first.case, norm="mine:Fast"), facts=facts), *others)
    text = " ".join(shown(160, rows=rows).split())
    name = "mine:Fast/train-forward/N32C64H28W28/f32/nchw/cpu"
    assert f"warning: the results of {name} are unchecked: say what is right" in text
    assert "unchecked" not in shown(160)


def test_what_an_interruption_left_is_said() -> None:
    whole = record()
    assert "warning: cut short: 2 of 3 cases were measured" in shown(160, rows=whole.rows[:2], complete=False)
    assert "warning: cut short: 0 of 3 cases were measured" in shown(80, rows=(), complete=False)
    assert "cut short" not in shown(160)


def test_warnings_are_said_with_their_case() -> None:
    assert (
        "warning: 3 of 9 measurements have a warning (--json has them all), the first: iternorm/train-backward/N32C64H28W28/f32/nchw"
        "/cpu: the clock drifted"
    ) in shown(160).replace("\n  ", " ")


def test_json_keeps_raw_samples_and_says_why_a_number_is_missing() -> None:
    found = json.loads(exported("json", record()))
    assert found["schema"] == "bncli/bench/2"
    plain = found["rows"][1]
    assert plain["processes"][2]["samples"]["case"] == [
        [0.002, 0.002],
        [0.0018, 0.0018],
        [0.0022, 0.0022],
        [0.002, 0.002],
    ]
    assert (plain["error"], plain["error_reason"]) == (None, "it draws noise")
    assert (plain["peak_byte"], plain["peak_byte_reason"]) == (None, "nothing was seen")
    assert plain["product_rate_reason"] == "its matrix products, if it has any, are not counted"


def test_csv_has_a_line_a_case_and_leaves_the_unknown_empty() -> None:
    lines = list(csv.DictReader(io.StringIO(exported("csv", record()))))
    assert [line["norm"] for line in lines] == ["batch", "batch,impl=plain", "iternorm"]
    assert float(lines[0]["ratio_native"]) == 0.587
    assert (lines[1]["error"], lines[2]["ratio_native_low"]) == ("", "")


def test_markdown_is_a_table_with_warnings_below() -> None:
    lines = exported("markdown", record()).splitlines()
    assert lines[4].startswith("| `+` | `batch/train-forward/N32C64H28W28/f32/nchw/cpu` | 2.00 ms [1.80, 2.20] | 0.59x")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert lines[-1].startswith("- warning: 3 of 9 measurements have a warning")


def test_github_action_benchmark_gets_ratios_with_ranges() -> None:
    first, _, last = json.loads(exported("gha", record()))
    assert first == {
        "name": "batch/train-forward/N32C64H28W28/f32/nchw/cpu",
        "unit": "x torch",
        "value": 0.587,
        "extra": "2.00 ms [1.80, 2.20]",
        "range": "0.581 to 0.594",
    }
    assert "range" not in last


def test_bencher_gets_latency_in_nanoseconds_and_only_known_ends() -> None:
    found = json.loads(exported("bmf", record()))
    first, *_, last = found.values()
    assert first["latency"] == pytest.approx({"value": 2e6, "lower_value": 1.8e6, "upper_value": 2.2e6})
    assert last["ratio"] == {"value": 2.7}


def test_pytest_benchmark_gets_its_statistics() -> None:
    found = json.loads(exported("pytest-benchmark", record()))
    stats = found["benchmarks"][0]["stats"]
    assert (stats["rounds"], stats["iterations"], stats["median"]) == (24, 3, 0.002)
    assert stats["total"] == pytest.approx(0.048)
    assert (stats["min"], stats["max"], stats["outliers"]) == (0.0018, 0.0022, "12;0")


@pytest.mark.skipif(not importlib.util.find_spec("pytest_benchmark"), reason="pytest-benchmark is not installed")
def test_pytest_benchmark_compares_what_we_export(tmp_path: Path) -> None:
    (tmp_path / "ours.json").write_text(exported("pytest-benchmark", record()))
    command = [
        sys.executable,
        "-c",
        "from pytest_benchmark.cli import main; main()",
        "compare",
        "ours.json",
        "--csv=found",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = tmp_path.glob("*.csv")
    assert [line["median"] for line in csv.DictReader(found.read_text().splitlines())] == ["0.002"] * 3


TEXTS = [form for form, row in FORMATS.items() if "bench" in row.functions and not row.is_folder and form != "html"]


@pytest.mark.parametrize("form", TEXTS)
def test_a_record_of_nothing_can_be_exported(form: str) -> None:
    assert exported(form, record(rows=())) or form == "github"
