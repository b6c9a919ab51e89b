"""What a study can ask of its runs: every measure with its unit, its direction and how arms are compared on it."""

import math
from dataclasses import dataclass
from typing import Literal

from bncli.catalogue import Catalogue, Row
from bncli.findings import Direction, Scale
from bncli.shift import METRICS
from bncli.shift.rows import MetricRow

CROSSINGS = ("steps_to_target", "seconds_to_target", "examples_to_target")


@dataclass(frozen=True)
class MeasureRow(Row):
    """One measure. `target` reads it off what `of` says, `summary` heads the table's column.

    Readers of a run are `(seed, result, target level) -> Value`; readers of a search are `(seed, trials) -> Value`
    with the trials of one arm and one tuning seed, (tuned value, result), in order of values. Metrics of shift, which
    `probes:` takes, are `(seed, result, metric, ratio=...) -> Value`.
    """

    noun: str = ""  # in a sentence; {split} is the evaluation split
    unit: str = ""  # a key of bncli.format's table
    direction: Direction = "lower"
    scale: Scale = "difference"
    margin: str = "ratio"  # its key in a study's margins
    of: Literal["run", "search", "probe"] = "run"


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
        noun="steps to the target {split} accuracy", unit="steps", scale="ratio",
    ),
    "seconds_to_target": MeasureRow(
        f"{_TIME}:seconds_to_target", "seconds to target",
        noun="seconds of training to the target {split} accuracy", unit="seconds", scale="ratio",
    ),
    "examples_to_target": MeasureRow(
        f"{_TIME}:examples_to_target", "examples to target",
        noun="examples seen to the target {split} accuracy", unit="examples", scale="ratio",
    ),
    "restricted_steps": MeasureRow(
        f"{_TIME}:restricted_steps", "restricted steps",
        noun="mean steps to the target, counted up to the budget", unit="steps", scale="ratio",
    ),
    "reached": MeasureRow(
        f"{_TIME}:reached", "reached", noun="share of runs that reach the target", unit="share", direction="higher",
        margin="share",
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
