"""What training S runs as lanes of one program costs a run, against training it alone; a table, or --json."""

import argparse
import json
import statistics

import torch

from bncli.config.study import study_of
from bncli.engine.train import train
from bncli.plan import Job, runs_of

STEPS = 400  # enough to be traced


def cost(norm: str, lanes: int) -> float:
    """Training seconds of one run of the quickstart network, as one of so many lanes."""
    study = study_of({
        "variants": {norm: norm}, "reference": norm, "seeds": lanes,
        "training": {"steps": STEPS}, "evaluation": {"every": STEPS, "split": "validation"},
    })  # fmt: skip
    (result, *_) = train(Job(tuple(runs_of(study, "cpu"))))
    return result.info.seconds["training"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--norms", default="none,batch,zca,cholesky,iternorm")
    parser.add_argument("--lanes", default="2,3,5,10,20")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cost("none", 1)  # reads the data
    figures = {}
    for norm in options.norms.split(","):
        for lanes in map(int, options.lanes.split(",")):
            ratios = [cost(norm, lanes) / cost(norm, 1) for _ in range(options.rounds)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            figures[f"{norm}/{lanes}"] = {"value": middle, "low": low, "high": high, "unit": "x alone", "goal": None}
            if not options.json:
                print(f"{norm:10} {lanes:3} lanes  {middle:.2f} [{low:.2f}, {high:.2f}] of one alone", flush=True)
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
