"""What a training step of small image networks costs: `python tests/performance/convnet_step.py [--json]`.

Beside the step as bncli trains it, one run on one thread, stand its convolutions alone, forward and backward in the faster
layout and without the gradient of the images, and the loop that people write, `DataLoader` and contiguous images, on one
thread as well: by the clock and with torch's default threads `study_throughput.py` times it. A figure is the median, least
and greatest of rounds in which all rivals take their turns; times are the processor's.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bncli.config import read_study
from bncli.data.mnist import load
from bncli.engine.train import _Loop
from bncli.plan import Job, runs_of

PRESETS = Path(__file__).parents[2] / "presets"
BATCHES = {"convnet": 128, "resnet": 64}
Layer = tuple[int, int, int, int]  # channels in and out, side of the images, stride
aten = torch.ops.aten


def layers(preset: str) -> list[Layer]:
    """The convolutions of a preset's network on images of 28 x 28."""
    if preset == "convnet":
        return [(1, 8, 28, 1), (8, 16, 14, 1), (16, 32, 7, 1)]
    return [
        (1, 8, 28, 1), (8, 8, 28, 1), (8, 8, 28, 1), (8, 16, 28, 2), (16, 16, 14, 1), (16, 32, 14, 2), (32, 32, 7, 1),
    ]  # fmt: skip


def convolution_floor(preset: str = "convnet", steps: int = 20) -> float:
    """Run-steps a second of one thread that computes a step's convolutions, forward and backward, and nothing else."""
    threads, found = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for layout in (torch.channels_last, torch.contiguous_format):
        work = [_convolution(layer, BATCHES[preset], layout) for layer in layers(preset)]
        found.append(_seconds(lambda work=work: [each() for each in work], steps))  # type: ignore[misc]
    torch.set_num_threads(threads)
    return 1 / min(found)


def _convolution(layer: Layer, batch: int, layout: torch.memory_format) -> Callable[[], object]:
    inputs, outputs, side, stride = layer
    tensors = (torch.randn(batch, inputs, side, side), torch.randn(outputs, inputs, 3, 3))
    x, kernel = (torch.empty_like(t, memory_format=layout).copy_(t) for t in tensors)
    how = ([stride] * 2, [1, 1], [1, 1], False, [0, 0], 1)
    g = torch.randn_like(aten.convolution(x, kernel, None, *how))

    def work() -> Tensor:
        aten.convolution(x, kernel, None, *how)
        return aten.convolution_backward(g, x, kernel, None, *how, [inputs > 1, True, False])[1]

    return work


def _seconds(work: Callable[[], object], steps: int) -> float:
    """Of the processor, for one call: the median of so many, after three."""
    found = []
    for step in range(-3, steps):
        start = time.process_time()
        work()
        if step >= 0:
            found.append(time.process_time() - start)
    return median(found)


def step_rate(preset: str, variant: str, steps: int = 20) -> float:
    """Run-steps a second of one thread of the engine, data included; evaluation, start and tracing are not."""
    return 1 / _seconds(_engine(preset, variant), steps)


def _engine(preset: str, variant: str) -> Callable[[], object]:
    run = next(r for r in runs_of(read_study(PRESETS / f"{preset}.yaml"), "cpu") if r.variant == variant)
    loop = _Loop(Job((replace(run, training=run.training.model_copy(update={"steps": 10_000})),)), None)
    return lambda: loop.advance(loop.step + 1)


def networks(preset: str) -> list[nn.Module]:
    """The network as people write it, without a norm and with batch normalisation."""
    if preset == "convnet":
        return [_convnet(normed) for normed in (False, True)]
    return [_ResNet(normed) for normed in (False, True)]


def _convnet(normed: bool) -> nn.Module:
    found: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28))]
    for a, b in ((1, 8), (8, 16), (16, 32)):
        norm = [nn.BatchNorm2d(b)] if normed else []
        found += [nn.Conv2d(a, b, 3, padding=1), *norm, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*found, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


class _ResNet(nn.Module):
    def __init__(self, normed: bool) -> None:
        super().__init__()

        def conv(a: int, b: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b) if normed else nn.Identity())

        widths = [(8, 8, 1), (8, 16, 2), (16, 32, 2)]
        self.first, self.readout = conv(1, 8), nn.Linear(32, 10)
        self.branches = nn.ModuleList(nn.Sequential(conv(a, b, s), nn.ReLU(), conv(b, b)) for a, b, s in widths)

    def forward(self, x: Tensor) -> Tensor:
        u = self.first(x.view(-1, 1, 28, 28)).relu()
        for branch in self.branches:
            v = branch(u)
            kept = u if u.shape == v.shape else u[..., ::2, ::2]
            u = (nn.functional.pad(kept, (0, 0, 0, 0, 0, v.shape[1] - u.shape[1])) + v).relu()
        return self.readout(u.mean((-2, -1)))


def loop_of_people(data: TensorDataset, model: nn.Module, batch: int) -> Callable[[], object]:
    """One step of the loop that people write, at each call."""
    loss, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1)

    def batches():  # type: ignore[no-untyped-def]
        while True:
            yield from DataLoader(data, batch_size=batch, shuffle=True, drop_last=True)

    drawn = batches()

    def work() -> None:
        inputs, targets = next(drawn)
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()

    return work


def measure(presets: Sequence[str], rounds: int, steps: int) -> dict[str, dict[str, Any]]:
    """Every figure, its rivals in turn in each round."""
    train = load(binarize=None, standardize=True, device="cpu").train
    data = TensorDataset(train.inputs(torch.arange(len(train))), train.targets)
    found: dict[str, list[float]] = {}
    ours = {preset: [_engine(preset, variant) for variant in ("none", "batch")] for preset in presets}
    theirs = {preset: [loop_of_people(data, net, BATCHES[preset]) for net in networks(preset)] for preset in presets}
    for _ in range(rounds):
        for preset in presets:
            each = [_seconds(work, steps) for work in ours[preset]]
            floor = 1 / convolution_floor(preset, steps)
            loop = sum(_seconds(work, steps) for work in theirs[preset])
            found.setdefault(f"{preset} over the loop on one thread", []).append(loop / sum(each))
            found.setdefault(f"{preset} of its convolutions", []).append(2 * floor / sum(each))
            for variant, seconds in zip(("none", "batch"), each, strict=True):
                found.setdefault(f"{preset} {variant} of its convolutions", []).append(floor / seconds)
    return {name: _figure(name, values) for name, values in found.items()}


def _figure(name: str, values: Sequence[float]) -> dict[str, Any]:
    over = "loop" in name
    unit = "loop's time / bncli's" if over else "convolutions' time / bncli's"
    goal = ">= 2.5" if over else ">= 0.6"
    return {"value": median(values), "low": min(values), "high": max(values), "unit": unit, "goal": goal}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object {figure: {value, low, high, unit, goal}}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of each rival in each round")
    parser.add_argument("--only", choices=sorted(BATCHES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure([given.only] if given.only else list(BATCHES), given.rounds, given.steps)
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    for name, one in figures.items():
        print(f"{name:36} {one['value']:6.2f}  [{one['low']:.2f}, {one['high']:.2f}]  goal {one['goal']}")


if __name__ == "__main__":
    main()
