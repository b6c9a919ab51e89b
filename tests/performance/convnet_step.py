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
from study_throughput import IMAGES, LAYOUTS, convolutions_of_a_step, step_of_people
from torch.utils.data import TensorDataset

from bncli.config import read_study
from bncli.data.mnist import load
from bncli.engine.train import _Loop
from bncli.plan import Job, runs_of

PRESETS = Path(__file__).parents[2] / "presets"


def _seconds(work: Callable[[], object], steps: int) -> float:
    """Of the processor, for one call: the median of so many, after three."""
    found = []
    for step in range(-3, steps):
        start = time.process_time()
        work()
        if step >= 0:
            found.append(time.process_time() - start)
    return median(found)


def _engine(preset: str, variant: str) -> Callable[[], object]:
    run = next(r for r in runs_of(read_study(PRESETS / f"{preset}.yaml"), "cpu") if r.variant == variant)
    loop = _Loop(Job((replace(run, training=run.training.model_copy(update={"steps": 10_000})),)), None)
    return lambda: loop.advance(loop.step + 1)


def measure(names: Sequence[str], rounds: int, steps: int) -> dict[str, dict[str, Any]]:
    """Every figure, its rivals in turn in each round."""
    train = load(binarize=None, standardize=True, device="cpu").train
    data = TensorDataset(train.inputs(torch.arange(len(train))), train.targets)
    found: dict[str, list[float]] = {}
    ours = {name: [_engine(IMAGES[name][1], variant) for variant in ("none", "batch")] for name in names}
    theirs, alone = {}, {}
    for name in names:
        make, _, batch, layers = IMAGES[name]
        theirs[name] = [step_of_people(data, make(normed), batch) for normed in (False, True)]
        alone[name] = [convolutions_of_a_step(batch, layers, layout) for layout in LAYOUTS]
    for _ in range(rounds):
        for name in names:
            each = [_seconds(work, steps) for work in ours[name]]
            floor = min(_seconds(work, steps) for work in alone[name])
            loop = sum(_seconds(work, steps) for work in theirs[name])
            found.setdefault(f"{name} over the loop on one thread", []).append(loop / sum(each))
            found.setdefault(f"{name} of its convolutions", []).append(2 * floor / sum(each))
            for variant, seconds in zip(("none", "batch"), each, strict=True):
                found.setdefault(f"{name} {variant} of its convolutions", []).append(floor / seconds)
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
    parser.add_argument("--only", choices=sorted(IMAGES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure([given.only] if given.only else list(IMAGES), given.rounds, given.steps)
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    for name, one in figures.items():
        print(f"{name:36} {one['value']:6.2f}  [{one['low']:.2f}, {one['high']:.2f}]  goal {one['goal']}")


if __name__ == "__main__":
    main()
