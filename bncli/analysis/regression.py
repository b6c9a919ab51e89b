"""The gate for learning: are the numbers the baseline's, from which step on not, is the change within limits."""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from bncli.analysis.comparisons import apart, log_margin, lonely, on_scale, unpaired
from bncli.analysis.readers import ArmRuns, Ask, values_of
from bncli.analysis.stats import Pair, interval, observed, verdict
from bncli.findings import Check, Measure, Value, Verdict
from bncli.format import written_arm, written_change, written_difference
from bncli.limits import Limit, limits_by_name, require_worse
from bncli.measures import MEASURES
from bncli.records import CurveKey, read_run_document

Document = Mapping[str, Any]
RunDocument = Mapping[str, Any]
RunPair = tuple[RunDocument, RunDocument]  # now, before
RunKey = tuple[str, str, int]  # variant, setting as text, seed


def regressions(now: Document, before: Document, limits: Sequence[Limit], chosen: Collection[str] = ()) -> list[Check]:
    """Hold one document of findings against another.

    On the same kind of machine the same code gives the same numbers, so each arm is first asked whether it is
    identical. Without limits any change fails there; with limits, and on other machines, what counts is the change of
    each measure over pairs of runs with the same seed: with limits within them, without no worse than the study's
    margins allow. What only one of the two has is named, and undecided: it was not held against anything.

    Args:
        now: of the code as it is.
        before: the baseline.
        limits: how far which measures may move.
        chosen: variants that were asked for by name, so that others were left out on purpose; none where all were.

    Raises:
        ConfigError: for a limit to the side that is better, or for no variant.
    """
    measures = {m["name"]: Measure(**m) for m in now["measures"]}
    for limit in limits:
        if not (limit.measure in MEASURES and MEASURES[limit.measure].of == "probe"):  # which may have no better side
            require_worse(limit, measures[limit.measure].direction)
    pairs, arms = _paired(now, before), dict[tuple[str, str], list[RunPair]]()
    if not pairs:
        return [Check("runs in common", "undecided", "the baseline has no run of these variants and seeds", "open")]
    for (variant, setting, _), pair in pairs.items():
        arms.setdefault((variant, setting), []).append(pair)
    study = now["study"]
    declared = {f"metrics.{metric}": part["margin"] for metric, part in study.get("metrics", {}).items()}
    margins = {**{m.margin: 0.0 for m in measures.values()}, **study["margins"], **declared}
    asked = limits_by_name(limits, dict.fromkeys(variant for variant, _ in _arms(now)))
    found = list[Check]()
    for (variant, setting), runs in arms.items():
        name = written_arm(variant, json.loads(setting))
        ours = [limit for (of, *_), limit in asked.items() if of == variant]
        found += _arm(name, runs, measures, ours, margins)
    return [*found, *_one_sided(now, before, chosen, limited=bool(limits))]


def check_values(document: Document) -> None:
    """Pass if a baseline's values are those that its curves give, of those measures that curves alone give.

    Raises:
        ValueError: that names the first that is not.
        Exception: whatever comes of a document that is not whole.
    """
    ask = Ask("", "", "", "", (), None, None, {}, "", (), {})
    named = [measure["name"] for measure in document["measures"]]
    target = (document["study"] or {}).get("target") or {}
    aimed = not target.keys() - {"accuracy", "final_of"} and all(map(_has_accuracy, document["runs"]))
    names = [n for n in named if n in MEASURES and MEASURES[n].of in (("run", "target") if aimed else ("run",))]
    for arm in document["arms"]:
        of_arm = [run for run in document["runs"] if run["values"] and _key(run)[:2] == _key({**arm, "seed": 0})[:2]]
        runs = {run["seed"]: read_run_document(run) for run in of_arm}
        held = {run["seed"]: run["values"] for run in of_arm}
        for name in names:
            for value in values_of(name, ArmRuns(arm["variant"], arm["setting"], runs), arm["target"], ask):
                said = held[value.seed][name]["value"]
                near = value.value is not None and said is not None and math.isclose(value.value, said, rel_tol=1e-9)
                if not near and said != value.value:
                    at = written_arm(arm["variant"], arm["setting"])
                    raise ValueError(f"{name} of {at} seed {value.seed} is {said}, by its curves {value.value}")


def _has_accuracy(run: Mapping[str, Any]) -> bool:
    return not run["values"] or any(curve["metric"] == "accuracy" for curve in run["curves"])


def _one_sided(now: Document, before: Document, chosen: Collection[str], *, limited: bool) -> Iterator[Check]:
    """What only one document has, and was not compared: variants, runs, and measures where no limit says which."""
    ours, theirs = _arms(now), _arms(before)
    held = {_key(run) for run in before["runs"] if run["values"]}
    for arm, name in ours.items():
        lost = sorted(
            run["seed"] for run in now["runs"] if _key(run) in held and _key(run)[:2] == arm and not run["values"]
        )
        fresh = {
            _key(run)[2] for run in now["runs"] if run["values"] and _key(run) not in held and _key(run)[:2] == arm
        }
        asked = {_key(run)[2] for run in now["runs"] if _key(run)[:2] == arm}
        less = sorted(seed for *of, seed in held if tuple(of) == arm and seed not in asked)
        if arm in theirs and fresh:
            why = (
                f"not in the baseline: seeds {', '.join(map(str, sorted(fresh)))}; save the baseline anew to hold them"
            )
            yield Check(f"{name}: runs", "undecided", why, "new")
        if less:
            seeds = ", ".join(map(str, less))
            yield Check(
                f"{name}: runs", "passed", f"in the baseline, and not asked for here: seeds {seeds}", "left out"
            )
        if arm not in theirs:
            why = "not in the baseline; save the baseline anew to hold it too"
            yield Check(f"{name}: runs", "undecided", why, "new")
        elif lost:
            seeds = ", ".join(map(str, lost))
            yield Check(
                f"{name}: runs", "undecided", f"in the baseline, and without numbers here: seeds {seeds}", "gone"
            )
    for arm, name in theirs.items():
        if arm in ours:
            continue
        if chosen and arm[0] not in chosen:
            yield Check(f"{name}: runs", "passed", "in the baseline, and left out here by --variants", "left out")
        else:
            yield Check(f"{name}: runs", "undecided", "in the baseline, and not in this study", "gone")
    known = {measure["name"] for measure in now["measures"]}
    for measure in before["measures"]:
        if measure["name"] not in known and not limited:
            yield Check(measure["label"], "undecided", "in the baseline, and not measured by this study", "gone")


def _arms(document: Document) -> dict[tuple[str, str], str]:
    """Variant and setting of every arm of the report, and what it is called."""
    arms = [(arm["variant"], arm["setting"]) for arm in document["arms"]]
    return {(variant, json.dumps(at, sort_keys=True)): written_arm(variant, at) for variant, at in arms}


def first_difference(now: RunDocument, before: RunDocument) -> int | None:
    """The first step at which two runs measured different numbers; None where all are equal, and they ended alike."""
    curves = [{tuple(c[field] for field in CurveKey._fields): c for c in run["curves"]} for run in (now, before)]
    steps = [
        step
        for key in curves[0].keys() & curves[1].keys()  # what only one has is named apart
        if (step := _first(*(list(zip(c[key]["steps"], c[key]["values"], strict=True)) for c in curves))) is not None
    ]
    ends = [(run["info"]["status"], run["info"]["step"]) for run in (now, before)]
    if ends[0] != ends[1]:
        steps.append(min(ends[0][1], ends[1][1]))
    return min(steps, default=None)


def _arm(
    name: str, runs: Sequence[RunPair], measures: Mapping[str, Measure], limits: Sequence[Limit],
    margins: Mapping[str, float],
) -> Iterator[Check]:  # fmt: skip
    different = {key for now, before in runs for key in _differing(now["spec"], before["spec"])}
    if different:
        message = f"differs from the baseline's in {', '.join(sorted(different))}"
        yield Check(f"{name}: recipe", "undecided", message, "open")
        return
    gone = sorted({name for now, before in runs for name in _curve_names(before) - _curve_names(now)})
    new = sorted({name for now, before in runs for name in _curve_names(now) - _curve_names(before)})
    if gone:
        yield Check(
            f"{name}: curves", "undecided", f"in the baseline, and not measured here: {', '.join(gone)}", "gone"
        )
    if new:
        yield Check(f"{name}: curves", "undecided", f"measured here, and not in the baseline: {', '.join(new)}", "new")
    firsts = [first_difference(now, before) for now, before in runs]
    changed = [step for step in firsts if step is not None]
    same_machine = all(_machine(now) == _machine(before) for now, before in runs)
    said = f"{len(changed)} of {len(runs)} runs differ, first at step {min(changed):,}" if changed else ""
    if same_machine:
        word: Literal["passed", "failed"] = "failed" if changed and not limits else "passed"
        message = said or f"all {len(runs)} runs are the baseline's, number for number"
        yield Check(f"{name}: numbers", word, message, "changed" if changed else "identical")
    if not limits and same_machine:
        return
    for limit in limits or [Limit(measure, 0.0, relative=False) for measure in measures]:
        yield _moved(name, runs, measures[limit.measure], limit, margins, identical=same_machine and not changed)


def _curve_names(run: RunDocument) -> set[str]:
    return {".".join(str(c[field]) for field in CurveKey._fields if c[field] not in ("", None)) for c in run["curves"]}


def _moved(
    name: str, runs: Sequence[RunPair], measure: Measure, limit: Limit, margins: Mapping[str, float],
    identical: bool,
) -> Check:  # fmt: skip
    """Whether one measure of one arm moved further than it may."""
    told = limit.text if limit.relative else written_difference(limit.change, measure)
    label = f"{name}: {measure.label}" + (f", limit {told}" if limit.change else "")
    if identical:
        return Check(label, "passed", "identical", "identical")
    pairs = apart([_values(now, before, measure.name) for now, before in runs], measure)
    reason = unpaired(pairs, ("now", "the baseline")) or (lonely(measure) if len(pairs) < 2 else "")
    if reason:
        return Check(label, "undecided", reason, "open")
    if limit.change and not (limit.relative and measure.scale == "ratio"):
        measure = replace(measure, scale="difference")
    low, high = interval(pairs, measure.scale)
    points = observed(pairs, measure.scale)
    estimate = None if points is None else on_scale(float(np.mean(points)), measure)
    change = written_change(estimate, on_scale(low, measure), on_scale(high, measure), measure)
    message = f"now against the baseline: {change}, {len(pairs)} pairs"
    outcome = (
        _limited(low, high, _bound(limit, measure, pairs), limit.change)
        if limit.change
        else _unlimited(low, high, log_margin(margins[measure.margin], measure), measure)
    )
    word = {"passed": "held", "failed": "regressed", "undecided": "open"}[outcome]
    return Check(label, outcome, message, word)


def judge_move(now: Sequence[Value], before: Sequence[Value], measure: Measure, margin: float) -> Verdict:
    """What the gate without limits says of one measure of one arm, now against before, over seeds that both have.

    Args:
        now: one a seed.
        before: likewise.
        measure: that they are of.
        margin: what is too small to matter.
    """
    known = {value.seed: value for value in before}
    pairs = apart([(value, known[value.seed]) for value in now if value.seed in known], measure)
    if all(replace(ours, reason="") == replace(theirs, reason="") for ours, theirs in pairs):
        return "equivalent"
    if len(pairs) < 2 or unpaired(pairs, ("now", "before")):
        return "not comparable"
    return verdict(*interval(pairs, measure.scale), log_margin(margin, measure), measure.direction)


def _bound(limit: Limit, measure: Measure, pairs: Sequence[Pair]) -> float:
    """The limit on the scale of the interval."""
    if measure.scale == "ratio":
        return float(np.log1p(limit.change))
    if not limit.relative:
        return limit.change
    known = [before.value for _, before in pairs if before.value is not None]
    return limit.change * abs(float(np.mean(known))) if known else 0.0


def _limited(low: float, high: float, bound: float, sign: float) -> Literal["passed", "failed", "undecided"]:
    if sign > 0:
        return "failed" if low > bound else "passed" if high <= bound else "undecided"
    return "failed" if high < bound else "passed" if low >= bound else "undecided"


def _unlimited(low: float, high: float, margin: float, measure: Measure) -> Literal["passed", "failed", "undecided"]:
    said = verdict(low, high, margin, measure.direction)
    return "failed" if said == "worse" else "undecided" if said == "inconclusive" else "passed"


def _paired(now: Document, before: Document) -> dict[RunKey, RunPair]:
    """Runs of the report that both documents have; those of a search have no values of their own."""
    ours, theirs = (
        {_key(run): run for run in document["runs"] if run["info"] and run["values"]} for document in (now, before)
    )
    return {key: (run, theirs[key]) for key, run in ours.items() if key in theirs}


def _key(run: RunDocument) -> RunKey:
    return run["variant"], json.dumps(run["setting"], sort_keys=True), run["seed"]


def _machine(run: RunDocument) -> Mapping[str, Any]:
    return {key: value for key, value in run["info"]["environment"].items() if key not in ("bncli", "machine")}


def _differing(now: Mapping[str, Any], before: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys at which two specs ask for something else; what code a plug-in has is what the gate is to judge."""
    for key in (now.keys() | before.keys()) - {"code"}:
        ours, theirs = now.get(key), before.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            yield from _differing(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            yield f"{prefix}{key}"


def _first(ours: Sequence[tuple[int, float]], theirs: Sequence[tuple[int, float]]) -> int | None:
    for mine, yours in zip(ours, theirs, strict=False):
        if mine != yours:
            return min(mine[0], yours[0])
    longer = max(ours, theirs, key=len)
    return longer[min(len(ours), len(theirs))][0] if len(ours) != len(theirs) else None


def _values(now: RunDocument, before: RunDocument, measure: str) -> Pair:
    nothing = {"value": None, "low": None, "high": None, "reason": "not measured"}
    found = [Value(run["seed"], **run["values"].get(measure, nothing)) for run in (now, before)]
    return found[0], found[1]
