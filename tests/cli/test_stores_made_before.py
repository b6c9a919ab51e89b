"""Commands on stores and baselines that the code before the second house made."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bncli
from bncli.code_hash import fingerprint
from bncli.engine.environment import environment

FOLDER = Path(__file__).parents[1] / "fixtures" / "before_second_house"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "PYTHONPATH": str(Path(bncli.__file__).parents[1]), "COLUMNS": "160"}
    command = [sys.executable, "-m", "bncli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=known, timeout=200)


def test_of_a_store_made_before_only_norms_whose_numbers_have_changed_are_trained_again(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "quickstart", tmp_path / "store")
    ask = ("compare", "quickstart", "--store", "store", "--device", "cpu", "--dry-run")
    done = run(*ask, "--variants", "none,batch", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "quickstart: 10 runs (10 stored in store)" in done.stdout
    assert ", 0 to train," in done.stdout
    assert "quickstart: 25 runs (10 stored in store)" in run(*ask, cwd=tmp_path).stdout  # the others whiten


def test_runs_and_a_baseline_made_before_are_held_against_each_other(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "smoke", tmp_path / "store")
    shutil.copytree(FOLDER / "smoke" / "runs", tmp_path / "store" / "sources" / fingerprint() / "runs")
    done = run("compare", "smoke", "--store", "store", "--device", "cpu", "--baseline", "main", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("all 3 runs are the baseline's, number for number") == 2
    assert "seed" not in done.stderr  # nothing was trained


def test_a_run_of_today_passes_a_baseline_made_before(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "smoke", tmp_path / "store")
    made = json.loads((FOLDER / "smoke" / "baselines" / "main.json").read_text())["environment"]
    here = {key: value for key, value in environment("cpu").items() if key not in ("bncli", "machine")}
    if here != {key: made[key] for key in here}:
        pytest.skip(f"the baseline's numbers were made elsewhere: {made}")
    done = run("compare", "smoke", "--store", "store", "--jobs", "1", "--baseline", "main", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("all 3 runs are the baseline's, number for number") == 2
    assert done.stderr.count("done") == 6
