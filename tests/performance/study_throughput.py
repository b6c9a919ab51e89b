"""Run-steps a second: the loop that people write, the same with batches by index, and bncli, in one interleaved run.

The study is figure1's network with batch normalisation and none, 5 seeds x 4 learning rates. (a) and (b) are timed on
samples of it before and after bncli, whose time is that of the whole command, start-up and tracing counted in; so is the
convnet study of 3 seeds, batch 128, a twentieth of the steps. For the short run (one seed, 2,000 steps) both are whole
processes, from the start of Python to its end. The floor is the time of the step's matrix products alone, on one
thread, for two workers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bncli.data.mnist import load

RATES = "0.05,0.1,0.2,0.5"
SHORT = 2_000
BATCH, WIDTHS = 60, [784, 100, 100, 100, 10]


def network(normed: bool) -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in pairwise(WIDTHS[:-1]):
        layers += [nn.Linear(a, b), *([nn.BatchNorm1d(b)] if normed else []), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(*WIDTHS[-2:]))


def convnet(normed: bool) -> nn.Module:
    """The network of presets/convnet.yaml."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28))]
    for a, b in pairwise([1, 8, 16, 32]):
        layers += [nn.Conv2d(a, b, 3, padding=1), *([nn.BatchNorm2d(b)] if normed else []), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def loop(data: TensorDataset, model: nn.Module, batch: int, steps: int, by_index: bool) -> float:
    """Steps a second of the loop that people write, with torch's default threads."""
    loss = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data.tensors

    def batches():
        while by_index:
            for index in torch.randperm(len(x)).split(batch):
                yield x[index], y[index]
        while True:
            yield from DataLoader(data, batch_size=batch, shuffle=True)

    drawn = batches()
    start = 0.0
    for step in range(-20, steps):  # 20 steps to warm up
        if step == 0:
            start = time.perf_counter()
        inputs, targets = next(drawn)
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
    return steps / (time.perf_counter() - start)


def people(data: TensorDataset, make: Callable[[bool], nn.Module], batch: int, steps: int, by_index: bool) -> float:
    """Run-steps a second over both arms: as many of one as of the other."""
    return 2 / sum(1 / loop(data, make(normed), batch, steps, by_index) for normed in (False, True))


def bncli(preset: str, steps: int, seeds: int, rates: str = "0.1") -> tuple[float, float]:
    """Run-steps a second of the whole command, and the most memory its own process had, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bncli", "compare", preset, "--variants", "none,batch", "--seeds", str(seeds)]
        for key, value in {"training.steps": steps, "evaluation.every": steps, "training.lr": rates}.items():
            command += ["--set", f"{key}={value}"]
        command += ["--store", folder]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _peak_mb(process.pid))
            time.sleep(0.2)
        assert process.returncode == 0
        runs = 2 * seeds * len(rates.split(","))
        return runs * steps / (time.perf_counter() - start), peak


def short_script() -> float:
    """Run-steps a second of a whole script that trains both arms once for 2,000 steps as people do."""
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--as-people-do"], check=True)
    return 2 * SHORT / (time.perf_counter() - start)


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def floor(lanes: int = 10, repeats: int = 200) -> float:
    """Run-steps a second of one thread that computes a step's matrix products and nothing else."""
    pairs = list(pairwise(WIDTHS))
    inputs = [torch.randn(lanes, BATCH, a) for a, _ in pairs]
    weights = [torch.randn(lanes, b, a) for a, b in pairs]
    grads = [torch.randn(lanes, BATCH, b) for _, b in pairs]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    for _ in range(repeats):
        for layer, (x, w, g) in enumerate(zip(inputs, weights, grads, strict=True)):
            torch.bmm(x, w.mT)
            torch.bmm(g.mT, x)
            if layer:
                torch.bmm(g, w)
    rate = lanes * repeats / (time.perf_counter() - start)
    torch.set_num_threads(threads)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=int, default=1_000, help="steps of each sample of (a) and (b)")
    parser.add_argument("--as-people-do", action="store_true", help="only train both arms for a short run")
    options = parser.parse_args()
    train = load(binarize=127, standardize=False, device="cpu").train
    data = TensorDataset(train.inputs(torch.arange(len(train))), train.targets)
    if options.as_people_do:
        people(data, network, BATCH, SHORT, by_index=False)
        return
    workers = len(os.sched_getaffinity(0))
    ratios: dict[str, list[float]] = {name: [] for name in GOALS}
    for _ in range(options.rounds):
        before = [people(data, network, BATCH, options.sample, by_index) for by_index in (False, True)]
        whole, memory = bncli("figure1", options.steps, 5, RATES)
        script = short_script()
        short, _ = bncli("figure1", SHORT, 1)
        script = (script + short_script()) / 2
        after = [people(data, network, BATCH, options.sample, by_index) for by_index in (False, True)]
        a, b = ((x + y) / 2 for x, y in zip(before, after, strict=True))
        convolved = people(data, convnet, 128, options.sample // 10, by_index=False)
        images, _ = bncli("convnet", options.steps // 20, 3)
        limit = floor() * workers
        if not options.json:
            print(
                f"run-steps/s: a {a:.0f}  b {b:.0f}  bncli {whole:.0f}  floor {limit:.0f}",
                flush=True,
            )
            print(
                f"short: a {script:.0f}  bncli {short:.0f}  convnet: a {convolved:.1f}  bncli {images:.1f}", flush=True
            )
        found = (whole / a, whole / b, short / script, whole / limit, images / convolved, memory)
        for name, value in zip(GOALS, found, strict=True):
            ratios[name].append(value)
    figures = {name: _figure(name, values) for name, values in ratios.items()}
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(
            f"{name:24} {figure['value']:8.2f} [{figure['low']:.2f}, {figure['high']:.2f}] {figure['unit']}, goal {figure['goal']}"
        )


GOALS = {
    "over_loop": (">= 5", "x (a)"),
    "over_indexed_loop": (">= 4", "x (b)"),
    "short_over_loop": (">= 1.2", "x (a)"),
    "of_matrix_floor": (">= 0.45", "of the floor"),
    "convnet_over_loop": (">= 1.5", "x (a)"),
    "command_memory": ("<= 600", "MB"),
}


def _figure(name: str, values: list[float]) -> dict[str, object]:
    goal, unit = GOALS[name]
    return {"value": statistics.median(values), "low": min(values), "high": max(values), "unit": unit, "goal": goal}


if __name__ == "__main__":
    main()
