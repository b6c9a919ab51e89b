"""Whether a study's parts fit each other: names that refer to each other, norms to networks, recipes to data."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bncli.data import DATASETS
from bncli.errors import Problem, unknown
from bncli.measures import LOSS, measure_row
from bncli.models import MODELS
from bncli.norms import NORMS
from bncli.optim import LOSSES

if TYPE_CHECKING:
    from bncli.config.study import Study


def without_classes(study: "Study") -> Iterator[Problem]:
    """What was asked by name that needs an accuracy, of data that have none."""
    data = DATASETS.describe(study.data.name, study.data.options)
    if data.classes or "data.name" in study.sweep or "data" in study.sweep:
        return
    why = f"data {study.data.name!r} has no classes, so no accuracy"
    if "target" in study.model_fields_set and study.target and study.target.accuracy is not None:
        yield Problem(("target",), f"{why}; leave it out, and ask for measures: [final_loss, loss_change]")
    for i, name in enumerate(study.measures if "measures" in study.model_fields_set else ()):
        row = measure_row(name, {}, LOSS)
        if "accuracy" in row.noun or (row.of == "target" and not (study.target and study.target.model_extra)):
            yield Problem(("measures", i), f"{why}; ask for final_loss or loss_change instead of {name}")


def references(study: "Study") -> Iterator[tuple[str, str]]:
    """Names of variants that the study does not have: (key, what is wrong)."""
    for key, name in (("reference", study.reference), ("target", study.target and study.target.final_of)):
        if name is not None and name not in study.variants:
            yield key, unknown("variant", name, study.variants, in_order=True)


def misfits(study: "Study", variant: str) -> Iterator[Problem]:
    """A norm that means nothing on this network, or cannot normalise one of its layers."""
    part, model = study.variants[variant].norm, MODELS[study.model.name]
    norm, place = NORMS[part.name], ("variants", variant, "norm")
    if norm.needs_residual and not model.residual:
        fit = " or ".join(name for name, row in MODELS.items() if row.residual)
        why = f"needs residual branches, and model {study.model.name!r} has none; use model {fit}"
        yield Problem(place, f"norm {part.name!r} {why}")
    if norm.side == "weight" and not model.layers:
        why = f"acts on the weights of layers, and model {study.model.name!r} has none"
        yield Problem(place, f"norm {part.name!r} {why}")
    data = DATASETS.describe(study.data.name, study.data.options)
    if wrong := model.misfit(study.model.options, data.shape):
        yield Problem(("model",), f"model {study.model.name!r} {wrong}")
        return
    layers = model.normalised(study.model.options, data.shape, data.outputs)
    if not layers and norm.family != "none" and study.model.name in MODELS.own:
        yield Problem(place, f"norm {part.name!r} has no place: it follows hidden layers, and this network has none")
    for channels, locations in dict.fromkeys((layer.channels, layer.locations > 1) for layer in layers):
        if wrong := norm.misfit(part.options, channels, locations=locations):
            yield Problem(place, f"norm {part.name!r}{wrong}")


def too_small(study: "Study", variant: str) -> Iterator[Problem]:
    """Batches that leave a norm a single example, or that are larger than the data."""
    study.evaluation_of(variant)
    training, norm = study.training_of(variant), study.variants[variant].norm
    if NORMS[norm.name].batch_statistics and training.batch_size < 2:
        yield Problem(
            ("training", "batch_size"),
            f"variant {variant!r}: norm {norm.name!r} takes its statistics over the batch and needs at least 2"
            f" examples, got {training.batch_size}",
        )
    data, model = DATASETS.describe(study.data.name, study.data.options), MODELS[study.model.name]
    size = norm.options.get("ghost_size", training.batch_size)
    alone = min(size, training.batch_size % size or size) == 1 and size < training.batch_size
    if alone and not model.misfit(study.model.options, data.shape):
        layers = model.normalised(study.model.options, data.shape, data.outputs)
        if any(layer.locations == 1 for layer in layers):
            yield Problem(
                ("training", "batch_size"),
                f"variant {variant!r}: norm {norm.name!r} with ghost_size {size} leaves a virtual batch of 1 example,"
                f" which has no variance, of {training.batch_size}; use a multiple of the ghost_size, of 2 or more",
            )
    examples = data.examples["train"]
    if training.batch_size > examples:
        yield Problem(("training", "batch_size"), f"must be <= {examples} training examples, got {training.batch_size}")


def contradictions(study: "Study", variant: str) -> Iterator[Problem]:
    """A recipe whose parts contradict each other or the data."""
    training, data = study.training_of(variant), DATASETS.describe(study.data.name, study.data.options)
    warmup = training.schedule.options["warmup"]
    if warmup >= training.steps:
        message = (
            f"warmup must be below the {training.steps} steps of training, got {warmup}; set"
            " training.schedule.warmup, or training.schedule=constant"
        )
        yield Problem(("training", "schedule"), message)
    if training.label_smoothing and not data.classes:
        yield Problem(("training", "label_smoothing"), f"data {study.data.name!r} has no classes; must be 0")
    if training.loss and LOSSES[training.loss.name].classes and not data.classes:
        yield Problem(("training", "loss"), f"data {study.data.name!r} has no classes; use squared_error")
    if training.label_smoothing and training.loss and training.loss.name != "cross_entropy":
        yield Problem(("training", "label_smoothing"), f"is for cross_entropy, and the loss is {training.loss.name}")
    if (how := training.augment) and len(data.shape) != 3:
        yield Problem(("training", "augment"), f"data {study.data.name!r} has no images; leave it out")
    elif how and max(how.crop, how.cutout) > min(data.shape[1:]):
        size = " x ".join(map(str, data.shape[1:]))
        yield Problem(("training", "augment"), f"crop and cutout must be at most a side of the images, {size} pixels")
