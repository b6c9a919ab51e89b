"""The recipe of docs/ci.md, its steps run one after the other as a shell script, on a good and on a slow kernel."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.nightly

DOC = Path(__file__).parent.parent / "docs" / "ci.md"
SLOW = """
from torch import nn

class FastNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, x):
        for _ in range(30):
            y = self.norm(x)
        return y
"""


def steps(number: int = 0) -> dict[str, str]:
    """A recipe's `run` steps by name."""
    recipe = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL)[number])
    (job,) = recipe["jobs"].values()
    return {step["name"]: step["run"] for step in job["steps"] if "run" in step}


def run(step: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One step as GitHub runs it: `bash -e`, in the workspace, with a step summary."""
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(DOC.parent.parent),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    return subprocess.run(
        ["bash", "-e", "-c", step], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkouts of a repository with a kernel, and `bncli` on the path."""
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("base", "head", "bin"):
        (folder / name).mkdir()
    kernel = SLOW.replace("range(30)", "range(1)")
    (folder / "base" / "my_kernels.py").write_text(kernel)
    (folder / "head" / "my_kernels.py").write_text(kernel)
    command = folder / "bin" / "bncli"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bncli "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="GitHub's Linux runners are what the recipe is for")
def test_every_step_of_the_recipe_runs_and_a_slow_kernel_fails_the_gate(workspace: Path) -> None:
    found = steps()
    assert list(found) == ["Install", "Runner", "Baseline", "Gate"]
    for name in ("Runner", "Baseline", "Gate"):
        done = run(found[name], workspace)
        assert done.returncode == 0, f"{name}: {done.stderr}"
    assert "my_kernels:FastNorm/train-forward/N256C256/f32/nc/cpu" in (workspace / "summary.md").read_text()
    assert len(json.loads((workspace / "head" / "bench.json").read_text())["benchmarks"]) == 2

    (workspace / "head" / "my_kernels.py").write_text(SLOW)
    done = run(found["Gate"], workspace)
    assert done.returncode == 3, done.stderr
    assert "**gate: regression: of 2 cases 2 slower than allowed" in (workspace / "summary.md").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="GitHub's Linux runners are what the recipe is for")
def test_every_step_of_the_nightly_recipe_runs_and_shows_how_the_kernel_has_developed(workspace: Path) -> None:
    found = steps(1)
    (workspace / "my_kernels.py").write_text((workspace / "base" / "my_kernels.py").read_text())
    assert list(found) == ["Install", "Measure", "Show"]
    for name in ("Measure", "Measure", "Show"):
        done = run(found[name], workspace)
        assert done.returncode == 0, f"{name}: {done.stderr}"
    lines = [json.loads(line) for line in (workspace / "history" / "kernels.jsonl").read_text().splitlines()]
    assert [len(line["rows"]) for line in lines] == [2, 2]
    assert "### history kernels" in (workspace / "summary.md").read_text()
    assert "my_kernels:FastNorm/train-forward/N256C256/f32/nc/cpu" in done.stdout
