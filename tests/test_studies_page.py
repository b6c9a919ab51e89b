"""docs/studies.md does what it says."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from bncli.config.yaml_tree import parse
from bncli.measures import MEASURES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "studies.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run(script: str, folder: Path, *arguments: str, program: str = sys.executable) -> list[str]:
    """Lines that a script prints; beside it are `score.py` of the page and a command `bncli`."""
    (folder / "script").write_text(script)
    (folder / "score.py").write_text(next(block for block in blocks("python") if "def score(" in block))
    (folder / "bncli").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bncli "$@"\n')
    (folder / "bncli").chmod(0o755)
    known = os.pathsep.join(filter(None, [str(ROOT), str(folder), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": known, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = [program, "script", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def script(word: str) -> str:
    """The page's script that imports this."""
    (found,) = [block for block in blocks("python") if f"import {word}" in block]
    return found


def check(rate: float, accuracy: float) -> None:
    assert 0.03 <= rate <= 3
    assert 0.1 < accuracy < 1


def test_every_measure_is_described() -> None:
    named = {
        name
        for line in PAGE.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
        if "NAME" not in name  # a measure of a metric that the study declares
    }
    assert named == {name for name, row in MEASURES.items() if row.of != "probe"}


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_piece_of_a_preset_is_one(text: str, tiny: Any) -> None:
    assert parse(text).problems == []
    assert tiny(**parse(text).data)


def test_the_script_prints_what_each_variant_did(tmp_path: Path) -> None:
    lines = run(script("bncli"), tmp_path)
    assert [line.split()[0] for line in lines] == ["none", "batch"]


@pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is not installed")
def test_the_search_with_optuna_finds_a_rate(tmp_path: Path) -> None:
    (line,) = run(script("optuna"), tmp_path)
    check(*map(float, line.split()))


@pytest.mark.nightly
@pytest.mark.skipif(find_spec("ray") is None or find_spec("tensorboardX") is None, reason="ray[tune] is not installed")
def test_the_search_with_ray_tune_finds_a_rate(tmp_path: Path) -> None:
    check(*map(float, run(script("tune"), tmp_path)[-1].split()))


@pytest.mark.nightly
@pytest.mark.skipif(find_spec("hydra") is None, reason="hydra is not installed")
def test_the_sweep_with_hydra_scores_each_point(tmp_path: Path) -> None:
    lines = run(script("hydra"), tmp_path, "--multirun", "+lr=0.3,1")
    scored = [line.split() for line in lines if not line.startswith("[")]
    assert [rate for rate, _ in scored] == ["0.3", "1"]
    for rate, accuracy in scored:
        check(float(rate), float(accuracy))


@pytest.mark.nightly
@pytest.mark.skipif(which("jq") is None, reason="jq is not installed")
def test_the_shell_script_prints_the_best_rate(tmp_path: Path) -> None:
    (text,) = blocks("sh")
    (line,) = run(text, tmp_path, program="sh")
    accuracy, rate = map(float, line.split())
    check(rate, accuracy)


def test_what_no_test_runs_is_marked_untried() -> None:
    tested = ("def score(", "import bncli", "import optuna", "import tune", "import hydra")
    untested = [block for block in blocks("python") if not any(word in block for word in tested)]
    assert ["untried" in PAGE.partition(block)[0].splitlines()[-3] for block in untested] == [True]
