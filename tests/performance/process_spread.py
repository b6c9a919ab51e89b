"""How much a ratio to the rival varies between forks of one process and between processes, by what is read off it.

Forks of one process share where it has its libraries and its heap; the part between processes is what that is worth.
Standard deviations of logarithms, in per cent, pooled over the cases of gate_quality.py with a bootstrap's interval over
cases, as measured and at one level of the machine (bncli/timing/stats.py); a variance that comes out below zero has a
standard deviation with a minus. A table, or --json. Six processes of six forks, in turns, take two minutes on two cores.
"""

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from gate_quality import CASES, EFFORT, job, neighbour

from bncli.timing.process.client import start_worker
from bncli.timing.results import CaseResult
from bncli.timing.stats import Blocks, estimate_ratio


def by_blocks(case: Blocks, rival: Blocks) -> float:
    return statistics.median(sum(c) / sum(y) for c, y in zip(case, rival, strict=True))


def lower_deciles(case: Blocks, rival: Blocks) -> float:
    low = [sorted(s for block in blocks for s in block) for blocks in (case, rival)]
    return low[0][len(low[0]) // 10] / low[1][len(low[1]) // 10]


READINGS: Mapping[str, Callable[[Blocks, Blocks], float]] = {
    "median of blocks": by_blocks,
    "median of halves of blocks": lambda case, rival: estimate_ratio(case, rival).value,
    "lower decile": lower_deciles,
}


def measure(processes: int, forks: int, busy: bool) -> dict[str, list[list[CaseResult]]]:
    """For each case, each process's forks."""
    chance, found = random.Random(0), {case: [[] for _ in range(processes)] for case in CASES}
    with neighbour(busy), ExitStack() as running:
        workers = [running.enter_context(start_worker("cpu")) for _ in range(processes)]
        for _ in range(forks):
            for case in chance.sample(CASES, len(CASES)):
                for number in chance.sample(range(processes), processes):
                    found[case][number].append(workers[number].measure(job(case), EFFORT, chance.randrange(2**32)))
    return found


def spread(logs: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Variances within and between processes of one case, by the analysis of variance; the latter may be negative."""
    within = statistics.fmean(map(statistics.variance, logs))
    return within, statistics.variance(map(statistics.fmean, logs)) - within / len(logs[0])


def at_one_level(logs: Sequence[Sequence[float]], levels: Sequence[Sequence[float]]) -> list[list[float]]:
    """Moved along the slope that they have on the logarithm of the rival's time within processes."""
    inner = [
        (x - statistics.fmean(xs), y) for xs, ys in zip(levels, logs, strict=True) for x, y in zip(xs, ys, strict=True)
    ]
    slope = sum(x * y for x, y in inner) / sum(x * x for x, _ in inner)
    return [[y - slope * x for x, y in zip(xs, ys, strict=True)] for xs, ys in zip(levels, logs, strict=True)]


def deviation(variances: Sequence[float]) -> float:
    """In per cent, of the mean variance; below zero where that is."""
    mean = statistics.fmean(variances)
    return 100 * math.copysign(math.sqrt(abs(mean)), mean)


def figure(variances: Sequence[float]) -> dict[str, float | str]:
    """The deviation that the cases have in common, with a percentile interval of 1,000 sets of cases drawn from them."""
    chance = random.Random(0)
    drawn = sorted(deviation(chance.choices(variances, k=len(variances))) for _ in range(1000))
    return {"value": deviation(variances), "low": drawn[25], "high": drawn[974], "unit": "%", "goal": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--forks", type=int, default=6)
    parser.add_argument("--busy", action="store_true", help="beside a process that copies memory")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.processes, options.forks, options.busy)
    figures = {}
    for name, read in READINGS.items():
        parts: dict[str, list[tuple[float, float]]] = {"as measured": [], "at one level": []}
        for of_case in found.values():
            logs = [[math.log(read(r.samples["case"], r.samples["native"])) for r in forks] for forks in of_case]
            levels = [[math.log(r.seconds["native"].value) for r in forks] for forks in of_case]
            parts["as measured"].append(spread(logs))
            parts["at one level"].append(spread(at_one_level(logs, levels)))
        for how, variances in parts.items():
            for part, values in zip(("forks", "processes"), zip(*variances, strict=True), strict=True):
                figures[f"{name}, {how}, between {part}"] = figure(values)
    if options.json:
        print(json.dumps(figures))
        return
    for name, one in figures.items():
        print(f"{name:64} {one['value']:5.2f} [{one['low']:.2f}, {one['high']:.2f}] {one['unit']}")


if __name__ == "__main__":
    main()
