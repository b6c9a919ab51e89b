"""How much a ratio to the yardstick varies between forks of one process and between processes, by what is read off it.

The gate takes a fork for a process of its own: that is right if the part between processes is about nothing. Standard
deviations of logarithms, in per cent, pooled over the cases of gate_quality.py; a table, or --json. Four processes of
six forks take about a minute on two cores.
"""

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence

from gate_quality import CASES, EFFORT, job, neighbour

from bncli.bench.estimates import Blocks, ratio, undisturbed_ratio
from bncli.bench.remote import replicate, started
from bncli.bench.results import CaseResult


def by_blocks(case: Blocks, yardstick: Blocks) -> float:
    return statistics.median(sum(c) / sum(y) for c, y in zip(case, yardstick, strict=True))


READINGS: Mapping[str, Callable[[Blocks, Blocks], float]] = {
    "median of blocks": by_blocks,
    "median of halves of blocks": lambda case, yardstick: ratio(case, yardstick).value,
    "lower decile": undisturbed_ratio,
}


def measure(processes: int, forks: int, busy: bool) -> list[dict[str, list[CaseResult]]]:
    """For each process, each case's forks."""
    found = []
    for seed in range(processes):
        of_process: dict[str, list[CaseResult]] = {}
        with neighbour(busy), started("cpu") as worker:
            for result in replicate(worker, [job(case) for case in CASES], EFFORT, forks, random.Random(seed)):
                of_process.setdefault(result.name, []).append(result)
        found.append(of_process)
    return found


def spread(logs: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Variances within and between processes of one case, by the analysis of variance; the latter may be negative."""
    within = statistics.fmean(map(statistics.variance, logs))
    return within, statistics.variance(map(statistics.fmean, logs)) - within / len(logs[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--forks", type=int, default=6)
    parser.add_argument("--busy", action="store_true", help="beside a process that copies memory")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.processes, options.forks, options.busy)
    figures = {}
    for name, read in READINGS.items():
        parts = [
            spread([[math.log(read(r.samples["case"], r.samples["native"])) for r in each[case]] for each in found])
            for case in found[0]
        ]
        for part, values in zip(("forks", "processes"), zip(*parts, strict=True), strict=True):
            mean = statistics.fmean(values)
            value = 100 * math.copysign(math.sqrt(abs(mean)), mean)
            figures[f"{name}, between {part}"] = {"value": value, "unit": "%"}
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:48} {figure['value']:.2f} {figure['unit']}")


if __name__ == "__main__":
    main()
