"""What probes cost, in shares of training time: figure1's network, each tier at its default schedule; a table, or --json.

Jobs with and without probes take turns, in this process, on one thread. A share is the seconds that the job's clock
gives to probing by those of training and data. `light_extra` is by how much the whole job takes longer with probes, the
least processor time of all rounds against the least, with the quartiles of the rounds' own ratios: on a busy machine far
less certain than the share.
"""

import argparse
import json
import statistics
import time

import torch

from bncli.config.study import study_of
from bncli.engine.train import train
from bncli.plan import Job, runs_of

GOAL = 0.05  # of light
STEPS = 2000  # four probes


def job(norm: str, lanes: int, tier: str) -> Job:
    study = study_of({
        "data": {"name": "mnist", "binarize": 127},
        "model": {"name": "mlp", "init": {"normal": 0.1}},
        "training": {"steps": STEPS, "batch_size": 60, "lr": 0.1},
        "evaluation": {"every": STEPS},
        "probes": {"metrics": tier} if tier else {},
        "variants": {"it": norm}, "reference": "it", "seeds": lanes,
    })  # fmt: skip
    return Job(tuple(runs_of(study, "cpu")))


def timed(work: Job) -> tuple[float, float]:
    """Processor seconds of the whole job, and probing as a share of training."""
    start = time.process_time()
    seconds = train(work)[0].info.seconds
    return time.process_time() - start, seconds["probing"] / (seconds["training"] + seconds["data"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    seconds: dict[tuple[str, int, str], float] = {}

    def least(norm: str, lanes: int, tier: str, took: float) -> None:
        seconds[norm, lanes, tier] = min(took, seconds.get((norm, lanes, tier), took))

    timed(job("batch", 5, "full"))  # imports and the first compilation are nobody's
    for _ in range(options.rounds):
        for norm in ("none", "batch"):
            for lanes in (1, 5):
                without, _ = timed(job(norm, lanes, ""))
                least(norm, lanes, "", without)
                dearer = ("standard", "full") if (norm, lanes) == ("batch", 5) else ()
                for tier in ("light", *dearer):
                    whole, share = timed(job(norm, lanes, tier))
                    found.setdefault(f"{tier}_{norm}_{lanes}", []).append(share)
                    if tier == "light":
                        least(norm, lanes, tier, whole)
                        found.setdefault(f"light_extra_{norm}_{lanes}", []).append(whole / without - 1)
    figures = {}
    for name in sorted(found):
        low, middle, high = statistics.quantiles(found[name], n=4) if options.rounds > 1 else found[name] * 3
        if name.startswith("light_extra"):
            norm, lanes = name.split("_")[2:]
            middle = seconds[norm, int(lanes), "light"] / seconds[norm, int(lanes), ""] - 1
        goal = GOAL if name.startswith("light") else None
        figures[name] = {"value": middle, "low": low, "high": high, "unit": "share of training time", "goal": goal}
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        goal = f"  (goal: at most {100 * GOAL:.0f} %)" if figure["goal"] else ""
        print(f"{name:22} {100 * figure['value']:5.1f} % [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]{goal}")


if __name__ == "__main__":
    main()
