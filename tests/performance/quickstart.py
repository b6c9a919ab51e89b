"""The first table of `bncli compare`, over a plain loop of one of its 25 runs; and a rerun, which answers from the store.

    python tests/performance/quickstart.py [--rounds 3] [--json]

A round times the loop (2,000 steps of batch normalisation on the quickstart's network, one thread, batches by index, no
evaluation), the whole command on an empty store, the loop again, and then, five times each in turn, the same command on the
store that there is now and `python -c "import typer, rich, yaml"`. Goals: 15 loops, half a second. Python's bytecode is
there beforehand, as it is of what is installed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from bncli.data.mnist import load

STEPS, BATCH, RERUNS = 2_000, 60, 5
GOALS = {
    "quickstart": ("<= 15", "x the loop"),
    "rerun": ("<= 0.5", "s"),
    "rerun_over_imports": ("", "x the imports"),
}


def time_loop() -> float:
    """Seconds of the plain loop on one thread."""
    torch.set_num_threads(1)
    train = load(binarize=127, standardize=False, device="cpu").train
    x, y = train.inputs(torch.arange(len(train))), train.targets
    layers: list[nn.Module] = []
    for a, b in pairwise([784, 100, 100, 100]):
        layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.Sigmoid()]
    model, loss = nn.Sequential(*layers, nn.Linear(100, 10)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    start, step = 0.0, -20  # 20 steps to warm up
    while step < STEPS:
        for index in torch.randperm(len(x)).split(BATCH):
            if step == 0:
                start = time.perf_counter()
            if step == STEPS:
                break
            optimizer.zero_grad()
            loss(model(x[index]), y[index]).backward()
            optimizer.step()
            step += 1
    return time.perf_counter() - start


def time_process(arguments: list[str], environment: dict[str, str], folder: str) -> float:
    """Seconds from the start of a Python to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def measure_round(bytecode: str) -> dict[str, float]:
    """Every figure once."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["-m", "bncli", "compare"]
    with tempfile.TemporaryDirectory() as folder:
        short = ["--set", "training.steps=60", "--seeds", "3", "--store", "other"]
        time_process([*command, *short], environment, folder)  # writes the bytecode
        before = time_loop()
        whole = time_process(command, environment, folder)
        loop = (before + time_loop()) / 2
        imports = ["-c", "import typer, rich, yaml"]
        pairs = [
            (time_process(command, environment, folder), time_process(imports, environment, folder))
            for _ in range(RERUNS)
        ]
    return {
        "quickstart": whole / loop,
        "rerun": statistics.median(again for again, _ in pairs),
        "rerun_over_imports": statistics.median(again / imported for again, imported in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as bytecode:
        rounds = [measure_round(bytecode) for _ in range(options.rounds)]
    figures = {}
    for name, (goal, unit) in GOALS.items():
        values = [found[name] for found in rounds]
        figures[name] = {
            "value": statistics.median(values), "low": min(values), "high": max(values), "unit": unit, "goal": goal,
        }  # fmt: skip
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        wanted = f", goal {figure['goal']}" if figure["goal"] else ""
        print(f"{name:20} {figure['value']:7.2f} [{figure['low']:.2f}, {figure['high']:.2f}] {figure['unit']}{wanted}")


if __name__ == "__main__":
    main()
