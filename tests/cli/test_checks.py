"""Claims, gates, tuning and events as a user types them; each exit code."""

import io
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from rich.text import Text

import bncli
from bncli.cli.output import write
from bncli.errors import BncliError, ConfigError, Problem
from bncli.findings import Check
from bncli.report.checks import annotations, junit, markdown
from bncli.report.layout import Column, say, table, wrapped

PRESET = """
question: does it work?
data: {name: mnist, binarize: 127}
model: {name: mlp, hidden: [8], init: {normal: 0.1}}
training: {steps: 40, batch_size: 40, lr: 0.5}
evaluation: {every: 20, split: test}
target: {accuracy: 0.6}
variants: {none: none, batch: batch}
reference: none
seeds: 3
claims:
  - {measure: final_accuracy, of: batch, level: {above: 0.05}, source: chance}
"""
CONFIRMED = "level: {above: 0.05}"
ROOT = Path(bncli.__file__).parent


def run(*arguments: str, cwd: Path, code: Path = ROOT.parent, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(code), "COLUMNS": "160", **environment}
    command = [sys.executable, "-m", "bncli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, timeout=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a baseline of a small study, whose runs are in the ordinary store too."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "study.yaml").write_text(PRESET)
    done = run("compare", "study.yaml", "--save-baseline", "main", "--jobs", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    (made,) = (folder / ".bncli" / "sources").iterdir()
    shutil.copytree(made / "runs", folder / ".bncli" / "runs")
    return folder


def claiming(folder: Path, band: str) -> str:
    name = f"{abs(hash(band))}.yaml"
    (folder / name).write_text(PRESET.replace(CONFIRMED, band))
    return name


def test_confirmed_claims_exit_with_0(folder: Path) -> None:
    done = run("compare", "study.yaml", "--check", "--markdown", "checks.md", "--junit", "checks.xml", cwd=folder)
    assert done.returncode == 0
    assert "confirmed  final accuracy, batch: above 5 %\n           measured " in done.stdout
    assert "| confirmed | final accuracy, batch: above 5 % |" in (folder / "checks.md").read_text()
    assert 'failures="0"' in (folder / "checks.xml").read_text()


def test_a_refuted_claim_exits_with_3_and_is_annotated(folder: Path) -> None:
    name = claiming(folder, "level: {below: 0.05}")
    done = run("compare", name, "--check", "--github", cwd=folder, GITHUB_STEP_SUMMARY=str(folder / "summary.md"))
    assert done.returncode == 3
    assert "::error::final accuracy, batch: below 5 %25 (measured " in done.stdout
    assert "| refuted |" in (folder / "summary.md").read_text()


def test_an_open_claim_exits_with_4(folder: Path) -> None:
    assert run("compare", "study.yaml", "--check", "--seeds", "1", cwd=folder).returncode == 4


def test_the_same_code_holds_its_baseline_without_training(folder: Path) -> None:
    done = run("compare", "study.yaml", "--baseline", "main", "--fail-if", "steps_to_target:+10%", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "identical  batch: numbers" in done.stdout


@pytest.mark.parametrize("lost", ["runs", "arms", "measures"])
def test_a_baseline_that_is_not_whole_is_a_line_before_anything_is_trained(lost: str, folder: Path) -> None:
    whole = json.loads((folder / ".bncli" / "baselines" / "main.json").read_text())
    (folder / "part.json").write_text(
        json.dumps({key: value for key, value in whole.items() if key not in (lost, "digest")})
    )
    done = run("compare", "study.yaml", "--baseline", "part.json", "--set", "training.lr=0.25", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("part.json: ")
    assert (done.stderr.count("\n"), f"'{lost}'" in done.stderr) == (1, True)


def test_a_variant_left_out_by_name_is_said_and_passes_and_one_that_is_gone_does_not(folder: Path) -> None:
    done = run("compare", "study.yaml", "--baseline", "main", "--variants", "none", cwd=folder)
    assert done.returncode == 0
    assert "left out   batch: runs\n" in done.stdout
    (folder / "less.yaml").write_text(PRESET.replace(", batch: batch", "").partition("claims:")[0])
    done = run("compare", "less.yaml", "--baseline", "main", cwd=folder)
    assert done.returncode == 4
    assert "gone       batch: runs\n" in done.stdout


def test_a_missing_baseline_exits_with_4_before_anything_is_trained(folder: Path) -> None:
    done = run("compare", "study.yaml", "--baseline", "old", cwd=folder)
    assert done.returncode == 4
    assert done.stderr == ".bncli/baselines/old.json: there is no such baseline; make one with --save-baseline old\n"


def test_a_changed_norm_is_trained_again_and_exits_with_3(folder: Path, tmp_path: Path) -> None:
    """Its runs have the ids of those stored: only the code differs."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT, tmp_path / "bncli", ignore=skip)
    shutil.copytree(ROOT.parent / "presets", tmp_path / "presets")
    norm = tmp_path / "bncli" / "norms" / "batch.py"
    changed = norm.read_text().replace(
        "self.eps, self.momentum, self.affine, self.impl = channels, eps,",
        "self.eps, self.momentum, self.affine, self.impl = channels, 100 * eps,",
    )
    assert changed != norm.read_text()
    norm.write_text(changed)
    done = run("compare", "study.yaml", "--baseline", "main", "--jobs", "1", cwd=folder, code=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "identical  none: numbers" in done.stdout
    assert "changed    batch: numbers\n           3 of 3 runs differ, first at step 0" in done.stdout


def test_a_tuned_study_ends_with_its_choice_and_goes_on_from_the_store(folder: Path) -> None:
    tuned = PRESET + "tune: {over: {training.lr: [0.1, 0.3, 1]}, seeds: 2}\nmeasures: [final_accuracy, usable_range]\n"
    (folder / "tuned.yaml").write_text(tuned)
    done = run("compare", "tuned.yaml", "--jobs", "1", "--events", "events.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (
        "lr was tuned for each variant over 3 values x 2 seeds by validation accuracy: 12 runs, 480 steps"
        in done.stdout
    )
    again = run("compare", "tuned.yaml", "--json", "-", cwd=folder)
    assert again.stderr == ""
    found = json.loads(again.stdout)
    assert len(found["runs"]) == 12 + 6
    assert {t["variant"]: t["chosen"] for t in found["tunings"]} == {
        a["variant"]: a["chosen"]["training.lr"] for a in found["arms"]
    }
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds.count("started"), kinds.count("finished"), kinds[-1]) == (2, 18, "findings")


def test_a_searched_study_ends_with_its_points_and_goes_on_from_the_store(folder: Path) -> None:
    space = "{training.lr: {log: [0.1, 1]}, training.weight_decay: [0, 0.001]}"
    (folder / "searched.yaml").write_text(
        PRESET + f"search: {{over: {space}, trials: 3, seeds: 1, prune: halving}}\nmeasures: [final_accuracy]\n"
    )
    plan = run("compare", "searched.yaml", "--dry-run", "--jobs", "1", cwd=folder)
    assert "1 run (seed 1000), 0 stored, to step 5, ~" in plan.stdout
    done = run("compare", "searched.yaml", "--jobs", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (
        "lr and weight_decay were searched for each variant by 3 trials x 1 seed of halton, the better third going on"
        " after 5 and 14 steps, by"
    ) in done.stdout
    assert "best validation accuracy, %, median over seeds, after so many trials of 5 steps" in done.stdout
    again = run("compare", "searched.yaml", "--json", "-", cwd=folder)
    assert again.stderr == ""
    found = json.loads(again.stdout)
    assert len(found["runs"]) == 2 * (3 + 1 + 1) + 6
    assert {s["variant"]: s["chosen"] for s in found["searches"]} == {a["variant"]: a["chosen"] for a in found["arms"]}
    assert "null" not in json.dumps([s["trials"] for s in found["searches"]])
    for figures, code in (("figures", 0), ("study.yaml/figures", 2)):
        if find_spec("vl_convert"):
            plotted = run("compare", "searched.yaml", "--plot", figures, cwd=folder)
            assert plotted.returncode == code, plotted.stderr


def test_figures_of_a_study_are_written_as_svg_pdf_and_png(folder: Path) -> None:
    done = run("compare", "study.yaml", "--plot", "plots", "--style", "paper", cwd=folder)
    if find_spec("vl_convert"):
        names = {path.name for path in (folder / "plots").iterdir()}
        assert {f"study-convergence.{ending}" for ending in ("svg", "pdf", "png")} <= names
    expected = (0, "") if find_spec("vl_convert") else (2, "figures need vl-convert: pip install 'bncli[report]'\n")
    assert (done.returncode, done.stderr) == expected


def test_the_reference_against_itself_is_not_better_or_worse(folder: Path) -> None:
    done = run("compare", "study.yaml", "--aa", "--jobs", "1", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "none again" in done.stdout
    assert "steps to 60 %, none against itself" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--fail-if", "steps_to_target:+10%"], "--fail-if: says how far a measure may move from a baseline; give --baseline too"),
        (["--baseline", "main", "--fail-if", "final_loss:+1%"], "--fail-if final_loss:+1%: no measure is called 'final_loss'"),
        (["--baseline", "main", "--fail-if", "final_accuracy:+0.5"], "--fail-if final_accuracy:+0.5: higher is better, and a"),
        (["--aa", "--check"], "--aa: compares the reference with itself; it goes with no --check and no baseline"),
        (["--check", "--variants", "none"], "--check: study makes no claims about these variants"),
        (["--baseline", "study.yaml/x"], "study.yaml/x: cannot be read"),
        (["--baseline", "main", "--fail-if", "final_accuracy:-1%", "--fail-if", "bacth=final_accuracy:-0.005"],
         "--fail-if bacth=final_accuracy:-0.005: nothing here matches bacth; did you mean 'batch'? (known: none, batch)"),
        (["--events", "no/such"], "--events no/such: there is no folder no"),
        (["--check", "--junit", "no/such"], "--junit no/such: there is no folder no"),
        (["--check", "--markdown", "."], "--markdown .: . is a folder; name a file in it"),
        (["--junit", "checks.xml"], "--junit checks.xml: nothing is checked; add --check, --baseline NAME or --aa"),
        (["--save-baseline", "study.yaml/x"], "--save-baseline study.yaml/x: study.yaml/x cannot be written"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_2(arguments: list[str], line: str, folder: Path) -> None:
    done = run("compare", "study.yaml", *arguments, cwd=folder)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_compare_is_a_function_too(folder: Path) -> None:
    events = []
    found = bncli.compare(
        folder / "study.yaml", set={"training.lr": 0.5}, store=folder / ".bncli", on_event=events.append
    )
    assert [arm.variant for arm in found.findings.arms] == ["none", "batch"]
    document = json.loads(found.to_json())
    assert document["verdicts"][0]["verdict"] == found.findings.arms[1].comparisons[0].verdict
    assert [run["values"]["final_accuracy"]["value"] for run in document["runs"]][:3] == [
        v.value for v in found.findings.arms[0].summaries[1].values
    ]
    assert "<td>none (ref)</td>" in found._repr_html_()
    assert events == []  # everything was stored


EVIL = "a\x1b]0;title\x07\r\n::error::b\u202e|c"
SHOWN = r"a\x1b]0;title\x07\r\n::error::b\u202e"


def test_no_name_steers_a_document_or_starts_a_command_of_github() -> None:
    checks = [Check(EVIL, "failed", EVIL, "refuted")]
    xml = junit(EVIL, checks)
    case = ElementTree.fromstring(xml)[0]
    assert (case.get("name"), case.get("classname"), case[0].get("message")) == (f"{SHOWN}|c",) * 3
    table = markdown(EVIL, checks)
    assert table.splitlines()[0] == f"### {SHOWN}|c"
    assert len(table.splitlines()) == 5
    (line,) = annotations(checks)
    assert line.startswith(r"::error::a\x1b]0;title\x07\r%0A::error::b\u202e|c (")
    assert all(text.isprintable() for text in (*table.splitlines(), *xml.splitlines(), line))


def test_no_name_steers_a_terminal() -> None:
    console = Console(file=(file := io.StringIO()), width=400, force_terminal=True, color_system=None)
    for line in table([Column("variant", (Text(EVIL), Text("b")))]):
        say(console, line)
    say(console, wrapped(EVIL, 100))
    say(console, EVIL)
    lines = file.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[1].rstrip() == r" a\x1b]0;title\n::error::b\u202e|c"  # rich itself drops bells and returns


def test_no_key_of_a_preset_steers_a_terminal_or_makes_a_line_of_its_own() -> None:
    assert str(ConfigError(Problem((EVIL,), f"no such key {EVIL!r}"))) == rf"{SHOWN}|c: no such key {EVIL!r}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("flag", ["--json", "--markdown", "--junit", "--to"])
def test_a_full_target_is_one_line(flag: str) -> None:
    with pytest.raises(BncliError) as raised:
        write("/dev/full", "text\n" * 10_000, f"{flag} /dev/full")
    assert str(raised.value) == f"{flag} /dev/full: cannot write (No space left on device)"
