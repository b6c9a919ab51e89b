"""What a study of a task may say: variants, seeds, options of the task, how runs are compared; no recipe of ours."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bncli.data import DATASETS
from bncli.errors import ConfigError, Problem, unknown
from bncli.measures import MEASURES, OF_TASKS, RECORDED, Metric, measure_row, metrics_named
from bncli.norms import NORMS

if TYPE_CHECKING:
    from bncli.config.study import Study

RECIPE = ("data", "model", "training", "evaluation", "probes")  # that a task brings itself


def task_problems(study: "Study") -> Iterator[Problem]:
    """What does not apply where a loop of somebody's own trains, and names that cannot be meant."""
    own = "a task brings its own data, model and training; leave it out"
    for key in RECIPE:
        if key in study.model_fields_set:
            yield Problem((key,), own)
    for key, search in (("tune", study.tune), ("bisect", study.bisect), ("search", study.search)):
        if search:
            yield Problem((key,), "does not search options of a task; sweep them instead: --set task.lr=0.1,0.3,1")
    for name, variant in study.variants.items():
        for key, changes in (("training", variant.training), ("evaluation", variant.evaluation)):
            if changes:
                yield Problem(("variants", name, key), own)
        if NORMS[variant.norm.name].side == "network":
            why = "changes whole residual networks of bncli, and cannot stand in a norm's place in a task"
            yield Problem(("variants", name, "norm"), f"norm {variant.norm.name!r} {why}")
    for key in study.sweep:
        if key.split(".")[0] != "task":
            yield Problem(("sweep", key), "of a task only its options can be swept: task.lr")
    measures = [(("measures", i), name) for i, name in enumerate(study.measures)]
    for place, name in [*measures, *((("claims", i, "measure"), c.measure) for i, c in enumerate(study.claims))]:
        if name in MEASURES and name not in OF_TASKS and not metrics_named(name).keys() & study.metrics.keys():
            yield Problem(place, f"{name!r} needs what tasks do not hold")


def name_metric(study: "Study") -> str:
    """The metric that a study of ours is about: that of its target, else accuracy, or loss without classes."""
    levels = study.target.model_dump(exclude={"final_of"}, exclude_none=True) if study.target else {}
    aimed = next(iter(levels), "accuracy")
    has_classes = DATASETS.describe(study.data.name, study.data.options).classes
    return aimed if has_classes or aimed != "accuracy" else "loss"


def metric_problems(study: "Study") -> Iterator[Problem]:
    """Metrics, and measures of them, that our engine does not record."""
    declared = {name: Metric(name, part.better, part.unit) for name, part in study.metrics.items()}
    levels = [] if study.target is None else study.target.model_dump(exclude={"accuracy", "final_of"})
    for place in (*(("metrics", name) for name in declared), *(("target", name) for name in levels)):
        if place[1] not in RECORDED:
            yield Problem(place, unknown("metric", place[1], RECORDED, in_order=True))
    measures = [(("measures", i), name) for i, name in enumerate(study.measures)]
    for at, name in [*measures, *((("claims", i, "measure"), c.measure) for i, c in enumerate(study.claims))]:
        try:
            row = measure_row(name, declared)
        except ConfigError as error:
            yield Problem(at, str(error))
        else:
            if row.of == "target" and study.target is None:
                yield Problem(at, f"{name!r} needs a target; give target: {{accuracy: 0.9}}")
    if not study.measures:
        yield Problem(("measures",), "must not be empty")
