"""The gate: has any case become slower than its `--fail-if` rule allows? Suspects are measured again first.

Ratios to the rival are compared, one a process, at one level of the machine (timing/stats.py). A case is called
a regression if new measurements, other than those that made it a suspect, say that it is slower by more than its limit,
and surely by more than half of that: but for a false discovery rate of 5 % over all cases. The half is for what ratios
owe to the hour and its load beyond that, which processes measured together share. What the new measurements leave
undecided is measured once more, and judged by all of them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from bncli.config.bench import RIVALS, KernelClaim
from bncli.findings import outcome_of
from bncli.limits import BENCH_MEASURES, Limit, limits_by_name
from bncli.timing.cases import matches, pair_cases
from bncli.timing.results import (
    BenchRow,
    CaseJudgement,
    CaseResult,
    Estimate,
    Facts,
    GateResult,
    GateVerdict,
    KernelJudgement,
    ProcessReading,
    ProcessReadings,
)
from bncli.timing.stats import (
    Contrast,
    Levels,
    Observation,
    Prior,
    adjust_levels,
    adjust_p_values,
    contrast,
    fit_prior,
    measure_width,
)

_SLACK = 0.5  # of the limit: beyond it a case is a suspect, and surely beyond it a regression
_POWERED = 1.4294  # (z_.975 + z_.8) / z_.975
_LOOKS = 2  # after the first: at all suspects, then at those that are still undecided
_FALSE_DISCOVERY = 0.0294  # of each look, so that two together keep 5 % (Pocock 1977, Biometrika 64:191)

_WORST: tuple[GateVerdict, ...] = ("regression", "undecided")
CaseMeasure = tuple[str, str]  # case, measure


def collect_readings(results: Iterable[CaseResult]) -> ProcessReadings:
    """What every process says of every case, in the order measured."""
    found: dict[str, dict[str, tuple[ProcessReading, ...]]] = {}
    for result in results:
        _add(
            found,
            {result.name: {y: (ProcessReading(r.value, result.seconds[y].value),) for y, r in result.ratios.items()}},
        )
    return found


def judge(
    rules: Sequence[Limit],
    before: ProcessReadings | None,
    now: ProcessReadings,
    remeasure: Callable[[Sequence[str]], ProcessReadings],
    rivals: Mapping[str, str] = BENCH_MEASURES,
) -> GateResult:
    """Judge every case that a limit is for.

    Args:
        rules: where several are for a case, the last counts.
        before: the baseline's; None where ratios in `now` are to be 1 at most (--against, --vs).
        now: at least two processes.
        remeasure: measures the cases named, in as many new processes or more; asked twice at most.
        rivals: what the time of a case is compared with, by measure.

    Returns:
        The judgements, and as `new` the cases that the baseline lacks or has from a single process: they leave the gate
        undecided, unless others are a regression.
    """
    now, before = _name_measures(now, rivals), before and _name_measures(before, rivals)
    rules_by_key = {(case, measure): rule for (case, measure, _), rule in limits_by_name(rules, now, matches).items()}
    asked = {key: rule for key, rule in rules_by_key.items() if before is None or _count(before, key) > 1}
    new = tuple(dict.fromkeys(case for case, measure in rules_by_key if (case, measure) not in asked))
    points = {
        key: (_list_observations(now, key), [] if before is None else _list_observations(before, key)) for key in asked
    }
    family = {key: adjust_levels(ours, theirs) for key, (ours, theirs) in points.items()}
    priors = fit_prior([each.now for each in family.values()]), fit_prior([each.before for each in family.values()])
    first = {key: _contrast(each, priors) for key, each in family.items()}
    open_ = [key for key in asked if _is_suspect(first[key], asked[key])]
    fresh, final = dict[str, dict[str, tuple[ProcessReading, ...]]](), dict[CaseMeasure, Contrast]()
    judgements = _judge_all(asked, first, final)
    for _ in range(_LOOKS):
        if not open_:
            break
        more = remeasure(list(dict.fromkeys(case for case, _ in open_)))
        _add(fresh, _name_measures(more, rivals))
        measured = [key for key in open_ if _count(fresh, key)]  # one that failed meanwhile is not
        anew = {key: adjust_levels(_list_observations(fresh, key), points[key][1], points[key][0]) for key in measured}
        final |= {key: _contrast(each, priors) for key, each in anew.items()}
        judgements = _judge_all(asked, first, final)
        open_ = [(j.case, j.measure) for j in judgements if j.verdict == "undecided"]
    worst = choose_worst(each.verdict for each in judgements)
    return GateResult("undecided" if new and worst == "holds" else worst, judgements, new)


def _add(readings: dict[str, dict[str, tuple[ProcessReading, ...]]], more: ProcessReadings) -> None:
    for case, of_case in more.items():
        known = readings.setdefault(case, {})
        for rival, found in of_case.items():
            known[rival] = (*known.get(rival, ()), *found)


def _is_suspect(found: Contrast, rule: Limit) -> bool:
    limit = math.log1p(rule.change)
    return found.change > _SLACK * limit or found.half_width > limit


def _contrast(found: Levels, priors: tuple[Prior, Prior]) -> Contrast:
    return contrast(found.now, priors[0], found.before, priors[1], found.leverage)


def _judge_all(
    asked: Mapping[CaseMeasure, Limit], first: Mapping[CaseMeasure, Contrast], final: Mapping[CaseMeasure, Contrast]
) -> tuple[CaseJudgement, ...]:
    slack = {key: _SLACK * math.log1p(rule.change) for key, rule in asked.items()}
    slower = adjust_p_values([final[key].test_slower(slack[key]) if key in final else 1.0 for key in asked])
    faster = adjust_p_values([final.get(key, first[key]).test_faster(slack[key]) for key in asked])
    found = []
    for key, is_slower, is_faster in zip(asked, slower, faster, strict=True):
        contrast, rule = final.get(key, first[key]), asked[key]
        verdict, why = _decide(contrast, rule, is_slower <= _FALSE_DISCOVERY, is_faster <= _FALSE_DISCOVERY)
        noise = math.expm1(contrast.half_width)
        found.append(CaseJudgement(*key, rule.change, verdict, contrast.estimate(), noise, key in final, why))
    return tuple(found)


def _decide(found: Contrast, rule: Limit, is_slower: bool, is_faster: bool) -> tuple[GateVerdict, str]:
    limit = math.log1p(rule.change)
    if found.change > limit and is_slower:
        return "regression", ""
    if found.change > limit:
        return "undecided", "beyond the limit, but not surely beyond half of it"
    if found.half_width > limit:
        return "undecided", f"noise of {math.expm1(found.half_width):.0%} hides a change of {rule.change:.0%}"
    if found.change < -limit and is_faster:
        return "better", ""
    return "holds", ""


def _name_measures(readings: ProcessReadings, rivals: Mapping[str, str]) -> ProcessReadings:
    return {
        case: {measure: of_case[rival] for measure, rival in rivals.items() if rival in of_case}
        for case, of_case in readings.items()
    }


def _count(readings: ProcessReadings, key: CaseMeasure) -> int:
    case, measure = key
    return len(readings.get(case, {}).get(measure, ()))


def _list_observations(readings: ProcessReadings, key: CaseMeasure) -> list[Observation]:
    case, measure = key
    return [(math.log(seconds), math.log(ratio)) for ratio, seconds in readings[case][measure]]


def judge_facts(
    limits: Sequence[Limit], facts: Mapping[str, Facts], peaks_before: Mapping[str, int]
) -> Iterator[CaseJudgement]:
    """Judge what is the same in every process: the peak of memory, and errors, for every case that a limit is for.

    Args:
        limits: those on `peak` and `error`; where several are for a case, the last counts.
        facts: by case.
        peaks_before: bytes by case, of what is compared with.
    """
    for (case, measure, _), limit in limits_by_name(limits, facts, matches).items():
        found, change, why = facts[case], None, ""
        if measure == "error":
            value, bound = found.correctness.error, limit.change
            change = None if value is None else Estimate(value)
            why = "" if change else found.reasons.get("error", "it is held against itself in float64 alone")
        else:
            bound, before = 1 + limit.change, peaks_before.get(case)
            if found.peak_byte is not None and before is not None:
                change = Estimate(found.peak_byte / max(before, 1))
            else:
                elsewhere = "that of what it is compared with is not known"
                why = elsewhere if found.peak_byte is not None else found.reasons.get("peak_byte", "it is not known")
        verdict: GateVerdict = "undecided" if change is None else "regression" if change.value > bound else "holds"
        yield CaseJudgement(case, measure, limit.change, verdict, change, None, False, why)


def choose_worst(verdicts: Iterable[GateVerdict]) -> GateVerdict:
    """Regression, else undecided, else holds."""
    found = set(verdicts)
    return next((verdict for verdict in _WORST if verdict in found), "holds")


def judge_claims(claims: Sequence[KernelClaim], rows: Sequence[BenchRow]) -> Iterator[KernelJudgement]:
    """Judge every claim at every setting that was timed, by whether its whole 95 % interval agrees.

    Two norms are compared by their ratios to torch's batch norm, with which each was interleaved.
    """
    rows_by_case = {row.case: row for row in rows}
    for claim in claims:
        common = fit_prior([_take_logs(row) for row in rows])
        for case, other in pair_cases(claim, list(rows_by_case)):
            row = rows_by_case[case]
            ratio = row.ratios[RIVALS[claim.versus]] if other is None else _compare(row, rows_by_case[other], common)
            yield _judge_claim(claim, row, ratio)


def _judge_claim(claim: KernelClaim, row: BenchRow, ratio: Estimate) -> KernelJudgement:
    low = -math.inf if ratio.low is None else ratio.low
    high = math.inf if ratio.high is None else ratio.high
    outcome = outcome_of(low, high, claim.ratio.below, claim.ratio.above)
    at = row.case.name.partition("/")[2]
    return KernelJudgement(
        claim.of,
        claim.versus,
        at,
        claim.ratio.below,
        claim.ratio.above,
        claim.source,
        outcome,
        ratio,
        find_detectable(ratio),
    )


def find_detectable(ratio: Estimate) -> float | None:
    """The least factor between the true ratio and a bound that measurements with this interval decide in 80 % of runs.

    In logarithms half the interval's width times (z_.975 + z_.8) / z_.975: the minimum detectable effect of
    Bloom (1995, Evaluation Review 19:547) by the normal distribution's quantiles, which for the few degrees of freedom
    of five processes is some 6 % too much.
    """
    half = measure_width(ratio)
    return math.exp(_POWERED * half) if math.isfinite(half) else None


def _compare(row: BenchRow, other: BenchRow, common: Prior) -> Estimate:
    """Time of a row over that of another norm at the same setting, each by its ratio to torch's batch norm."""
    both = _take_logs(row), _take_logs(other)
    if min(map(len, both)) < 2:
        return Estimate(math.exp(both[0][0] - both[1][0]))
    return contrast(both[0], common, both[1], common).estimate()


def _take_logs(row: BenchRow) -> list[float]:
    return [math.log(result.ratios["native"].value) for result in row.results]
