"""The values of one measure over the seeds of one arm, read off its runs or off its search."""

from bncli.analysis.ask import ArmRuns
from bncli.findings import Value
from bncli.measures import MEASURES


def values_of(name: str, arm: ArmRuns, target: float | None) -> list[Value]:
    """One value a seed, in order of seeds; `target` is the level timed at the arm's setting."""
    read = MEASURES.load(name)
    if MEASURES[name].of == "search":
        return [read(seed, trials) for seed, trials in sorted(arm.search.items())]
    if MEASURES[name].of == "probe":
        ratio = MEASURES[name].scale == "ratio"
        return [read(seed, run, name, ratio=ratio) for seed, run in sorted(arm.runs.items())]
    return [read(seed, run, target) for seed, run in sorted(arm.runs.items())]
