"""`bncli bench` without a preset, two kernels compared directly, limits on memory and errors; times are made up."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import bncli
from bncli.timing.cases import Case
from bncli.timing.process.client import CaseError
from bncli.timing.results import Facts
from tests.cli.conftest import Command
from tests.timing.made_worker import MadeWorker

pytestmark = pytest.mark.usefixtures("made")
THEIRS = "from torch import nn\n\nclass Theirs(nn.BatchNorm1d): pass\n"
ONE = ("--shape", "8x16", "--pass", "train-forward", "--warm")
AT = "train-forward/N8C16/f32/nc/cpu"


@pytest.fixture
def run(bncli: Command) -> Command:
    """`bncli` beside a kernel of somebody else's, theirs.py."""
    Path("theirs.py").write_text(THEIRS)
    return bncli


def record(run: Command, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, text, said = run("bench", *arguments, "--json", "-")
    assert text, said
    return code, json.loads(text)


def test_norms_and_kernels_from_the_command_line_need_no_preset(run: Command) -> None:
    code, found = record(run, "--norm", "batch,layer(eps=1e-3),slow_norms:Slow", *ONE)
    assert (code, found["name"]) == (0, "bench")
    assert [row["name"] for row in found["rows"]] == [
        f"{norm}/{AT}" for norm in ("batch", "layer,eps=0.001", "slow_norms:Slow")
    ]


def test_two_kernels_are_compared_directly_and_with_torch(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMES", "1.2")
    monkeypatch.setenv("VERSUS", "2")
    more = ("--vs", "theirs.py:Theirs", "--export", "csv:b.csv", "--export", "gha:b.json", "--export", "md:b.md")
    code, text, said = run("bench", "--norm", "slow_norms:Slow", *ONE, *more, "--json", "b.document")
    assert code == 0
    assert "vs theirs.py:Theirs   vs torch   vs copy" in text
    assert "+ better: time against theirs.py:Theirs, interleaved with it" in text
    assert "x of theirs.py:Theirs\n" in said
    (row,) = json.loads(Path("b.document").read_text())["rows"]
    assert list(row["ratios"]) == ["theirs.py:Theirs", "native", "copy"]
    assert row["ratios"]["theirs.py:Theirs"]["value"] == pytest.approx(0.6, rel=0.02)
    assert row["ratios"]["theirs.py:Theirs"]["high"] < 0.63
    assert row["ratios"]["native"]["value"] == pytest.approx(1.2, rel=0.02)
    assert (row["verdict"], row["rival"]["name"], row["rival"]["results"]) == ("better", "theirs.py:Theirs", "right")
    assert float(next(csv.DictReader(Path("b.csv").read_text().splitlines()))["ratio_theirs.py:Theirs"]) < 0.63
    assert json.loads(Path("b.json").read_text())[0]["unit"] == "x theirs.py:Theirs"
    assert "| vs theirs.py:Theirs | vs torch |" in Path("b.md").read_text()


def test_several_kernels_are_each_compared_with_torch_and_with_the_one_that_is_named(run: Command) -> None:
    kernels = ("--kernel", "slow_norms:Slow", "--kernel", "theirs.py:Theirs", "--only", ":")
    _, found = record(run, "tiny.yaml", "--warm", *kernels)
    assert [list(row["ratios"]) for row in found["rows"]] == [["native", "copy"]] * 2
    _, found = record(run, "tiny.yaml", "--warm", *kernels, "--vs", "layer(eps=0.1)")
    assert [(row["name"], list(row["ratios"])) for row in found["rows"]] == [
        (f"{kernel}/{AT}", ["layer,eps=0.1", "native", "copy"]) for kernel in ("slow_norms:Slow", "theirs.py:Theirs")
    ]


def test_a_gate_on_the_ratio_is_then_against_that_rival(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--norm", "slow_norms:Slow", *ONE, "--vs", "theirs.py:Theirs", "--fail-if", "ratio:+5%")
    code, found = record(run, *asked)
    assert (code, found["gate"]["verdict"]) == (0, "holds")
    monkeypatch.setenv("TIMES", "1.2")
    code, found = record(run, *asked)
    assert (code, found["gate"]["verdict"]) == (3, "regression")
    assert found["gate"]["judgements"][0]["change"]["value"] == pytest.approx(1.2, rel=0.02)
    assert len(found["remeasurements"]) == 10
    monkeypatch.setenv("VERSUS", "1.2")
    assert record(run, *asked)[0] == 0


def test_a_baseline_with_a_rival_is_compared_by_the_ratio_to_it(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("bench", "--norm", "slow_norms:Slow", *ONE)
    theirs = ("--vs", "theirs.py:Theirs")
    assert run(*asked, *theirs, "--save-baseline", "main")[0] == 0
    assert run(*asked, *theirs, "--baseline", "main")[0] == 0
    code, text, _ = run(*asked, "--vs", "batch", "--baseline", "main")
    assert (code, "; 1 new, not compared" in text) == (4, True)  # the baseline has no ratio to batch
    monkeypatch.setenv("TIMES", "1.2")
    assert run(*asked, *theirs, "--baseline", "main")[0] == 3


def test_a_wrong_rival_gives_no_verdict_on_speed(run: Command) -> None:
    Path("wrong.py").write_text(THEIRS[:-6] + "\n    def forward(self, x): return 1.5 * super().forward(x) + 0.3\n")
    code, text, _ = run("bench", "--norm", "slow_norms:Slow", *ONE, "--vs", "wrong.py:Theirs", "--json", "b.document")
    assert code == 3
    assert f"wrong      results of wrong.py:Theirs/{AT}, the rival of --vs\n" in text
    assert "\n n/a slow_norms:Slow " in text
    (row,) = json.loads(Path("b.document").read_text())["rows"]
    assert (row["results"], row["rival"]["results"], row["verdict"]) == ("right", "wrong", "not comparable")


def test_a_rival_that_fails_is_named_and_so_is_what_it_leaves_undone(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect = MadeWorker.inspect

    def fail(worker: MadeWorker, case: Case, *told: Any) -> Facts:
        if case.norm == "fails.py:Theirs":
            raise CaseError(case.name, "RuntimeError: planted", "raised")
        return inspect(worker, case, *told)

    monkeypatch.setattr(MadeWorker, "inspect", fail)
    both = ("--kernel", "fails.py:Theirs", "--only", "batch", "--only", "fails", "--warm")
    limits = [f"--fail-if={pattern}=error:1e-5" for pattern in ("batch*", "fails*")]  # of which one is for nothing then
    code, found = record(run, "tiny.yaml", *both, *limits)
    assert (code, [each["case"] for each in found["gate"]["judgements"]]) == (2, [f"batch/{AT}"])
    code, found = record(run, "--norm", "slow_norms:Slow", *ONE, "--vs", "fails.py:Theirs")
    assert (code, found["rows"]) == (2, [])
    assert [(each["name"], each["status"], each["reason"]) for each in found["failures"]] == [
        (f"fails.py:Theirs/{AT}", "raised", "RuntimeError: planted"),
        (f"slow_norms:Slow/{AT}", "raised", f"its rival, fails.py:Theirs/{AT}: RuntimeError: planted"),
    ]


def test_a_limit_on_errors_needs_nothing_to_compare_with(run: Command) -> None:
    asked = ("bench", "--norm", "batch", *ONE, "--export", "junit:b.xml", "--export", "md:b.md")
    code, text, _ = run(*asked, "--fail-if", "error:1e-5")
    assert (code, "\ngate: holds: of 1 cases 1 within limits\n" in text) == (0, True)
    code, text, _ = run(*asked, "--fail-if", "error:1e-12")
    assert code == 3
    assert "\ngate: regression: of 1 cases 1 beyond the limit\n" in text
    assert " rms   error: 1e-12 rms   regression\n" in text
    assert " rms | error: 1e-12 rms | regression |" in Path("b.md").read_text()
    assert f'name="batch/{AT}: error, limit 1e-12 rms"' in Path("b.xml").read_text()


def test_memory_is_held_against_a_baseline_another_environment_or_a_rival(run: Command) -> None:
    asked = ("--norm", "batch", *ONE, "--fail-if", "peak:+5%")
    assert run("bench", *asked[:-2], "--save-baseline", "main")[0] == 0
    place = Path(".bncli/baselines/main.json")
    document = json.loads(place.read_text())
    assert list(document["peaks"]) == [f"batch/{AT}"]

    def peak(*more: str) -> tuple[int, str, float | None]:
        code, found = record(run, *asked, *more)
        (judgement,) = found["gate"]["judgements"]
        return code, judgement["why"], judgement["change"] and judgement["change"]["value"]

    def edit(**changes: Any) -> None:
        kept = {key: value for key, value in document.items() if key not in ("digest", *changes)}
        place.write_text(json.dumps(kept | {key: value for key, value in changes.items() if value}))

    assert peak("--baseline", "main") == (0, "", 1.0)
    edit(peaks={f"batch/{AT}": 1})
    assert peak("--baseline", "main")[0] == 3
    edit(peaks=None)  # as a bncli from before has it
    assert peak("--baseline", "main") == (4, "that of what it is compared with is not known", None)
    assert peak("--vs", "batch") == (0, "", 1.0)
    code, _, change = peak("--against", "env A=1 python")  # where everything takes 100 bytes
    assert code == 3
    assert change is not None
    assert change > 5


def test_the_function_takes_what_the_command_takes(run: Command) -> None:
    asked = {"shape": "8x16", "pass_": ["train-forward"], "threads": [1], "warm": True, "vs": "theirs.py:Theirs"}
    found = bncli.bench(norm=["batch", "layer(eps=0.1)"], **asked)
    assert [row.case.name for row in found.findings.rows] == [f"batch/{AT}", f"layer,eps=0.1/{AT}"]
    assert {row.rival for row in found.findings.rows} == {"theirs.py:Theirs"}
    assert found.study.cases[0].shapes == ("N8C16",)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--norm", "batch", "--shape", "8x"],
            "--shape: must be written like N32C64H56W56, 32x64x56x56 or N256C512, g",
        ),
        (["tiny.yaml", "--norm", "bacth"], "--norm: no norm is called 'bacth'; did you mean 'batch'?"),
        (["--norm", "no_such:Norm"], "--norm no_such:Norm: no module 'no_such' is installed"),
        (["tiny.yaml", "--vs", "bacth"], "--vs: no norm is called 'bacth'; did you mean 'batch'?"),
        (
            ["tiny.yaml", "--vs", "instance"],
            "--vs instance: norm 'instance' takes its statistics over locations, and N8",
        ),
        (["tiny.yaml", "--vs", "theirs.py:Thiers"], "--vs theirs.py:Thiers: theirs.py has no 'Thiers'; did you mean"),
        (["tiny.yaml", "--vs", "batch", "--against", "python"], "--vs and --against: give one of them"),
        (["tiny.yaml", "--vs", "batch", "--fail-if", "copy:+5%"], "--fail-if copy:+5%: --vs compares ratio or peak"),
        (["tiny.yaml", "--fail-if", "peak:+5%"], "--fail-if peak:+5%: compared with what? Add --baseline NAME, --aga"),
        (["tiny.yaml", "--aa", "--fail-if", "peak:+5%"], "--fail-if peak:+5%: --aa compares ratio or copy"),
        (["tiny.yaml", "--fail-if", "error:+5%"], "--fail-if error:+5%: expected [PATTERN=]MEASURE:+5% or error:1e-5"),
        (["tiny.yaml", "--threads", "all"], "--threads: must be a whole number from 1 to 1,024, got 'all'"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_flag(run: Command, arguments: list[str], line: str) -> None:
    code, out, said = run("bench", *arguments, "--warm")
    assert (code, out) == (2, "")
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_ls_cases_says_what_presets_hold(run: Command) -> None:
    code, text, _ = run("ls", "cases", "tiny.yaml")
    assert (code, text) == (0, f"tiny    2 cases: does it work?\n  batch/{AT}\n  layer/{AT}\n")
    code, text, _ = run("ls", "cases")
    assert code == 0
    assert "\nbench-quick       14 cases: how fast are the norms on this machine" in text
    code, text, _ = run("ls", "cases", "tiny.yaml", "--json", "-")
    assert json.loads(text) == {"tiny": {"question": "does it work?", "cases": [f"batch/{AT}", f"layer/{AT}"]}}
    code, text, said = run("ls", "cases", "quickstart")
    assert (code, text) == (2, "")
    assert said.startswith("quickstart.yaml: is a study; run it by")
