"""What a study can ask of its runs: every measure with its unit, its direction and how arms are compared on it."""

import math
import re
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
    the metric that has a target; of a metric by name `(seed, result, metric) -> Value`. What is of the "aim" is of the
    metric that the study is about: `measure_row` says what that comes to. Readers of a
    search are `(seed, trials) -> Value` with the trials of one arm and one tuning seed, (tuned value, result), in order
    of values. Metrics of shift, which `probes:` takes, are `(seed, result, metric, ratio=...) -> Value`.
    """

    noun: str = ""  # in a sentence; {split} is the evaluation split
    unit: str = ""  # a key of bncli.format's table
    direction: Direction = "lower"
    scale: Scale = "difference"
    margin: str = "ratio"  # its key in a study's margins
    of: Literal["run", "target", "metric", "aim", "search", "probe"] = "run"
    tokens: bool = False  # of data that are tokens, alone
    metric: "Metric | None" = None  # that it is of, where the study or the runs name it

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
RECORDED = {metric.name: metric for metric in (ACCURACY, LOSS, Metric("train_loss", "lower", "nats"))}  # by our engine
# which way the field's own numbers are better, by the last word of a metric's name
_HIGHER = {
    "accuracy", "acc", "top1", "top5", "f1", "auc", "bleu", "map", "miou", "iou", "r2", "reward", "return", "score",
}  # fmt: skip
_LOWER = {"loss", "error", "err", "perplexity", "ppl", "nll", "mse", "mae", "rmse", "wer", "cer", "fid"}


def guess_direction(name: str) -> Direction | None:
    """Which way a metric is better by what the field calls so: the last word of its name; None where none is known."""
    words = set(re.split(r"[^a-z0-9]+", name.lower())[-1:])
    return "higher" if words & _HIGHER else "lower" if words & _LOWER else None


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
        f"{_TIME}:restricted_steps", "restricted mean steps",
        noun="mean steps to the target (up to the budget)", unit="steps", scale="ratio", of="target",
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
    "bits_per_character": MeasureRow(
        f"{_RUN}:bits_per_character", "bits per character",
        noun="bits per {split} character", unit="bits", margin="loss", tokens=True,
    ),
    "perplexity": MeasureRow(
        f"{_RUN}:perplexity", "perplexity", noun="perplexity of the {split} characters", scale="ratio", tokens=True,
    ),
    "loss_change": MeasureRow(  # lower is better: the loss fell further
        f"{_RUN}:loss_change", "loss change", noun="change of the {split} loss", unit="nats", margin="loss"
    ),
    "bias_growth": MeasureRow(
        f"{_RUN}:bias_growth", "bias growth (per step)",
        noun="growth of the bias norm", unit="norm per step", margin="bias_growth",
    ),
    "final": MeasureRow(f"{_RUN}:final_value", "last value of the metric that has a target, or of the first", of="aim"),
    "best": MeasureRow(f"{_RUN}:best_value", "best value of that metric", of="aim"),
    "area": MeasureRow(f"{_RUN}:mean_value", "that metric, averaged over training", of="aim"),
    "seconds_per_step": MeasureRow(
        f"{_RUN}:seconds_per_step", "seconds a step", noun="seconds of training a step", unit="seconds", scale="ratio"
    ),
    "examples_per_second": MeasureRow(
        f"{_RUN}:examples_per_second", "examples a second",
        noun="training examples a second", unit="a second", direction="higher", scale="ratio",
    ),
    "peak_memory": MeasureRow(
        f"{_RUN}:peak_memory", "peak memory", noun="peak memory of training", unit="bytes", scale="ratio"
    ),
    "diverged": MeasureRow(
        f"{_RUN}:diverged", "diverged", noun="share of runs that diverge", unit="share", margin="share"
    ),
    "usable_range": MeasureRow(
        f"{_SEARCH}:usable_range", "usable range, powers of ten",
        noun="range of tuned values within 1 point of the best", unit="decades", direction="higher",
        margin="decades", of="search",
    ),
    "largest_stable": MeasureRow(
        f"{_SEARCH}:largest_stable", "largest stable",
        noun="largest value that trains stably", unit="rate", direction="higher", scale="ratio", of="search",
    ),
    **{name: _of_metric(name, metric) for name, metric in METRICS.own.items() if name != "percentiles"},
}, derived=(METRICS, _of_metric))  # fmt: skip

COSTS = ("seconds_per_step", "examples_per_second", "peak_memory")  # of this very machine
CLOCKED = COSTS[:2]  # by the clock of a job, which may train several runs
# measures of any metric, by how they are called: its value at the end, at its best, averaged over steps
OF_METRICS = {"final_{}": "final", "best_{}": "best", "{}_area": "mean"}
OF_AIM = {"final": "final_{}", "best": "best_{}", "area": "{}_area"}  # likewise, of the metric that a study is about

# measures of the catalogue that need nothing but curves, statuses and budgets; and those that a task can be asked
OF_CURVES = (
    "steps_to_target", "restricted_steps", "reached", "diverged", "final_accuracy", "best_accuracy", "accuracy_area",
    "final_loss", "loss_change", *OF_AIM,
)  # fmt: skip
OF_TASKS = (*OF_CURVES, "seconds_to_target", "seconds_per_step", "peak_memory")


def metrics_named(measure: str) -> Mapping[str, str]:
    """The metrics that a measure may be of by its name, with what it reads off them: {"bleu": "final"}."""
    found = {}
    for form, word in OF_METRICS.items():
        before, _, after = form.partition("{}")
        if measure.startswith(before) and measure.endswith(after) and len(measure) >= len(form) - 1:
            found[measure[len(before) : len(measure) - len(after)]] = word
    return found


def measure_row(name: str, declared: Mapping[str, Metric], aim: Metric = ACCURACY) -> MeasureRow:
    """What a measure is: of a metric that the study declares (`final_bleu`), of the catalogue, of what is recorded.

    Args:
        name: as a study has it.
        declared: metrics by name.
        aim: the metric that `final`, `best` and `area` are of.

    Raises:
        ConfigError: if it is none of them.
    """
    if name in OF_AIM:
        own = {} if RECORDED.get(aim.name) == aim else {aim.name: aim}
        return measure_row(OF_AIM[name].format(aim.name), {**declared, **own})
    for metrics in (declared, {} if name in MEASURES else RECORDED):
        for metric, word in metrics_named(name).items():
            if metric in metrics:
                return _of_any(metrics[metric], word)
    return MEASURES[name]


def _of_any(metric: Metric, word: str) -> MeasureRow:
    return MeasureRow(
        f"bncli.analysis.readers:{word}_value", f"{word} {metric.noun}", noun=f"{word} {metric.noun}",
        unit=metric.unit, direction=metric.better, of="metric", metric=metric,
        margin="loss" if metric.unit == "nats" else f"metrics.{metric.name}",
    )  # fmt: skip
