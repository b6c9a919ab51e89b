"""Where a traced step of figure1's network spends its time: `python tests/performance/step_profile.py [--norm batch --lanes 10]`.

One thread's processor time of the step, of the same operations called by Python, of its matrix products alone and of
drawing a batch, interleaved, medians [quartiles] of 60; then torch's operators by their share of the step, by its profiler.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import quantiles

import torch
from study_throughput import products_of_a_step
from torch.profiler import ProfilerActivity, profile

from bncli.config.study import study_of
from bncli.engine.script import scripted
from bncli.engine.trace import traced
from bncli.engine.train import _Loop, step_of
from bncli.optim import OPTIMIZERS
from bncli.plan import Job, loss_of, runs_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--norm", default="batch")
    parser.add_argument("--lanes", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = study_of({
        "variants": {"it": options.norm}, "reference": "it", "seeds": options.lanes, "data": {"name": "mnist", "binarize": 127},
        "training": {"steps": 10_000, "lr": 0.1}, "evaluation": {"every": 10_000, "split": "test"},
    })  # fmt: skip
    job = Job(tuple(runs_of(study, "cpu")))
    loop, recipe = _Loop(job, None), job.runs[0].training
    step = step_of(
        loop.network, OPTIMIZERS.load(recipe.optimizer.name), loop.loss or loss_of(job.runs[0]), recipe, loop.ranks
    )
    (x, y), drawn = next(loop.batches.next(1)), loop.batches.next(1_000)
    graph, fixed = traced(step, loop.network.parameters, loop.network.buffers, loop.state, loop.hyper, x, y)
    fast = scripted(graph)
    rivals: dict[str, Callable[[], object]] = {
        "step": lambda: fast(*fixed, x, y),
        "step, by Python": lambda: graph(*fixed, x, y),
        "products alone": products_of_a_step(options.lanes),
        "drawing a batch": lambda: next(drawn),
    }
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(70):
        for name, rival in rivals.items():
            start = time.thread_time()
            rival()
            if turn >= 10:
                times[name].append(1e3 * (time.thread_time() - start))
    figures: dict[str, object] = {}
    for name, each in times.items():
        low, middle, high = quantiles(each, n=4)
        figures[name] = {"value": middle, "low": low, "high": high, "unit": "ms", "goal": None}
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(20):
            fast(*fixed, x, y)
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in events)
    for event in events[:12]:
        share = {
            "value": event.self_cpu_time_total / whole,
            "low": None,
            "high": None,
            "unit": "of the step",
            "goal": None,
        }
        figures[f"{event.key} x {event.count // 20}"] = share
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        spread = f" [{figure['low']:.3f}, {figure['high']:.3f}]" if figure["low"] is not None else ""
        print(f"{name:28} {figure['value']:.3f}{spread} {figure['unit']}")


if __name__ == "__main__":
    main()
