"""What a study can ask of its runs: every measure with its unit, its direction and how arms are compared on it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bncli.catalogue import Catalogue, Row, resolve
from bncli.findings import Direction, Scale
from bncli.shift import METRICS
from bncli.shift.rows import MetricRow

CROSSINGS = ("steps_to_target", "seconds_to_target", "examples_to_target")


@dataclass(frozen=True)
class MeasureRow(Row):
    """One measure. `target` reads it off what `of` says, `summary` heads the table's column.

    Readers of a run are `(seed, result) -> Value`; of its way to the target `(seed, result, level, aim) -> Value` with
    the metric that has a target; of a metric that the study declares `(seed, result, metric) -> Value`. Readers of a
    search are `(seed, trials) -> Value` with the trials of one arm and one tuning seed, (tuned value, result), in order
    of values. Metrics of shift, which `probes:` takes, are `(seed, result, metric, ratio=...) -> Value`.
    """

    noun: str = ""  # in a sentence; {split} is the evaluation split
    unit: str = ""  # a key of bncli.format's table
    direction: Direction = "lower"
    scale: Scale = "difference"
    margin: str = "ratio"  # its key in a study's margins
    of: Literal["run", "target", "metric", "search", "probe"] = "run"
    metric: "Metric | None" = None  # that the study declares

    def reader(self) -> Any:
        """What reads it off a run."""
        return resolve(self.target)


@dataclass(frozen=True)
class Metric:
    """A number that runs yield, by its name: what must be known to compare runs on it."""

    name: str
    better: Direction
    unit: str = ""  # in words: points, seconds; "" is a plain number

    @property
    def noun(self) -> str:
        """What a sentence calls it."""
        return self.name.replace("_", " ")


ACCURACY = Metric("accuracy", "higher", "fraction")
LOSS = Metric("loss", "lower", "nats")


_RUN, _TIME, _SEARCH = "bncli.analysis.readers", "bncli.analysis.readers", "bncli.analysis.tuning"


def _of_metric(name: str, metric: MetricRow) -> MeasureRow:
    """A metric of shift, averaged over probes and layers."""
    words = name.replace("-", " ")
    scale: Scale = "ratio" if metric.low >= 0 and metric.high == math.inf else "difference"
    return MeasureRow(
        "bncli.analysis.readers:over_training", words, noun=words, direction=metric.better or "lower", scale=scale,
        margin="ratio", of="probe", origin=metric.origin, code=metric.code,
    )  # fmt: skip


MEASURES = Catalogue("measure", {
    "steps_to_target": MeasureRow(
        f"{_TIME}:steps_to_target", "steps to target",
        noun="steps to the target {target}", unit="steps", scale="ratio", of="target",
    ),
    "seconds_to_target": MeasureRow(
        f"{_TIME}:seconds_to_target", "seconds to target",
        noun="seconds of training to the target {target}", unit="seconds", scale="ratio", of="target",
    ),
    "examples_to_target": MeasureRow(
        f"{_TIME}:examples_to_target", "examples to target",
        noun="examples seen to the target {target}", unit="examples", scale="ratio", of="target",
    ),
    "restricted_steps": MeasureRow(
        f"{_TIME}:restricted_steps", "restricted steps",
        noun="mean steps to the target, counted up to the budget", unit="steps", scale="ratio", of="target",
    ),
    "reached": MeasureRow(
        f"{_TIME}:reached", "reached", noun="share of runs that reach the target", unit="share", direction="higher",
        margin="share", of="target",
    ),
    "final_accuracy": MeasureRow(
        f"{_RUN}:final_accuracy", "final accuracy",
        noun="final {split} accuracy", unit="fraction", direction="higher", margin="accuracy",
    ),
    "best_accuracy": MeasureRow(
        f"{_RUN}:best_accuracy", "best accuracy",
        noun="best {split} accuracy", unit="fraction", direction="higher", margin="accuracy",
    ),
    "accuracy_area": MeasureRow(
        f"{_RUN}:accuracy_area", "mean accuracy",
        noun="{split} accuracy, averaged over training", unit="fraction", direction="higher", margin="accuracy",
    ),
    "final_loss": MeasureRow(
        f"{_RUN}:final_loss", "final loss", noun="final {split} loss", unit="nats", margin="loss"
    ),
    "loss_change": MeasureRow(  # lower is better: the loss fell further
        f"{_RUN}:loss_change", "loss change", noun="change of the {split} loss", unit="nats", margin="loss"
    ),
    "bias_growth": MeasureRow(
        f"{_RUN}:bias_growth", "bias growth (per step)",
        noun="growth of the bias norm", unit="norm per step", margin="bias_growth",
    ),
    "diverged": MeasureRow(
        f"{_RUN}:diverged", "diverged", noun="share of runs that diverge", unit="share", margin="share"
    ),
    "usable_range": MeasureRow(
        f"{_SEARCH}:usable_range", "usable range",
        noun="range of tuned values within 1 point of the best", unit="decades", direction="higher",
        margin="decades", of="search",
    ),
    "largest_stable": MeasureRow(
        f"{_SEARCH}:largest_stable", "largest stable",
        noun="largest value that trains stably", unit="rate", direction="higher", scale="ratio", of="search",
    ),
    **{name: _of_metric(name, metric) for name, metric in METRICS.own.items() if name != "percentiles"},
}, derived=(METRICS, _of_metric))  # fmt: skip

# measures of any metric, by how they are called: its value at the end, at its best, averaged over steps
OF_METRICS = {"final_{}": "final", "best_{}": "best", "{}_area": "mean"}


def measure_row(name: str, declared: Mapping[str, Metric]) -> MeasureRow:
    """What a measure is, of the catalogue or of a metric that the study declares: `final_bleu`.

    Raises:
        ConfigError: if it is neither.
    """
    for form, word in OF_METRICS.items():
        for metric in declared.values():
            if name == form.format(metric.name):
                return MeasureRow(
                    f"bncli.analysis.readers:{word}_value", f"{word} {metric.noun}", noun=f"{word} {metric.noun}",
                    unit=metric.unit, direction=metric.better, margin=metric.name, of="metric", metric=metric,
                )  # fmt: skip
    return MEASURES[name]
