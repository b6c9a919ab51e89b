"""The gate: has any case become slower than its rule allows? Suspects are measured again before they are called so.

Ratios to the yardstick are compared, one a process, at one level of the machine (bench/inference.py). A case is called
a regression if new measurements, other than those that made it a suspect, say that it is slower by more than its limit,
and surely by more than half of that: but for a false discovery rate of 5 % over all cases. The half is for what ratios
owe to the hour and its load beyond that, which processes measured together share. What the new measurements leave
undecided is measured once more, and judged by all of them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bncli.bench.inference import Contrast, Levelled, Point, Prior, contrast, false_discovery, levelled, prior
from bncli.bench.results import CaseResult, Estimate
from bncli.bench.rules import MEASURES, Rule, limits
from bncli.errors import UndecidedError

_SLACK = 0.5  # of the limit: beyond it a case is a suspect, and surely beyond it a regression
_LOOKS = 2  # after the first: at all suspects, then at those that are still undecided
_FALSE_DISCOVERY = 0.0294  # of each look, so that two together keep 5 % (Pocock 1977, Biometrika 64:191)

Verdict = Literal["holds", "better", "regression", "undecided"]
_WORST: tuple[Verdict, ...] = ("regression", "undecided")
Key = tuple[str, str]  # case, measure


class Reading(NamedTuple):
    """What one process says of a case and a yardstick."""

    ratio: float  # time of the case over that of the yardstick
    seconds: float  # a call of the yardstick: what the machine was like at the time


Readings = Mapping[str, Mapping[str, tuple[Reading, ...]]]  # case -> yardstick -> one a process


@dataclass(frozen=True)
class Judgement:
    """What is said of one case under one rule."""

    case: str
    measure: str
    limit: float  # the fraction that is allowed
    verdict: Verdict
    change: Estimate  # of the ratio since the baseline, as a factor; above 1 is slower
    noise: float  # half of that interval's width as a fraction: what could not have been seen
    measured_again: bool
    why: str = ""  # it is undecided


@dataclass(frozen=True)
class GateResult:
    """What a gate says: of all, and of each."""

    verdict: Verdict  # the worst: regression, undecided, or holds
    judgements: tuple[Judgement, ...]

    @property
    def noise_floor(self) -> float:
        """The smallest limit, as a fraction, at which every case could have been judged by what was measured."""
        return max(judgement.noise for judgement in self.judgements)


def readings_of(results: Iterable[CaseResult]) -> Readings:
    """What every process says of every case, in the order measured."""
    found: dict[str, dict[str, tuple[Reading, ...]]] = {}
    for result in results:
        _add(found, {result.name: {y: (Reading(r.value, result.seconds[y].value),) for y, r in result.ratios.items()}})
    return found


def judge(
    rules: Sequence[Rule], before: Readings | None, now: Readings, measure_again: Callable[[Sequence[str]], Readings]
) -> GateResult:
    """Judge every case that a rule is for.

    Args:
        rules: where several are for a case, the last counts.
        before: the baseline's; None where ratios in `now` are 1 if nothing has changed (--against).
        now: at least two processes.
        measure_again: measures the cases named, in as many new processes or more; asked twice at most.

    Raises:
        UndecidedError: for a case that the baseline lacks, or has from a single process.
    """
    asked = limits(rules, now)
    points = {key: (_points(now, key), _before(before, key)) for key in asked}
    family = {key: levelled(ours, theirs) for key, (ours, theirs) in points.items()}
    priors = prior([each.now for each in family.values()]), prior([each.before for each in family.values()])
    first = {key: _contrast(each, priors) for key, each in family.items()}
    open_ = [key for key in asked if _needs_another_look(first[key], asked[key])]
    fresh, final = dict[str, dict[str, tuple[Reading, ...]]](), dict[Key, Contrast]()
    judgements = _judged(asked, first, final)
    for _ in range(_LOOKS):
        if not open_:
            break
        _add(fresh, measure_again(list(dict.fromkeys(case for case, _ in open_))))
        anew = {key: levelled(_points(fresh, key), points[key][1], points[key][0]) for key in open_}
        final |= {key: _contrast(each, priors) for key, each in anew.items()}
        judgements = _judged(asked, first, final)
        open_ = [(j.case, j.measure) for j in judgements if j.verdict == "undecided"]
    worst: Verdict = next((v for v in _WORST if any(j.verdict == v for j in judgements)), "holds")
    return GateResult(worst, judgements)


def _add(readings: dict[str, dict[str, tuple[Reading, ...]]], more: Readings) -> None:
    for case, of_case in more.items():
        known = readings.setdefault(case, {})
        for yardstick, found in of_case.items():
            known[yardstick] = (*known.get(yardstick, ()), *found)


def _needs_another_look(found: Contrast, rule: Rule) -> bool:
    limit = math.log1p(rule.limit)
    return found.change > _SLACK * limit or found.half_width > limit


def _contrast(found: Levelled, priors: tuple[Prior, Prior]) -> Contrast:
    return contrast(found.now, priors[0], found.before, priors[1], found.leverage)


def _judged(
    asked: Mapping[Key, Rule], first: Mapping[Key, Contrast], final: Mapping[Key, Contrast]
) -> tuple[Judgement, ...]:
    slack = {key: _SLACK * math.log1p(rule.limit) for key, rule in asked.items()}
    slower = false_discovery([final[key].slower_than(slack[key]) if key in final else 1.0 for key in asked])
    faster = false_discovery([final.get(key, first[key]).faster_than(slack[key]) for key in asked])
    found = []
    for key, is_slower, is_faster in zip(asked, slower, faster, strict=True):
        contrast, rule = final.get(key, first[key]), asked[key]
        verdict, why = _verdict(contrast, rule, is_slower <= _FALSE_DISCOVERY, is_faster <= _FALSE_DISCOVERY)
        noise = math.expm1(contrast.half_width)
        found.append(Judgement(*key, rule.limit, verdict, contrast.estimate(), noise, key in final, why))
    return tuple(found)


def _verdict(found: Contrast, rule: Rule, is_slower: bool, is_faster: bool) -> tuple[Verdict, str]:
    limit = math.log1p(rule.limit)
    if found.change > limit and is_slower:
        return "regression", ""
    if found.change > limit:
        return "undecided", "beyond the limit, but not surely beyond half of it"
    if found.half_width > limit:
        return "undecided", f"noise of {math.expm1(found.half_width):.0%} hides a change of {rule.limit:.0%}"
    if found.change < -limit and is_faster:
        return "better", ""
    return "holds", ""


def _before(before: Readings | None, key: Key) -> list[Point]:
    if before is None:
        return []
    case, measure = key
    if len(before.get(case, {}).get(MEASURES[measure], ())) < 2:
        raise UndecidedError(f"the baseline has no {measure} of {case}; save one anew with --save-baseline")
    return _points(before, key)


def _points(readings: Readings, key: Key) -> list[Point]:
    case, measure = key
    return [(math.log(seconds), math.log(ratio)) for ratio, seconds in readings[case][MEASURES[measure]]]
