"""How long the light commands take, in units of importing typer, rich and yaml; a table, or --json.

A plug-in is installed that imports torch, which no light command may wait for.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOALS = {"help": 2.0, "unknown_preset": 2.5}

COMMANDS = {
    "base": ["-c", "import typer, rich, yaml"],
    "help": ["-m", "bncli", "--help"],
    "unknown_preset": ["-m", "bncli", "compare", "nonsense"],
}


def install_plugin(folder: Path) -> None:
    """A package with an entry point, as pip would leave it."""
    (folder / "heavy_norms.py").write_text("import torch\nNORMS = {}\n")
    info = folder / "heavy_norms-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: heavy-norms\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bncli.plugins]\nheavy = heavy_norms\n")


def seconds(arguments: list[str], folder: Path) -> float:
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert "torch" not in done.stderr, done.stderr
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        install_plugin(Path(place))
        rounds = [
            {name: seconds(arguments, Path(place)) for name, arguments in COMMANDS.items()}
            for _ in range(options.rounds)
        ]
    figures = {}
    for name in ("help", "unknown_preset"):
        ratios = [r[name] / r["base"] for r in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4)
        figures[name] = {"value": middle, "low": low, "high": high, "unit": "times the imports", "goal": GOALS[name]}
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(
            f"{name:16} {figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}] (goal: at most {figure['goal']})"
        )


if __name__ == "__main__":
    main()
