"""From a session's results to findings, of a comparison or of shift."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bncli.analysis import ArmRuns, Ask, analyse
from bncli.analysis.shift import ShiftAsk, analyse_shift
from bncli.config import Probes, StudyClaim
from bncli.config.study import searched_keys
from bncli.config.task import name_metric
from bncli.errors import ConfigError, did_you_mean
from bncli.findings import Claim, Findings, Looks, Note, Scale
from bncli.findings.shift import Definition, ShiftFindings
from bncli.measures import RECORDED
from bncli.plan.words import describe, explain_norms, network_warnings, warnings_of
from bncli.records import RunResult
from bncli.session.metrics import (
    MeasureChoice,
    allow_steps,
    choose_task_measures,
    declare_metrics,
    find_uneven,
    margins_of,
)
from bncli.session.study import Session
from bncli.session.training import unplanned_looks
from bncli.shift import METRICS


def analyse_session(
    session: Session, results: Mapping[str, RunResult], arms: Sequence[ArmRuns] | None = None
) -> Findings:
    """Analyse every run that the plan asked for and that has numbers.

    Args:
        session: that was trained.
        results: by id, as `train` returns them.
        arms: what is compared, where it is not the session's arms.
    """
    good = {key: result for key, result in results.items() if result.info.has_numbers}
    study, environments = session.study, _environments(good)
    arms = _arms(session, good) if arms is None else arms
    warnings = [*warnings_of(study), *network_warnings(session.runs)]
    if study.task:
        chosen = choose_task_measures(study, [good[run.id] for run in session.runs if run.id in good])
        arms = allow_steps(arms)
        warnings += find_uneven(arms)
    else:
        declared = declare_metrics(study.metrics, ())
        aim = name_metric(study)
        chosen = MeasureChoice(study.measures, declared, declared.get(aim) or RECORDED[aim])
    warnings += _mixed(environments, timed=any("second" in name for name in chosen.measures))
    ask = Ask(
        name=session.name,
        question=study.question,
        setup=describe(study, session.device),
        reference=study.reference,
        measures=chosen.measures,
        target_level=study.target.model_dump().get(chosen.aim.name) if study.target else None,
        target_final_of=study.target.final_of if study.target else None,
        margins=margins_of(study, chosen.metrics),
        split="" if study.task else study.evaluation.split,
        warnings=tuple(warnings),
        environment=environments[0] if environments else {},
        claims=tuple(map(_claim, study.claims)),
        searched=next(iter(searched_keys(study)), ""),
        chosen_by=by.by if (by := study.tune or study.search) else "",
        space=study.search.model_dump(mode="json")["over"] if study.search else {},
        sampler=study.search.sampler if study.search else "",
        looks=Looks(study.looks, unplanned_looks(session)),
        metrics=chosen.metrics,
        aim=chosen.aim,
        made="by a task" if study.task else "here",
        notes=tuple(Note(*line) for line in [explain_norms(study)] if line),
    )
    return analyse(arms, ask)


def is_decided(findings: Findings) -> bool:
    """Whether no headline is open: more seeds would say nothing new."""
    return not any(
        c.verdict == "inconclusive"
        for arm in findings.arms
        for c in arm.comparisons
        if c.measure == findings.measures[0].name
    )


def _arms(session: Session, results: Mapping[str, RunResult]) -> list[ArmRuns]:
    """The arms of the report with what was searched for them; of a bisection, the arms that were searched."""
    if not session.searched:
        return [ArmRuns(*arm) for arm in session.arms(results)]
    from bncli.session.search import arm_of, search_of, trials_of

    keys = [*searched_keys(session.study)]
    arms = {(variant, repr(dict(setting))): (setting, runs) for variant, setting, runs in session.arms(results)}
    for run in session.searched:
        setting = {k: v for k, v in run.setting.items() if k not in keys}
        arms.setdefault(arm_of(run, *keys), (setting, {}))
    if session.study.search:
        trials = trials_of(session.searched, session.study.search, results)
        return [ArmRuns(arm[0], at, runs, trials=trials.get(arm, ())) for arm, (at, runs) in arms.items()]
    search = search_of(session.searched, keys[0], results)
    return [ArmRuns(arm[0], setting, runs, search.get(arm, {})) for arm, (setting, runs) in arms.items()]


def choose_metrics(session: Session, metrics: str) -> list[str]:
    """Names of the metrics to be shown, in the catalogue's order; all that are probed unless some are asked for.

    Raises:
        ConfigError: for one that the study does not probe.
    """
    probed = [name for name in session.study.probes.metrics if name != "percentiles"]
    wanted = [name.strip() for name in metrics.split(",") if name.strip()] or probed
    for name in wanted:
        if name not in probed:
            near, known = did_you_mean(name, probed), ", ".join(probed)
            more = f"; --set probes.metrics={METRICS[name].tier or f'[{name}]'} probes it" if name in METRICS else ""
            raise ConfigError(f"--metrics: {session.name} does not probe {name!r}{near}{more} (probed: {known})")
    return [name for name in METRICS if name in wanted]


def analyse_shift_session(
    session: Session, results: Mapping[str, RunResult], metrics: Sequence[str], layers: str
) -> ShiftFindings:
    """Analyse every run that the plan asked for and that did not fail.

    Raises:
        ConfigError: if no layer matches.
    """
    good = {key: result for key, result in results.items() if result.info.has_numbers}
    study, environments = session.study, _environments(good)
    diverged = sum(result.info.status == "diverged" for result in good.values())
    ask = ShiftAsk(
        name=session.name,
        question=study.question,
        setup=describe(study, session.device),
        probes=_describe_probes(study.probes),
        reference=study.reference,
        definitions=tuple(define_metric(name) for name in metrics),
        layers=tuple(pattern.strip() for pattern in layers.split(",") if pattern.strip()),
        margin=study.margins.ratio,
        warnings=(
            *warnings_of(study),
            *network_warnings(session.runs),
            *_mixed(environments),
            *(
                [f"{diverged} runs diverged; what is said of them is of the probes before; lower training.lr"]
                if diverged
                else []
            ),
        ),
        environment=environments[0] if environments else {},
        unmeasured=_too_short_for(session, metrics),
    )
    found = analyse_shift([ArmRuns(*arm) for arm in session.arms(good)], ask)
    if ask.layers and not any(arm.cells for arm in found.arms):
        raise ConfigError(f"--layers {layers}: no probed layer matches")
    return found


def _too_short_for(session: Session, metrics: Sequence[str]) -> dict[str, str]:
    """Metrics that no run is long enough for, each with the reason."""
    how, steps = session.study.probes, max((run.training.steps for run in session.runs), default=0)
    count = steps // how.every + (how.mode == "train")  # before training running statistics know no data
    if count > 1:
        return {}
    short = f"training has {steps:,} steps and a probe comes every {how.every:,}; lower probes.every or raise steps"
    if count == 0:
        return dict.fromkeys(metrics, f"no probe was taken: {short}")
    drift = f"a drift is between two probes, and there was one: {short}"
    return {name: drift for name in metrics if METRICS[name].kind == "pair"}


# how the field writes what a metric's name has in small letters
_AS_WRITTEN = {"w1": "W1", "w2": "W2", "kl": "KL", "ks": "KS", "gaussian": "Gaussian", "frechet": "Fréchet"}


def define_metric(name: str) -> Definition:
    """What the analysis must know of a metric."""
    row = METRICS[name]
    words = " ".join(_AS_WRITTEN.get(word, word) for word in name.removesuffix("-relative").split("-"))
    label = f"relative {words}" if name.endswith("-relative") else words
    open_ended = row.low >= 0 and row.high == float("inf")
    scale: Scale = "ratio" if open_ended else "difference"
    return Definition(name, label, row.kind, row.unit, scale, row.better, row.summary)


def _claim(claim: StudyClaim) -> Claim:
    kind: Literal["ratio", "difference", "level"] = (
        "ratio" if claim.ratio else "difference" if claim.difference else "level"
    )
    band = claim.ratio or claim.difference or claim.level
    assert band is not None
    return Claim(claim.measure, claim.of, claim.versus, claim.at, kind, band.below, band.above, claim.source)


def _environments(results: Mapping[str, RunResult]) -> list[Mapping[str, Any]]:
    """The machines that the results were made on, each once."""
    return list({repr(r.info.environment): r.info.environment for r in results.values()}.values())


_MACHINE = {"machine", "processor", "system", "threads"}  # of an environment, what a run's seconds follow from


def _mixed(environments: list[Mapping[str, Any]], *, timed: bool = False) -> list[str]:
    """Warnings where there are several: of unlike machines only where seconds are compared."""
    keys = {key for e in environments for key in e if e[key] != environments[0].get(key)}
    found = []
    if timed and (unlike := sorted(keys & _MACHINE - {"machine"})):
        kinds = ", ".join(sorted({str(e.get(unlike[0])) for e in environments}))
        found.append(
            f"times are compared over machines that differ in {unlike[0]} ({kinds}): they say more about the machines"
            " than about the norms; train on one kind of machine to compare times"
        )
    if others := sorted(keys - _MACHINE):
        found.append(
            f"the runs were made in environments that differ in {', '.join(others)}; train all in one, in"
            " another --store, where the last digits matter"
        )
    return found


def _describe_probes(probes: Probes) -> str:
    """What was probed, in a line."""
    places = {"layer": "behind layers", "norm": "before activations, normalised or not", "activation": "behind them"}
    mode = "running statistics" if probes.mode == "evaluation" else "batch statistics"
    return f"probed: {probes.examples} {probes.split} examples every {probes.every} steps, with {mode}; " + ", ".join(
        places[place] for place in probes.sites
    )
