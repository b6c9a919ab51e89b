"""How often the verdicts of a study are false, how often its intervals hold, and what they find; tables, or parts of them.

Studies are made up and judged by bncli's own functions: final accuracies of runs with the same seed, `variants` against
one reference that shares its runs. A part is named on the command line (`false`, `coverage`, `power`); all of them take
about 15 minutes on one core. Seeds are fixed: the same command prints the same table.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from bncli.analysis.comparisons import compare
from bncli.analysis.stats import Level, level_of, mean_interval
from bncli.findings import Arm, Comparison, Looks, Measure, Summary, Value

Floats = NDArray[np.float64]
Plan = Callable[[Floats], tuple[Floats, Floats, Floats]]  # what `_follow` returns, of (studies, 1 + variants, 50)

STUDIES = 4000  # a share of 5 % is then known to 0.34 %
ACCURACY = Measure("final_accuracy", "final accuracy", "fraction", "higher", "difference")
MARGIN = 0.002
ONCE = Looks()


def compared(values: Floats, looks: Looks = ONCE, measure: Measure = ACCURACY) -> list[Comparison]:
    """The comparisons of one study: (1 + variants, seeds), the reference first."""
    arms = [_arm(f"variant {i}" if i else "reference", row, measure) for i, row in enumerate(values)]
    found = compare(arms, "reference", {measure.name: MARGIN}, [measure], looks)
    return [c for arm in found for c in arm.comparisons]


def _arm(name: str, row: Floats, measure: Measure) -> Arm:
    values = tuple(Value(seed, float(x), float(x), float(x)) for seed, x in enumerate(row))
    summary = Summary(measure.name, values, None, None)
    return Arm(name, {}, name == "reference", len(values), None, None, {}, (summary,), (), None, None)


def judge(values: Floats, looks: Looks) -> tuple[Floats, Floats]:
    """How many comparisons of each study claim a difference, and how many are open. (studies, 1 + variants, seeds).

    Where no interval decides anything at the level of the whole family, no verdict can: only the rest need be compared.
    """
    differences = values[:, 1:] - values[:, :1]
    low, high = _intervals(differences, level_of(looks, differences.shape[1]))
    told = (low > 0) | (high < 0) | ((low >= -MARGIN) & (high <= MARGIN))
    claimed, left = np.zeros(len(values)), np.full(len(values), float(differences.shape[1]))
    for i in np.flatnonzero(told.any(1)):
        verdicts = [c.verdict for c in compared(values[i], looks)]
        claimed[i] = sum(verdict in ("better", "worse") for verdict in verdicts)
        left[i] = verdicts.count("inconclusive")
    return claimed, left


def _intervals(samples: Floats, level: Level) -> tuple[Floats, Floats]:
    """The intervals of many samples, (..., n), a few at a time: their subsets' means take memory."""
    flat = samples.reshape(-1, samples.shape[-1])
    ends = [mean_interval(part, level) for part in np.array_split(flat, max(1, len(flat) // 100))]
    low, high = (np.concatenate([each[i] for each in ends]).reshape(samples.shape[:-1]) for i in (0, 1))
    return low, high


def _follow(values: Floats, seeds: Sequence[int], looks: Callable[[int], Looks]) -> tuple[Floats, Floats, Floats]:
    """Look at each study with these numbers of seeds until none of its headlines is open.

    Returns:
        Of each study: whether it ever claimed a difference, in how many comparisons it does at last, and its seeds.
    """
    ever, at_last, taken = np.zeros((3, len(values)))
    going = np.arange(len(values))
    for place, n in enumerate(seeds):
        at_last[going], left = judge(values[going, :, :n], looks(place))
        ever[going] += at_last[going]
        taken[going] = n
        going = going[left > 0]
    return ever > 0, at_last, taken


def once(seeds: int) -> Plan:
    """Planned with so many seeds, looked at once."""
    return lambda values: _follow(values, [seeds], lambda _: ONCE)


def until_decided(*seeds: int) -> Plan:
    """Planned to be looked at with these numbers of seeds."""
    return lambda values: _follow(values, seeds, lambda _: Looks(seeds))


def at_whim(*seeds: int) -> Plan:
    """Planned with the first number of seeds, and extended while anything is open."""
    return lambda values: _follow(values, seeds, lambda place: Looks(unplanned=seeds[:place]))


def as_advised(first: int, most: int, extensions: int = 3) -> Plan:
    """Extended by as many seeds as the headlines say would decide, the fewest that any of them says."""

    def advised(study: Floats) -> tuple[bool, int, int]:
        before, ever, seeds = list[int](), False, first
        while True:
            found = compared(study[:, :seeds], Looks(unplanned=tuple(before)))
            claimed = sum(c.verdict in ("better", "worse") for c in found)
            ever, more = ever or claimed > 0, [c.more_seeds for c in found if c.more_seeds]
            if not more or seeds == most or len(before) == extensions:
                return ever, claimed, seeds
            before.append(seeds)
            seeds = min(most, seeds + min(more))

    def plan(values: Floats) -> tuple[Floats, Floats, Floats]:
        ever, claimed, seeds = np.array([advised(study) for study in values], dtype=np.float64).T
        return ever, claimed, seeds

    return plan


PLANS: dict[str, Plan] = {
    "once, 5 seeds": once(5),
    "once, 10 seeds": once(10),
    "once, 30 seeds": once(30),
    "until decided, 5 8 10 15": until_decided(5, 8, 10, 15),
    "extended at whim, 5 10 15 20": at_whim(5, 10, 15, 20),
    "extended as advised, 5 to 50": as_advised(5, 50),
}


def accuracies(variants: int, diverging: float, studies: int) -> Floats:
    """Final accuracies of studies in which nothing differs; a run that diverges guesses one of ten classes."""
    rng, size = np.random.default_rng(variants), (studies, 1 + variants, 50)
    return np.where(rng.random(size) < diverging, 0.1, rng.normal(0.97, 0.003, size))


def false_verdicts(plan: Plan, variants: int, diverging: float, studies: int = STUDIES) -> float:
    """Share of studies without a difference that claim one in some headline, at some look."""
    return float(plan(accuracies(variants, diverging, studies))[0].mean())


DIFFERENCES: dict[str, tuple[Callable[[np.random.Generator, tuple[int, ...]], Floats], float]] = {  # and their mean
    "normal": (lambda rng, size: rng.normal(0, 1, size), 0.0),
    "even": (lambda rng, size: rng.uniform(0, 1, size), 0.5),
    "t with 3 degrees of freedom": (lambda rng, size: rng.standard_t(3, size), 0.0),
    "skewed times (gamma 2) less normal ones": (
        lambda rng, size: rng.gamma(2, 1, size) - rng.normal(2, 1, size), 0.0,
    ),
    "lognormal (.5) less lognormal (.3)": (
        lambda rng, size: rng.lognormal(0, 0.5, size) - rng.lognormal(0, 0.3, size),
        math.exp(0.125) - math.exp(0.045),
    ),
    "gamma 4, bare": (lambda rng, size: rng.gamma(4, 1, size), 4.0),
    "lognormal (.5), bare": (lambda rng, size: rng.lognormal(0, 0.5, size), math.exp(0.125)),
}  # fmt: skip


def coverage(kind: str, seeds: int, studies: int = STUDIES) -> float:
    """Share of studies whose 95 % interval, of one comparison looked at once, holds the true mean difference."""
    draw, mean = DIFFERENCES[kind]
    low, high = _intervals(draw(np.random.default_rng(seeds), (studies, seeds)), Level())
    return float(np.mean((low <= mean) & (mean <= high)))


def power(plan: Plan, variants: int, effect: float, studies: int) -> tuple[float, float]:
    """Share of comparisons found, and seeds taken, where each variant is better by so many sd of the differences."""
    values = np.random.default_rng(variants).normal(0.9, 0.01, (studies, 1 + variants, 50))
    values[:, 1:] += effect * 0.01 * math.sqrt(2)
    _, found, seeds = plan(values)
    return float(found.mean()) / variants, float(seeds.mean())


def power_of_t(seeds: int, effect: float, family: int = 1, studies: int = 20_000) -> float:
    """The same of the uncorrected t-interval, or of one at 5 % over the family."""
    samples = np.random.default_rng(0).normal(effect, 1, (studies, seeds))
    t = samples.mean(1) / samples.std(1, ddof=1) * math.sqrt(seeds)
    return float(np.mean(t > float(stdtrit(seeds - 1, 1 - 0.025 / family))))


def false_table(studies: int) -> Iterator[str]:
    """False verdicts by plan, variants and diverging runs."""
    rates = (0, 0.05, 0.1)
    yield "| plan | variants | " + " | ".join(f"{100 * rate:g} % diverge" for rate in rates) + " |"
    yield "|---|---|" + "---|" * len(rates)
    for name, plan in PLANS.items():
        for variants in (1, 3, 5):
            found = [100 * false_verdicts(plan, variants, rate, studies) for rate in rates]
            yield f"| {name} | {variants} | " + " | ".join(f"{share:.1f}" for share in found) + " |"


def coverage_table(studies: int) -> Iterator[str]:
    """Coverage by distribution and seeds."""
    counts = (5, 6, 8, 10, 15, 30, 50)
    yield "| differences | " + " | ".join(map(str, counts)) + " |"
    yield "|---|" + "---|" * len(counts)
    for kind in DIFFERENCES:
        yield f"| {kind} | " + " | ".join(f"{100 * coverage(kind, n, studies):.1f}" for n in counts) + " |"


def power_table(studies: int) -> Iterator[str]:
    """What is found of effects of one and two standard deviations of the paired differences."""
    yield "| plan | variants | 1 sd, % | 2 sd, % | seeds taken | t for itself, % | t by Bonferroni, % |"
    yield "|---|---|---|---|---|---|---|"
    fixed = {"once, 5 seeds": 5, "once, 10 seeds": 10, "once, 30 seeds": 30}
    more = {"until decided, 5 to 50": until_decided(5, 8, 10, 15, 20, 30, 50)}
    for name, plan in (PLANS | more).items():
        for variants in (1, 4):
            found = [power(plan, variants, effect, studies) for effect in (1, 2)]
            shares = " | ".join(f"{100 * share:.0f}" for share, _ in found)
            taken = " and ".join(f"{seeds:.0f}" for _, seeds in found)
            plain = ["", ""]
            if name in fixed:
                plain = [
                    ", ".join(f"{100 * power_of_t(fixed[name], e, family):.0f}" for e in (1, 2))
                    for family in (1, variants)
                ]
            yield f"| {name} | {variants} | {shares} | {taken} | {plain[0]} | {plain[1]} |"


TABLES: dict[str, Callable[[int], Iterator[str]]] = {
    "false": false_table, "coverage": coverage_table, "power": power_table,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join(TABLES))
    parser.add_argument("--studies", type=int, default=STUDIES)
    asked = parser.parse_args(arguments)
    for part in asked.parts or TABLES:
        for line in TABLES[part](asked.studies):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
