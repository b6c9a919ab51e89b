"""Run-steps a second: the loop that people write, the same with batches by index, JAX, two floors, and bncli, in turns.

The study is figure1's network with batch normalisation and none, 5 seeds x 4 learning rates. (a), (b), JAX and the floors
are timed on samples of it before and after bncli, whose time is that of the whole command, start-up and recording
counted in; so is that of the convolutional and residual studies of 3 seeds. JAX (`jax_peer.py`, where the extra `peers` is
installed) has a process a core; its start-up is added to the time that as many steps take at its rate. For the short run
(one seed, 2,000 steps) both are whole processes, from the start of Python to its end. The floor of a multilayer
perceptron is the time of a step's matrix products alone, that of a convolutional network the time of its convolutions,
forward and backward; on one thread, times as many as there are cores.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bncli.data.mnist import load

RATES = "0.05,0.1,0.2,0.5"
SEEDS, SHORT = 5, 2_000
BATCH, WIDTHS = 60, [784, 100, 100, 100, 10]
SMALLER = {"convnet": 20, "residual": 40}  # of the study's steps, one in so many
HERE = Path(__file__).parent

GOALS = {
    "over_loop": (">= 7", "x (a)"),
    "over_indexed_loop": (">= 4", "x (b)"),
    "over_jax": (">= 1.6", "x JAX"),
    "of_matrix_floor": (">= 0.65", "of the floor"),
    "short_over_loop": (">= 2", "x (a)"),
    "command_memory": ("<= 600", "MB"),
    "convnet_over_loop": (">= 2.5", "x (a)"),
    "convnet_of_floor": (">= 0.6", "of the floor"),
    "residual_over_loop": (">= 2.5", "x (a)"),
    "residual_of_floor": (">= 0.6", "of the floor"),
}


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


class Block(nn.Module):
    """A residual block; where it halves the size, zeros stand for the channels that its shortcut lacks."""

    def __init__(self, inputs: int, channels: int, normed: bool) -> None:
        super().__init__()
        self.stride = 1 if inputs == channels else 2
        self.conv1 = nn.Conv2d(inputs, channels, 3, self.stride, 1, bias=not normed)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=not normed)
        self.norm1, self.norm2 = (nn.BatchNorm2d(channels) if normed else nn.Identity() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        if self.stride == 2:
            x = nn.functional.pad(x[..., ::2, ::2], (0, 0, 0, 0, 0, branch.shape[1] - x.shape[1]))
        return torch.relu(x + branch)


def residual(normed: bool) -> nn.Module:
    """The network of presets/resnet.yaml."""
    norm = [nn.BatchNorm2d(8)] if normed else []
    first = [nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 8, 3, padding=1, bias=not normed), *norm, nn.ReLU()]
    blocks = [Block(a, b, normed) for a, b in pairwise([8, 8, 16, 32])]
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


Layer = tuple[int, int, int, int]  # of a convolution: channels in and out, height of its input, stride
LAYOUTS = torch.contiguous_format, torch.channels_last
# the network as people write it, the preset, the batch, the convolutions
IMAGES: dict[str, tuple[Callable[[bool], nn.Module], str, int, list[Layer]]] = {
    "convnet": (convnet, "convnet", 128, [(1, 8, 28, 1), (8, 16, 14, 1), (16, 32, 7, 1)]),
    "residual": (
        residual, "resnet", 64,
        [(1, 8, 28, 1), (8, 8, 28, 1), (8, 8, 28, 1), (8, 16, 28, 2), (16, 16, 14, 1), (16, 32, 14, 2), (32, 32, 7, 1)],
    ),
}  # fmt: skip


def step_of_people(data: TensorDataset, model: nn.Module, batch: int, by_index: bool = False) -> Callable[[], None]:
    """One step of the loop that people write, at each call."""
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

    def step() -> None:
        inputs, targets = next(drawn)
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()

    return step


def loop(data: TensorDataset, model: nn.Module, batch: int, steps: int, by_index: bool) -> float:
    """Steps a second of the loop that people write, with torch's default threads."""
    step, start = step_of_people(data, model, batch, by_index), 0.0
    for i in range(-20, steps):  # 20 steps to warm up
        if i == 0:
            start = time.perf_counter()
        step()
    return steps / (time.perf_counter() - start)


def people(data: TensorDataset, make: Callable[[bool], nn.Module], batch: int, steps: int, by_index: bool) -> float:
    """Run-steps a second over both arms: as many of one as of the other."""
    return 2 / sum(1 / loop(data, make(normed), batch, steps, by_index) for normed in (False, True))


def bncli(preset: str, steps: int, seeds: int, rates: str = "0.1") -> tuple[float, float]:
    """Run-steps a second of the whole command, and the most memory its own process had, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bncli", "compare", preset, "--variants", "none,batch", "--seeds", str(seeds)]
        settings = {"training.steps": steps, "evaluation.every": steps, "training.lr": rates, "reference": "none"}
        settings |= {"training.schedule": "constant"} if preset in ("convnet", "resnet") else {}
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        command += ["--store", folder]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _peak_mb(process.pid))
            time.sleep(0.05)
        assert process.returncode == 0, command
        runs = 2 * seeds * len(rates.split(","))
        return runs * steps / (time.perf_counter() - start), peak


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def short_script() -> float:
    """Run-steps a second of a whole script that trains both arms once for 2,000 steps as people do."""
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--as-people-do"], check=True)
    return 2 * SHORT / (time.perf_counter() - start)


def jax_rate(data: Path, run_steps: int, workers: int, lanes: int = 10, sample: int = 500) -> float:
    """Run-steps a second of JAX in so many processes at once, start-up of the study's length counted in."""
    command = [sys.executable, str(HERE / "jax_peer.py"), "--data", str(data), "--steps", str(sample)]
    started = [
        subprocess.Popen([*command, "--lanes", str(lanes)], stdout=subprocess.PIPE, text=True) for _ in range(workers)
    ]
    found = [json.loads(process.communicate()[0]) for process in started]
    start = statistics.mean(each["start"] for each in found)
    return run_steps / (start + run_steps / sum(each["rate"] for each in found))


def one_thread(function: Callable[[], object], repeats: int) -> float:
    """Calls a second on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    function()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    rate = repeats / (time.perf_counter() - start)
    torch.set_num_threads(threads)
    return rate


def products_of_a_step(lanes: int) -> Callable[[], None]:
    """The matrix products of a step of figure1's network, forward and backward, and nothing else."""
    pairs = list(pairwise(WIDTHS))
    inputs = [torch.randn(lanes, BATCH, a) for a, _ in pairs]
    weights = [torch.randn(lanes, b, a) for a, b in pairs]
    grads = [torch.randn(lanes, BATCH, b) for _, b in pairs]

    def products() -> None:
        for layer, (x, w, g) in enumerate(zip(inputs, weights, grads, strict=True)):
            torch.bmm(x, w.mT)
            torch.bmm(g.mT, x)
            if layer:
                torch.bmm(g, w)

    return products


def matrix_floor(lanes: int = 10, repeats: int = 200) -> float:
    """Run-steps a second of one thread that computes a step's matrix products and nothing else."""
    return lanes * one_thread(products_of_a_step(lanes), repeats)


def convolutions_of_a_step(batch: int, layers: Sequence[Layer], layout: torch.memory_format) -> Callable[[], None]:
    """A step's 3x3 convolutions, forward and backward, in a layout, and nothing else; of the first no gradient of its
    input."""

    def placed(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(memory_format=layout)

    made = [
        (placed(batch, a, size, size), placed(b, a, 3, 3), placed(batch, b, -(-size // by), -(-size // by)), by)
        for a, b, size, by in layers
    ]

    def convolutions() -> None:
        for layer, (x, w, g, by) in enumerate(made):
            torch.conv2d(x, w, None, by, 1)
            torch.ops.aten.convolution_backward(
                g, x, w, None, [by, by], [1, 1], [1, 1], False, [0, 0], 1, [layer > 0, True, False]
            )

    return convolutions


def convolution_floor(batch: int, layers: Sequence[Layer], repeats: int = 20) -> float:
    """Run-steps a second of one thread that computes a step's convolutions, in the layout that is the faster one here."""
    return max(one_thread(convolutions_of_a_step(batch, layers, layout), repeats) for layout in LAYOUTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=1_000, help="steps of each sample of (a) and (b)")
    parser.add_argument("--only", default="figure1,short,convnet,residual", help="parts, by commas")
    parser.add_argument("--as-people-do", action="store_true", help="only train both arms for a short run")
    options = parser.parse_args()
    train = load(binarize=127, standardize=False, device="cpu").train
    data = TensorDataset(train.inputs(torch.arange(len(train))), train.targets)
    if options.as_people_do:
        people(data, network, BATCH, SHORT, by_index=False)
        return
    parts, found = options.only.split(","), {name: [] for name in GOALS}  # type: dict[str, list[float]]
    workers, say = len(os.sched_getaffinity(0)), _quiet if options.json else _say
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder, "mnist.npz")
        np.savez(stored, images=train.stored.numpy(), labels=train.targets.numpy())
        for _ in range(options.rounds):
            if "figure1" in parts:
                _figure1(data, stored, options.steps, options.sample, workers, found, say)
            if "short" in parts:
                before = short_script()
                short, _ = bncli("figure1", SHORT, 1)
                script = (before + short_script()) / 2
                found["short_over_loop"].append(short / script)
                say(f"short: a {script:.0f}  bncli {short:.0f} run-steps/s")
            for name in [name for name in IMAGES if name in parts]:
                _images(name, data, options.steps // SMALLER[name], options.sample // 10, workers, found, say)
    figures = {name: _figure(name, values) for name, values in found.items() if values}
    if options.json:
        print(json.dumps(figures))
        return
    for name, each in figures.items():
        interval = f"[{each['low']:.2f}, {each['high']:.2f}]"
        print(f"{name:24} {each['value']:8.2f} {interval} {each['unit']}, goal {each['goal']}")


Found = dict[str, list[float]]


def _figure1(
    data: TensorDataset, stored: Path, steps: int, sample: int, workers: int, found: Found, say: Callable[[str], None]
) -> None:
    with_jax = importlib.util.find_spec("jax") is not None
    run_steps = 2 * SEEDS * len(RATES.split(",")) * steps

    def samples() -> list[float]:
        rates = [people(data, network, BATCH, sample, by_index) for by_index in (False, True)]
        return [*rates, matrix_floor() * workers, jax_rate(stored, run_steps, workers) if with_jax else float("nan")]

    before = samples()
    whole, memory = bncli("figure1", steps, SEEDS, RATES)
    a, b, floor, jax = ((x + y) / 2 for x, y in zip(before, samples(), strict=True))
    found["over_loop"].append(whole / a)
    found["over_indexed_loop"].append(whole / b)
    found["of_matrix_floor"].append(whole / floor)
    found["command_memory"].append(memory)
    if with_jax:
        found["over_jax"].append(whole / jax)
    say(f"figure1: a {a:.0f}  b {b:.0f}  JAX {jax:.0f}  floor {floor:.0f}  bncli {whole:.0f} run-steps/s")


def _images(
    name: str, data: TensorDataset, steps: int, sample: int, workers: int, found: Found, say: Callable[[str], None]
) -> None:
    make, preset, batch, layers = IMAGES[name]

    def samples() -> tuple[float, float]:
        return people(data, make, batch, sample, by_index=False), convolution_floor(batch, layers) * workers

    before = samples()
    whole, _ = bncli(preset, steps, 3)
    a, floor = ((x + y) / 2 for x, y in zip(before, samples(), strict=True))
    found[f"{name}_over_loop"].append(whole / a)
    found[f"{name}_of_floor"].append(whole / floor)
    say(f"{name}: a {a:.1f}  floor {floor:.1f}  bncli {whole:.1f} run-steps/s")


def _figure(name: str, values: list[float]) -> dict[str, object]:
    """The median, and the interval of 95 % or more that order statistics give it: least and greatest of 6 or fewer."""
    goal, unit = GOALS[name]
    return {"value": statistics.median(values), "low": min(values), "high": max(values), "unit": unit, "goal": goal}


def _say(line: str) -> None:
    print(line, flush=True)


def _quiet(line: str) -> None:
    pass


if __name__ == "__main__":
    main()
