"""docs/studies.md does what it says."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bncli.config.yaml_tree import parse
from bncli.measures import MEASURES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "studies.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run(script: str, folder: Path) -> list[str]:
    (folder / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


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
    first, _ = blocks("python")
    lines = run(first, tmp_path)
    assert [line.split()[0] for line in lines] == ["none", "batch"]


@pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is not installed")
def test_the_search_with_optuna_finds_a_rate(tmp_path: Path) -> None:
    _, search = blocks("python")
    (line,) = run(search, tmp_path)
    rate, accuracy = map(float, line.split())
    assert 0.03 <= rate <= 3
    assert 0.1 < accuracy < 1
