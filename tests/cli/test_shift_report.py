"""`bncli shift-report` as a user types it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bncli.analysis import ArmRuns
from bncli.analysis.shift import ShiftAsk, analyse_shift
from bncli.config import read_study
from bncli.findings.shift import Definition
from bncli.records import Record, RunInfo, RunResult
from bncli.shift import METRICS

PRESET = """
question: does it shift?
data: {name: mnist, binarize: 127}
model: {name: mlp, hidden: [8, 8], init: {normal: 0.1}}
training: {steps: 60, batch_size: 40, lr: 0.5}
evaluation: {every: 30, split: validation}
PROBES
variants: {none: none, batch: batch}
reference: none
seeds: 3
"""
PROBES = """
probes:
  metrics: [percentiles, percentile-drift, percentile-drift-relative, w1, saturation, gradient-shift, gradient-cosine]
  every: 10
  examples: 60
  units: 3
"""


def bncli(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bncli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment, timeout=200)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small probed study that has been trained once, what the command printed, and its JSON."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "study.yaml").write_text(PRESET.replace("PROBES", PROBES))
    done = bncli("shift-report", "study.yaml", "--jobs", "1", "--json", "all.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def test_the_report_has_sentences_a_table_a_variant_and_bands(trained: Path) -> None:
    text = (trained / "stdout").read_text()
    assert text.startswith("study: does it shift?\nmnist · mlp 784-8-8-10 sigmoid")
    assert "probed: 60 test examples every 10 steps, with running statistics" in text
    assert "\nnone (ref)\n" in text
    assert "\nbatch\n" in text
    assert "hidden.1.0" in text
    assert "15th, 50th and 85th percentile at hidden.1.0" in text
    assert "typical (unit " in text
    assert [
        n
        for n in json.loads((trained / "all.json").read_text())["notes"]
        if n["text"].startswith("probing took, of training time: none ")
    ]


def rebuilt(document: dict[str, Any]) -> tuple[list[ArmRuns], ShiftAsk]:
    """What the analysis was given, from the document alone."""
    arms: dict[str, ArmRuns] = {}
    for run in document["runs"]:
        records = tuple(
            Record(
                step=step,
                value=value,
                **{name: part for name, part in curve.items() if name not in ("steps", "values")},
            )
            for curve in run["curves"]
            for step, value in zip(curve["steps"], curve["values"], strict=True)
        )
        arm = arms.setdefault(run["variant"], ArmRuns(run["variant"], run["setting"], {}))
        arms[run["variant"]] = ArmRuns(
            arm.variant, arm.setting, {**arm.runs, run["seed"]: RunResult(run["spec"], RunInfo(**run["info"]), records)}
        )
    definitions = tuple(Definition(**definition) for definition in document["definitions"])
    margin = document["study"]["margins"]["ratio"]
    reference = document["study"]["reference"]
    return list(arms.values()), ShiftAsk("", "", "", "", reference, definitions, (), margin, (), {})


def test_every_word_follows_from_the_curves_in_the_json(trained: Path) -> None:
    document = json.loads((trained / "all.json").read_text())
    again = analyse_shift(*rebuilt(document))
    assert list(again.sentences) == document["sentences"]
    assert [asdict(note) for note in again.notes] == document["notes"]
    for comparison, written in zip(again.comparisons, document["comparisons"], strict=True):
        assert asdict(comparison) == written


def test_every_number_in_a_sentence_is_in_the_json(trained: Path) -> None:
    document = json.loads((trained / "all.json").read_text())
    labels = {d["name"]: d["label"] for d in document["definitions"]}
    said = [s for s in document["sentences"] if re.search(r"\dx? \[", s)]
    assert said
    for sentence in said:
        number = re.search(r"([-+\d.,]+)x? \[([-+\d.,]+), ([-+\d.,]+)\]", sentence)
        assert number
        values = [float(part.replace(",", "")) for part in number.groups()]
        fitting = [c for c in document["comparisons"] if c["estimate"] and labels[c["metric"]] in sentence]
        shown = [(c["estimate"], c["low"], c["high"]) for c in fitting]
        turned = [(1 / a, 1 / c, 1 / b) for a, b, c in shown if b and c and b > 0]
        assert any(values == pytest.approx(triple, rel=0.06, abs=0.006) for triple in [*shown, *turned])


def test_it_fits_a_narrow_terminal(trained: Path) -> None:
    done = bncli("shift-report", "study.yaml", cwd=trained, COLUMNS="80")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_compare_answers_from_the_same_runs(trained: Path) -> None:
    done = bncli("compare", "study.yaml", "--dry-run", cwd=trained)
    assert "6 runs (6 stored in .bncli)" in done.stdout


def test_layers_and_metrics_choose_what_is_shown(trained: Path) -> None:
    done = bncli("shift-report", "study.yaml", "--layers", "*.1.0", "--metrics", "w1,saturation", cwd=trained)
    assert "hidden.1.0" in done.stdout
    assert "hidden.0.0" not in done.stdout
    assert "gradient" not in done.stdout


def test_figures_are_written(trained: Path) -> None:
    pytest.importorskip("vl_convert", reason="needs the extra `report`")
    done = bncli("shift-report", "study.yaml", "--plot", "figures", cwd=trained)
    assert done.returncode == 0, done.stderr
    which = {"figure1", "bands", "layers", "ratios", "course-w1", "course-gradient-cosine"}
    names = {path.name for path in (trained / "figures").iterdir()}
    assert {f"study-{name}.{ending}" for name in which for ending in ("svg", "pdf", "png")} <= names
    assert {name.partition(".")[2] for name in names} == {"svg", "pdf", "png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "w2"], "--metrics: study does not probe 'w2'; did you mean 'w1'? (probed: percentile-drift, "),
        (
            ["--metrics", "ks"],
            "--metrics: study does not probe 'ks'; --set probes.metrics=standard probes it (probed: ",
        ),
        (["--layers", "conv*"], "--layers conv*: no probed layer matches"),
        (["--set", "probes.every=0"], "--set probes.every=0: probes.every: must be >= 1, got 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(trained: Path, arguments: list[str], message: str) -> None:
    done = bncli("shift-report", "study.yaml", *arguments, cwd=trained)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_preset_without_probes_is_given_the_light_tier(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(PRESET.replace("PROBES", ""))
    study = read_study(tmp_path / "study.yaml", ["probes.every=20", "probes.metrics=light"])
    assert set(study.probes.metrics) == {name for name, row in METRICS.items() if row.tier == "light"}
    assert study.probes.every == 20


@pytest.mark.parametrize(
    ("every", "sentence"),
    [
        (40, "percentile drift, relative percentile drift, W1 cannot be compared between batch and none: a drift is"
             " between two probes, and there was one: training has 60 steps and a probe comes every 40; lower"
             " probes.every or raise steps\n"),
        (100, "gradient cosine cannot be compared between batch and none: no probe was taken: training has 60 steps and a"
              " probe comes every 100; lower probes.every or raise steps\n"),
    ],
)  # fmt: skip
def test_a_run_too_short_for_its_probes_says_so(every: int, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(PRESET.replace("PROBES", PROBES))
    change = ("--seeds", "2", "--jobs", "1", "--set", f"probes.every={every}")
    done = bncli("shift-report", "study.yaml", *change, cwd=tmp_path, COLUMNS="400")
    assert done.returncode == 0
    assert sentence in done.stdout
