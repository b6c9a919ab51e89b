"""Plug-ins from the command line to the workers and back: what they add trains, and editing one retrains its runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bncli

PLUGIN = '''
import torch
from torch import nn


class Clip(nn.Module):
    """Centres each channel over the batch, and clips."""

    def __init__(self, channels: int, *, limit: float = 3.0):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        std, mean = torch.std_mean(x, 0, keepdim=True)
        return torch.clamp((x - mean) / (std + 1e-5), -self.limit, self.limit)


def narrow(features, classes, norm, *, width: int = 8):
    """One hidden layer."""
    return nn.Sequential(norm(nn.Linear(features, width)), nn.ReLU(), nn.Linear(width, classes))


NORMS = {"clip": Clip}
MODELS = {"narrow": narrow}
'''
DATA = '''
import torch


def clouds(*, device):
    """Two clouds of points."""
    generator = torch.Generator().manual_seed(0)

    def part(examples):
        y = torch.randint(0, 2, (examples,), generator=generator)
        return y[:, None] + 0.3 * torch.randn(examples, 2, generator=generator), y

    return {"train": part(400), "validation": part(100), "test": part(100)}


def spread(x):
    """Widest distance within a channel."""
    return x.amax(0) - x.amin(0)


DATASETS = {"clouds": clouds}
METRICS = {"spread": spread}
'''
STUDY = """
question: does it work with names that others add?
data: {name: clouds}
model: {name: narrow}
training: {steps: 40, batch_size: 20, lr: 0.3}
evaluation: {every: 20, split: validation}
probes: {metrics: [spread], every: 20, examples: 50}
target: {accuracy: 0.7}
variants: {none: none, batch: batch, clip: clip}
reference: none
seeds: 2
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "data.py").write_text(DATA)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "PYTHONPATH": str(Path(bncli.__file__).parents[1]), "COLUMNS": "160"}
    plugins = ("--plugin", "mine.py", "--plugin", "data.py")
    command = [sys.executable, "-m", "bncli", *arguments, *plugins, "--jobs", "2"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=known, timeout=200)


def test_names_of_plugins_train_in_workers_and_are_reported_and_editing_one_retrains_its_runs(place: Path) -> None:
    first = run("compare", "study.yaml", cwd=place)
    assert first.returncode == 0, first.stderr
    assert "[6/6]" in first.stderr
    assert " clip " in first.stdout
    shift = run("shift-report", "study.yaml", cwd=place)
    assert shift.returncode == 0, shift.stderr
    assert "spread" in shift.stdout
    assert shift.stderr == ""  # everything was stored
    (place / "data.py").touch()
    assert run("compare", "study.yaml", cwd=place).stderr == ""

    (place / "study.yaml").write_text(STUDY.replace("model: {name: narrow}", "model: {name: mlp, hidden: [8]}"))
    assert "[6/6]" in run("compare", "study.yaml", cwd=place).stderr
    (place / "mine.py").write_text(PLUGIN.replace("3.0", "2.5"))
    again = run("compare", "study.yaml", cwd=place)
    assert again.returncode == 0, again.stderr
    trained = {line.split()[1] for line in again.stderr.splitlines() if line.startswith("[")}
    assert trained == {"clip"}  # the only variant whose code was edited


def test_a_preset_cannot_name_code(place: Path) -> None:
    (place / "study.yaml").write_text(STUDY.replace("clip: clip", "clip: mine.py:Clip"))
    done = run("compare", "study.yaml", cwd=place)
    assert done.returncode == 2
    assert "norm 'mine.py:Clip': a preset cannot name code" in done.stderr


def test_a_broken_plugin_is_a_line(place: Path) -> None:
    (place / "mine.py").write_text("import torch\n1 / 0\n")
    done = run("train", "study.yaml", cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "mine.py" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr


def test_bench_times_a_norm_of_a_plugin_in_its_own_processes(place: Path) -> None:
    (place / "bench.yaml").write_text(
        "question: fast?\nbudget: 1\ncases:\n  - {norms: [clip], shapes: [N8C16], passes: [train-forward]}\n"
    )
    known = {**os.environ, "PYTHONPATH": str(Path(bncli.__file__).parents[1])}
    command = [sys.executable, "-m", "bncli", "bench", "bench.yaml", "--plugin", "mine.py", "--json", "-"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=known, timeout=200)
    assert done.returncode == 0, done.stderr
    assert '"norm": "clip"' in done.stdout or "clip/train-forward" in done.stdout


def test_functions_take_plugins_and_leave_no_trace(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    result = bncli.train("study.yaml", plugins=["mine.py", "data.py"], jobs=1, seeds=1)
    assert all(run.result and run.result.info.status == "done" for run in result.runs)
    assert "clip" not in bncli.NORMS
