"""One arm over its seeds: mean and spread, how many runs ended how, when they reached the target (Kaplan-Meier)."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bncli.analysis.readers import spent
from bncli.findings import Crossing, Summary, Value
from bncli.records import RunResult


def summary(measure: str, values: Sequence[Value]) -> Summary:
    """Mean and standard deviation over seeds (n - 1); the median where some run has no value.

    In the median a censored run counts as later than any that got there, so that it is None where half did not; one
    that diverged as worse than any that did not.
    """
    known = [v.value for v in values if v.value is not None]
    missing = [v for v in values if v.value is None]
    if not known:
        return Summary(measure, tuple(values), None, None, missing[0].reason if missing else "no run")
    if not missing:
        std = float(np.std(known, ddof=1)) if len(known) > 1 else None
        reason = "" if len(known) > 1 else "one run has no standard deviation"
        return Summary(measure, tuple(values), float(np.mean(known)), std, reason)
    reason = f"{len(missing)} of {len(values)} runs have no value: {missing[0].reason}"
    if any(v.low is None and v.high is None for v in missing):
        return Summary(measure, tuple(values), None, None, reason)
    median = float(statistics.median(known + [math.inf if v.high is None else -math.inf for v in missing]))
    return Summary(measure, tuple(values), None, None, reason, median if math.isfinite(median) else None)


def statuses(runs: Iterable[RunResult]) -> Mapping[str, int]:
    """How many runs ended in which way."""
    return dict(Counter(run.info.status for run in runs))


def ms_per_step(runs: Iterable[RunResult]) -> float | None:
    """Median over seeds of training time per step, milliseconds; None where no run was timed."""
    times = [
        1000 * run.info.seconds["training"] / run.info.step
        for run in runs
        if run.info.step > 0 and "training" in run.info.seconds
    ]
    return float(statistics.median(times)) if times else None


def parameters(runs: Iterable[RunResult]) -> int | None:
    """Trainable numbers in the network; None where no run says so."""
    return next((run.info.parameters for run in runs if run.info.parameters), None)


Curve = list[tuple[float, float]]  # (time, share that has not got there after it), from (0, 1) on


def kaplan_meier(times: Sequence[float], events: Sequence[bool]) -> Curve:
    """Product-limit estimate of the share that has not had its event yet (Kaplan & Meier 1958).

    S(t) = prod over event times u <= t of (1 - d_u / n_u), d_u events among n_u at risk. Who is censored at a time
    counts as at risk then.

    Args:
        times: of the event, or of censoring, each > 0 or 0 for an event at once.
        events: whether it was the event.
    """
    curve, share = [(0.0, 1.0)], 1.0
    for time in sorted({t for t, event in zip(times, events, strict=True) if event}):
        at_risk = sum(t >= time for t in times)
        happened = sum(t == time and event for t, event in zip(times, events, strict=True))
        share *= 1 - happened / at_risk
        curve.append((time, share))
    return curve


def median(curve: Curve) -> float | None:
    """First time at which half have had their event, S <= 1/2; None where fewer ever did."""
    return next((time for time, share in curve if share <= 0.5 + 1e-12), None)


def restricted_mean(curve: Curve, limit: float) -> float:
    """Area under S up to `limit`: the mean time, each counted up to the limit."""
    ends = [time for time, _ in curve[1:]] + [math.inf]
    parts = zip(curve, ends, strict=True)
    return sum(share * max(0.0, min(end, limit) - min(start, limit)) for (start, share), end in parts)


def crossing(values: Sequence[Value], runs: Sequence[RunResult]) -> Crossing | None:
    """How the runs of an arm got to the target, from their `steps_to_target`; None where nothing was timed.

    A run that diverged is censored at its budget, as is one that never got there: the event never comes. The expected
    running time is all steps spent over the number of successes (Auger & Hansen 2005): what repeated attempts cost.
    """
    timed = [(v, r) for v, r in zip(values, runs, strict=True) if v.low is not None]
    if not timed:
        return None
    got_there = [v.value is not None for v, _ in timed]
    times = [v.low if v.value is None else v.value for v, _ in timed]
    curve = kaplan_meier([t for t in times if t is not None], got_there)
    limit = max(float(r.spec["training"]["steps"]) for _, r in timed)
    steps = sum(spent(r, v) for v, r in timed)
    successes = sum(got_there)
    return Crossing(
        runs=len(timed),
        reached=successes,
        budget=limit,
        median=median(curve),
        restricted_mean=restricted_mean(curve, limit),
        running_time=steps / successes if successes else None,
    )
