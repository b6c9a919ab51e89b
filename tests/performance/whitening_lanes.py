"""What a run-step of the quickstart network costs with each norm, over that with batch normalisation; a table, or --json.

Five runs in lanes, traced, one thread. All norms train in one process and in turns of a few steps, their order
alternating; a figure is the median, with quartiles, of ratios of processor times of turns one after the other.
"""

import argparse
import json
import time
from statistics import median, quantiles

import torch

from bncli.config.study import study_of
from bncli.engine.train import _Loop
from bncli.plan import Job, runs_of

GOALS = {"none": None, "batch": None, "zca": "<= 1.6", "cholesky": "<= 1.6", "iternorm": "<= 2.5"}
LANES = 5


def start(norm: str, steps: int) -> _Loop:
    """The training of a norm's five runs, before its first step."""
    study = study_of({
        "variants": {norm: norm}, "reference": norm, "seeds": LANES,
        "training": {"steps": steps}, "evaluation": {"every": steps, "split": "validation"},
    })  # fmt: skip
    loop = _Loop(Job(tuple(runs_of(study, "cpu"))), None)
    assert not loop.fallbacks, loop.fallbacks
    return loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object {figure: {value, low, high, unit, goal}}")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20, help="of a turn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    training = {norm: start(norm, (options.rounds + 1) * options.steps) for norm in GOALS}
    seconds: dict[str, list[float]] = {norm: [] for norm in GOALS}
    for turn in range(options.rounds + 1):
        for norm, loop in list(training.items())[:: 1 if turn % 2 else -1]:
            began = time.process_time()
            loop.advance(loop.step + options.steps)
            seconds[norm].append(time.process_time() - began)
    found = {}
    for norm, goal in GOALS.items():
        low, value, high = quantiles([a / b for a, b in zip(seconds[norm][1:], seconds["batch"][1:], strict=True)], n=4)
        found[norm] = {"value": value, "low": low, "high": high, "unit": "x batch", "goal": goal}
        if not options.json:
            ms = 1e3 * median(seconds[norm][1:]) / options.steps / LANES
            print(f"{norm:10} {value:.2f} [{low:.2f}, {high:.2f}] of batch, {ms:.2f} ms a run-step, goal {goal}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
