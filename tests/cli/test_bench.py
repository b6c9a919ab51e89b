"""`bncli bench` as a user types it, on a preset of two small cases."""

import json
import re
from pathlib import Path

import pytest

from bncli.errors import BncliError
from bncli.session import bench, bench_plan
from bncli.timing.system import SystemMetrics
from tests.cli.conftest import Command
from tests.timing.made_worker import MadeWorker, measures

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.usefixtures("made")
def test_profile_names_what_ran_in_the_case_and_its_rivals(bncli: Command) -> None:
    code, table, lines = bncli("bench", "tiny.yaml", "--warm", "--only", "batch", "--profile", "--json", "found.json")
    assert code == 0
    (row,) = json.loads(Path("found.json").read_text())["rows"]
    assert list(row["profiles"]) == ["case", "native", "copy"]
    for kernels in row["profiles"].values():
        assert sum(each["share"] for each in kernels) == pytest.approx(1)
    (count,) = (each["count"] for each in row["profiles"]["case"] if each["name"] == "aten::native_batch_norm")
    assert count == 1
    assert (
        "\nwhat ran in a call, by torch's profiler: operators, without the time of those they call; it slows" in table
    )
    assert re.search(r"\n of +operator +a call +share\n batch +aten::native_batch_norm +1 +\d+%\n", table)
    assert lines.endswith("\nnaming the kernels that run in 1 case\n")


@pytest.mark.usefixtures("made")
def test_without_profile_nothing_is_said_of_kernels(bncli: Command) -> None:
    code, table, lines = bncli("bench", "tiny.yaml", "--warm", "--json", "found.json")
    assert code == 0
    assert "profile" not in table + lines + Path("found.json").read_text()


def test_bench_prints_a_row_and_a_line_for_every_case(bncli: Command) -> None:
    code, table, lines = bncli("bench", "tiny.yaml", "--warm")
    assert code == 0
    assert re.match(r"tiny: does it work\?\n2 cases · [23] processes a case · arguments in the cache", table)
    assert "\ntrain-forward/N8C16/f32/nc/cpu\n" in table
    assert len(set(re.findall(r"^\[\d/6\] (\S+): ", lines, re.MULTILINE))) == 2


@pytest.mark.usefixtures("made")
def test_a_kernel_slower_than_torch_is_called_worse(bncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMES", "1.2")
    arguments = ("--kernel", "slow_norms:Slow", "--only", "Slow", "--warm", "--json", "-")
    code, text, _ = bncli("bench", "tiny.yaml", *arguments)
    assert code == 0
    (row,) = json.loads(text)["rows"]
    assert row["name"] == "slow_norms:Slow/train-forward/N8C16/f32/nc/cpu"
    assert row["verdict"] == "worse"
    assert row["ratios"]["native"]["value"] == pytest.approx(1.2, rel=0.02)
    assert row["implementation"] == "native"


@pytest.mark.usefixtures("made")
def test_every_export_comes_from_one_measurement(
    bncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    exports = [f"--export={form}:{form}.out" for form in ("json", "gha", "csv", "md")]
    code, _, _ = bncli("bench", "tiny.yaml", "--warm", "--only", "batch", "--github", *exports)
    assert code == 0
    value = json.loads(Path("json.out").read_text())["rows"][0]["ratios"]["native"]["value"]
    assert json.loads(Path("gha.out").read_text())[0]["value"] == value
    assert str(value) in Path("csv.out").read_text()
    assert (tmp_path / "summary.md").read_text() == "before\n" + Path("md.out").read_text()


@pytest.mark.usefixtures("made")
def test_an_interruption_keeps_what_is_measured(bncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeWorker, "measure", measures(1, then=KeyboardInterrupt()))
    code, text, lines = bncli("bench", "tiny.yaml", "--warm", "--json", "-")
    assert code == 130
    assert len(json.loads(text)["rows"]) == 1
    assert lines.endswith("interrupted after 1 measurements\n")


@pytest.mark.usefixtures("made")
def test_an_interruption_before_the_first_result_shows_and_writes_nothing(
    bncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MadeWorker, "measure", measures(0, then=KeyboardInterrupt()))
    code, text, lines = bncli("bench", "tiny.yaml", "--warm", "--json", "bench.json")
    assert (code, text) == (130, "")
    assert lines.endswith("interrupted before the first measurement\n")
    assert not Path("bench.json").exists()


def test_where_every_case_fails_no_empty_table_is_shown(bncli: Command) -> None:
    kernel = f"--kernel={ROOT / 'tests/timing/made_kernels.py'}:Fails"
    code, text, _ = bncli("bench", "tiny.yaml", "--warm", "--only", "Fails", kernel)
    assert code == 2
    assert "raised     measurement of made_kernels.py:Fails/" in text
    assert "vs torch" not in text
    assert "0 measurements" not in text


@pytest.mark.usefixtures("made")
def test_a_failure_keeps_what_is_measured(bncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = BncliError("layer: the process that measured it was ended by SIGKILL")
    monkeypatch.setattr(MadeWorker, "measure", measures(1, then=failure))
    code, text, lines = bncli("bench", "tiny.yaml", "--warm", "--save-baseline", "main", "--json", "bench.json")
    assert code == 2
    assert "warning: cut short: 1 of 2 cases were measured" in text
    assert len(json.loads(Path("bench.json").read_text())["rows"]) == 1
    assert lines.endswith("layer: the process that measured it was ended by SIGKILL\n")
    assert not Path(".bncli/baselines").exists()


ENDS = {
    "Fails": ("raised", "RuntimeError: planted"),
    "FailsLater": ("raised", "it raised ZeroDivisionError: planted"),
    "Exits": ("exited", "it raised SystemExit: 0"),
    "ExitsAtOnce": ("exited", "the process that measured it ended itself, with exit code 0"),
    "Interrupts": ("raised", "it raised KeyboardInterrupt"),
    "Crashes": ("crashed", "the process that measured it was ended by SIGSEGV"),
    "TakesTooMuchMemory": ("raised", "RuntimeError: "),
    "Two": ("wrong", "expected an output that is a tensor, got tuple"),
}


def test_kernels_that_end_badly_have_a_status_and_cost_the_others_nothing(bncli: Command) -> None:
    kernels = [
        f"--kernel={ROOT / 'tests/timing/made_kernels.py'}:{name}" for name in [*ENDS, "ClosesStdout", "Threads"]
    ]
    code, text, said = bncli("bench", "tiny.yaml", "--warm", "--skip", "layer/", *kernels, "--json", "bench.json")
    assert code == 2
    found = json.loads(Path("bench.json").read_text())
    failures = {each["name"].split("/")[0].rpartition(":")[2]: each for each in found["failures"]}
    assert {name: each["status"] for name, each in failures.items()} == {n: status for n, (status, _) in ENDS.items()}
    for name, (status, reason) in ENDS.items():
        assert failures[name]["reason"].startswith(reason), name
        assert f"\n{status:<10} measurement of made_kernels.py:{name}/" in text
        assert said.count(f"made_kernels.py:{name}/train-forward/N8C16/f32/nc/cpu: {status}: {reason}") == 1
    rows = {row["name"].split("/")[0].rpartition(":")[2]: row for row in found["rows"]}
    assert {name: row["results"] for name, row in rows.items() if name != "FailsLater"} == {
        "batch": "right", "ClosesStdout": "right", "Threads": "right",
    }  # fmt: skip
    assert all(len(row["processes"]) >= 2 for name, row in rows.items() if name != "FailsLater")


def test_a_kernel_that_gives_no_answer_is_ended_in_time(bncli: Command) -> None:
    kernel = f"--kernel={ROOT / 'tests/timing/made_kernels.py'}:Hangs"
    code, text, _ = bncli("bench", "tiny.yaml", "--only", "Hangs", kernel, "--time-limit", "2", "--aa")
    assert code == 2
    assert "\ntimed out  measurement of made_kernels.py:Hangs/train-forward/N8C16/f32/nc/cpu\n" in text
    assert "\n           it gave no answer within 2 s and was ended; --time-limit gives it longer\n" in text


@pytest.mark.usefixtures("made")
def test_a_preset_says_what_kernels_must_compute_and_the_command_line_overrules_it(bncli: Command) -> None:
    Path("mine.py").write_text("from torch import nn\n\ndef fast(c): return nn.LayerNorm(c)\n")
    Path("told.yaml").write_text(Path("tiny.yaml").read_text() + "truth: {name: layer, eps: 1.0e-5}\n")
    arguments = ("--kernel", "mine.py:fast", "--only", "fast", "--warm", "--json", "-")
    for preset, more, expected in (
        ("tiny.yaml", (), (0, "unchecked", "")),
        ("told.yaml", (), (0, "right", "layer in float64")),
        ("tiny.yaml", ("--truth", "layer"), (0, "right", "layer in float64")),
        ("told.yaml", ("--truth", "batch"), (3, "wrong", "batch in float64")),
    ):
        code, text, _ = bncli("bench", preset, *arguments, *more)
        (row,) = json.loads(text)["rows"]
        assert (code, row["results"], row["truth"]) == expected


def test_a_preset_holds_no_code(bncli: Command) -> None:
    Path("told.yaml").write_text(Path("tiny.yaml").read_text() + "truth: mine.py:fast\n")
    code, _, said = bncli("bench", "told.yaml")
    assert code == 2
    assert said.startswith("told.yaml:8: truth: norm 'mine.py:fast': a preset cannot name code")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that takes nothing is Linux's")
@pytest.mark.usefixtures("made")
def test_a_file_that_cannot_be_written_costs_nothing_else(bncli: Command) -> None:
    code, text, lines = bncli("bench", "tiny.yaml", "--warm", "--json", "/dev/full", "--export", "csv:bench.csv")
    assert code == 2
    assert "vs torch" in text
    assert Path("bench.csv").read_text().count("\n") == 3
    assert lines.endswith("--json /dev/full: cannot write (No space left on device)\n")


@pytest.mark.usefixtures("made")
def test_stdout_is_a_document_or_a_table(bncli: Command) -> None:
    _, text, _ = bncli("bench", "tiny.yaml", "--warm", "--export", "csv:-")
    assert text.startswith("name,")
    assert text.count("\n") == 3


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["bench", "quickstart"], "quickstart.yaml: is a study; run it by `bncli compare` or `bncli train`"),
        (["compare", "bench-ci"], "bench-ci.yaml: is a bench preset; run it by `bncli bench`"),
        (["bench", "bench-quik"], "no preset is called 'bench-quik'; did you mean 'bench-quick'?"),
        (["bench", "tiny.yaml", "--only", "bacth"], "--only bacth: no case matches; nearest: batch"),
        (
            ["bench", "tiny.yaml", "--kernel", "nothing"],
            "--kernel: expected FILE.py:NAME or MODULE:NAME, got 'nothing'",
        ),
        (["bench", "tiny.yaml", "--kernel", "slow_norms:Fast"], "--kernel slow_norms:Fast: slow_norms has no 'Fast'"),
        (["bench", "tiny.yaml", "--device", "tpu"], "--device: must be auto, cpu or cuda, got 'tpu'"),
        (["bench", "tiny.yaml", "--export", "xml:a"], "--export xml:a: no format is called 'xml'"),
        (
            ["bench", "tiny.yaml", "--export", "junit:a.xml"],
            "--export junit:a.xml: nothing is checked; add --baseline NAME",
        ),
        (
            ["bench", "tiny.yaml", "--export", "gha:"],
            "--export gha:: expected a path after the colon, as in gha:tiny-gha.json",
        ),
        (["bench", "tiny.yaml", "--json", "no/a.json"], "--json no/a.json: there is no folder no"),
        (["bench", "tiny.yaml", "--json", "."], "--json .: . is a folder; name a file in it"),
        (["bench", "tiny.yaml", "--github"], "--github: GITHUB_STEP_SUMMARY is not set"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    bncli: Command, arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    code, out, err = bncli(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_filters_know_the_names_that_cases_have_on_a_gpu(bncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_plan, "resolve_device", lambda wanted: "cuda")
    code, _, err = bncli("bench", "tiny.yaml", "--only", "*/cuda", "--skip", "*/cpu")
    assert code == 2
    assert err.startswith("--skip */cpu: no case matches")


def test_ls_and_validate_know_bench_presets(bncli: Command) -> None:
    listed = bncli("ls", "presets")[1].splitlines()
    assert any(line.split()[:6] == ["bench-quick", "how", "fast", "are", "the", "norms"] for line in listed)
    assert bncli("validate", "bench-ci")[:2] == (0, "bench-ci: good (6 cases)\n")


@pytest.mark.usefixtures("made")
def test_what_disturbs_the_machine_is_a_warning(bncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "watch", lambda: ({"cc1": 1.5}, 0.0))
    clocks = iter([2.4e9] + [1.2e9] * 9)
    monkeypatch.setattr(bench, "read_metrics", lambda device: SystemMetrics(None, None, next(clocks)))
    _, text, _ = bncli("bench", "tiny.yaml", "--warm", "--json", "-")
    found = json.loads(text)
    assert re.match(r"other programs take 1.5 of \d+ cores \(cc1 1.5\): end them", found["warnings"][0])
    assert found["warnings"][1:] == [
        "the processor's clock moved between 1.20 and 2.40 GHz meanwhile: governor, heat or load"
    ]
    assert found["clock_hertz"] == [2.4e9, *[1.2e9] * 6]
