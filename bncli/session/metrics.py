"""Which metrics a study is about: those that runs have, as it declares them, or as the field calls them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bncli.config.observed import ObservedStudy
from bncli.config.recipe import MetricPart
from bncli.config.study import Study
from bncli.errors import ConfigError, unknown
from bncli.findings import Direction
from bncli.format import written_setting
from bncli.measures import (
    ACCURACY,
    MEASURES,
    OF_CURVES,
    OF_METRICS,
    OF_TASKS,
    RECORDED,
    Metric,
    guess_direction,
    measure_row,
    metrics_named,
)
from bncli.records import RunResult

if TYPE_CHECKING:
    from bncli.analysis import ArmRuns  # brings scipy, which a plan does without


@dataclass(frozen=True)
class MeasureChoice:
    """What runs are compared on."""

    measures: tuple[str, ...]
    metrics: Mapping[str, Metric]  # that a measure or the target is of, by name, but for accuracy and loss
    aim: Metric  # that has a target, or would have


def choose_measures(
    study: Study | ObservedStudy, target: Mapping[str, Any], metrics: Sequence[str], whose: str = "runs made elsewhere",
    measured: Sequence[str] = OF_CURVES, claimed: Sequence[str] = (),
) -> MeasureChoice:  # fmt: skip
    """What runs are compared on: what the study names, else the first metric at its end and at its best.

    With a target how many steps it took comes first.

    Args:
        study: whose measures and metrics these are.
        target: {METRIC: level}, {final_of: VARIANT} or nothing.
        metrics: that the runs have, in their order.
        whose: runs, which do not hold what other measures need, in words.
        measured: measures of the catalogue that they can be asked.
        claimed: measures that claims are about.

    Raises:
        ConfigError: for a name that nothing has, a measure that lacks a target, or a metric of which nothing says which
            way it is better.
    """
    named = [metric for measure in study.measures for metric in metrics_named(measure) if metric in metrics]
    aimed = next((key for key in target if key != "final_of"), [*named, *metrics][0])
    for name in (aimed, *study.metrics):
        if name not in metrics:
            raise ConfigError(unknown("metric", name, metrics, in_order=True))
    timed = ("steps_to_target",) if target else ()
    measures = tuple(study.measures) or (*timed, f"final_{aimed}", f"best_{aimed}")
    allowed = [*(form.format(metric) for metric in metrics for form in OF_METRICS), *measured]
    for name in (*measures, *claimed):
        if name not in allowed and name in MEASURES:
            raise ConfigError(
                f"measures: {name!r} needs what {whose} do not hold (there are: {', '.join(dict.fromkeys(allowed))})"
            )
        if name not in allowed:
            raise ConfigError(f"measures: {unknown('measure', name, allowed)}")
    asked = {aimed, *(metric for measure in (*measures, *claimed) for metric in metrics_named(measure))}
    declared = declare_metrics(study.metrics, [name for name in metrics if name in asked])
    for name in (*measures, *claimed):
        if measure_row(name, declared).of == "target" and not target:
            raise ConfigError(f"measures: {name!r} needs a target; --set target.{aimed}=LEVEL")
    return MeasureChoice(measures, declared, declared.get(aimed) or RECORDED.get(aimed, ACCURACY))


def declare_metrics(parts: Mapping[str, MetricPart], asked: Sequence[str]) -> dict[str, Metric]:
    """Every metric that is declared or asked for: as the study declares it, or as its name says in the field.

    Raises:
        ConfigError: for one of which nothing says which way is better.
    """
    found = {name: Metric(name, part.better, part.unit) for name, part in parts.items()}
    return found | {name: Metric(name, _better(name)) for name in asked if name not in {**parts, **RECORDED}}


def choose_task_measures(study: Study, results: Iterable[RunResult]) -> MeasureChoice:
    """What runs of a task are compared on: see `choose_measures`; how many diverged, where they yielded nothing."""
    metrics = list(dict.fromkeys(metric for result in results for metric in result.metrics()))
    target = study.target.model_dump(exclude_none=True) if study.target else {}
    if not metrics:
        return MeasureChoice(("diverged",), {}, ACCURACY)
    claimed = [claim.measure for claim in study.claims]
    return choose_measures(study, target, metrics, "tasks", OF_TASKS, claimed)


def allow_steps(arms: Sequence["ArmRuns"]) -> list["ArmRuns"]:
    """Arms of a task with a budget for each run.

    It is where the run ended; one that diverged would have gone on as the others did, or as its option `steps` says.
    """
    ends = [(repr(arm.setting), run.info) for arm in arms for run in arm.runs.values()]
    longest = {at: max(info.step for where, info in ends if where == at) for at, _ in ends}

    def allowed(at: str, run: RunResult) -> RunResult:
        steps = run.info.step if run.info.status == "done" else max(longest[at], run.budget or 0)
        return replace(run, spec={**run.spec, "training": {"steps": steps}})

    return [
        replace(arm, runs={seed: allowed(repr(arm.setting), run) for seed, run in arm.runs.items()}) for arm in arms
    ]


def find_uneven(arms: Sequence["ArmRuns"]) -> Iterator[str]:
    """A warning for every setting at which runs of a task ended by themselves at different steps."""
    for at in {repr(arm.setting): arm.setting for arm in arms}.values():
        ends = [run.info.step for a in arms if a.setting == at for run in a.runs.values() if run.info.status == "done"]
        if len(set(ends)) > 1:
            where = f"at {written_setting(at)}: " if at else ""
            ended = f"runs end after {min(ends):,} to {max(ends):,} steps"
            yield f"{where}{ended}: their last values are not of the same training; end all at one step"


def margins_of(study: Study | ObservedStudy, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """What is too small to matter, by key of `margins`, and of metrics by `metrics.NAME`."""
    declared = {f"metrics.{name}": part.margin for name, part in study.metrics.items()}
    return {**study.margins.model_dump(), **{f"metrics.{name}": 0.0 for name in metrics}, **declared}


def _better(name: str) -> Direction:
    if found := guess_direction(name):
        return found
    raise ConfigError(f"metric {name!r}: nothing says which way it is better; --set metrics.{name}.better=higher")
