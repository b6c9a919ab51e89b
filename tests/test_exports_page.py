"""docs/exports.md does what it says: its recipes run as they stand, where the tool is installed."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bncli.report.exports import FORMATS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "exports.md").read_text()
RECIPES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FOUND = {
    "torch.utils.tensorboard": "logs/*/events*",
    "mlflow": "mlruns/**/loss",
    "wandb": "wandb/offline-run-*/*.wandb",
}


def test_every_format_is_on_the_page() -> None:
    table = {
        name
        for line in PAGE.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([\w-]+)`", line.split("|")[1])
    }
    assert set(FORMATS) <= table


@pytest.mark.nightly
@pytest.mark.parametrize("tool", FOUND)
def test_a_recipe_logs_every_run(tool: str, tmp_path: Path) -> None:
    package = tool.rpartition(".")[2]
    if not find_spec(package):
        pytest.skip(f"{package} is not installed")
    (recipe,) = [each for each in RECIPES if f"import {package}" in each or f"from {tool}" in each]
    (tmp_path / "log.py").write_text(recipe)
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true", "WANDB_SILENT": "true",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "log.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob(FOUND[tool]))) == 4
