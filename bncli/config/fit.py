"""Whether a study's parts fit each other: names to each other, norms to layers, batches and recipes to data."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bncli.config import budget
from bncli.data import DATASETS
from bncli.errors import Problem, unknown
from bncli.measures import LOSS, MEASURES, measure_row
from bncli.models import MODELS, Layer
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


def without_tokens(study: "Study") -> Iterator[Problem]:
    """Measures of tokens, asked of data that are none."""
    data = DATASETS.describe(study.data.name, study.data.options)
    if data.tokens or "data.name" in study.sweep or "data" in study.sweep:
        return
    asked: list[tuple[tuple[str | int, ...], str]] = [(("measures", i), name) for i, name in enumerate(study.measures)]
    asked += [(("claims", i, "measure"), claim.measure) for i, claim in enumerate(study.claims)]
    for place, name in asked:
        if name in MEASURES.own and MEASURES[name].tokens:
            yield Problem(place, f"{name} is of text, and data {study.data.name!r} are none; ask for final_loss")


def references(study: "Study") -> Iterator[tuple[str, str]]:
    """Names of variants that the study does not have: (key, what is wrong)."""
    for key, name in (("reference", study.reference), ("target", study.target and study.target.final_of)):
        if name is not None and name not in study.variants:
            yield key, unknown("variant", name, study.variants, in_order=True)


def layers_of(study: "Study") -> list[Layer]:
    """The network's layers, of one that somebody else wrote a guess; none where it cannot take the data."""
    data, model = DATASETS.describe(study.data.name, study.data.options), MODELS[study.model.name]
    if _misfit(study):
        return []
    return model.sizes(study.model.options, data.shape, data.outputs)


def misfits_at(study: "Study") -> Iterator[Problem]:
    """What does not fit, for every variant of a study without a sweep.

    Raises:
        ConfigError: for a variant's override that is unknown or out of range.
    """
    for alike in study.by_model():
        yield from _misfits_of_model(alike)


def _misfits_of_model(study: "Study") -> Iterator[Problem]:
    """The same, of variants that share their network."""
    if wrong := _misfit(study):
        yield Problem(("model",), f"model {study.model.name!r} {wrong}")
    layers = layers_of(study)
    if (weights := budget.count_weights(layers)) > budget.MOST_WEIGHTS:
        yield Problem(("model",), budget.too_many_weights(study.model.name, weights))
        return
    kinds = list(dict.fromkeys((layer.channels, layer.locations) for layer in layers if layer.normalised))
    weighed = layers[:-1] if MODELS[study.model.name].positions else [layer for layer in layers if layer.normalised]
    fan_ins = {layer.inputs * layer.area for layer in weighed}
    for name, variant in study.variants.items():
        if not (wrong or kinds) and NORMS[variant.norm.name].family != "none" and study.model.name in MODELS.own:
            why = "has no place: it follows hidden layers, and this network has none"
            yield Problem(("variants", name, "norm"), f"norm {variant.norm.name!r} {why}")
        yield from _misfits(study, name, kinds, fan_ins)
        yield from _too_small(study, name, kinds)
        yield from _contradictions(study, name, len(layers))


def _misfit(study: "Study") -> str:
    """Why the network cannot take the data's examples, to follow its name; "" if it can."""
    data, model = DATASETS.describe(study.data.name, study.data.options), MODELS[study.model.name]
    fit = " or ".join(name for name, row in MODELS.items() if row.positions)
    if data.tokens and not model.positions:
        return f"takes numbers, and data {study.data.name!r} are windows of tokens; use model {fit}"
    if not data.tokens and model.positions and len(data.shape) == 2:
        return f"takes images or tokens, and an example here is of the shape {list(data.shape)}"
    if study.data.options.get("predict") == "next" and data.tokens and not study.model.options["causal"]:
        return "would see the tokens that it is to predict; set model.causal: true, or data.predict: masked"
    return model.misfit(study.model.options, data.shape)


Kinds = Sequence[tuple[int, int]]  # channels and locations of the layers that a norm follows, each pair once


def _misfits(study: "Study", variant: str, kinds: Kinds, fan_ins: Container[int]) -> Iterator[Problem]:
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
    if norm.side == "weight" and norm.several_values and 1 in fan_ins:
        why = "takes its statistics over the weights of each output, and a layer has 1 for each"
        yield Problem(place, f"norm {part.name!r} {why}; use more channels")
    apart, joint = model.positions and norm.apart, norm.family != "batch" or part.options.get("by") == "whitening"
    if model.positions and norm.batch_statistics and joint and study.model.options["statistics"] == "position":
        why = "takes statistics of several channels together, and would of several positions; use model.statistics: all"
        yield Problem(place, f"norm {part.name!r} {why}")
    for channels, locations in dict.fromkeys((channels, locations > 1 and not apart) for channels, locations in kinds):
        if wrong := norm.misfit(part.options, channels, locations=locations):
            yield Problem(place, f"norm {part.name!r}{wrong}")


def _too_small(study: "Study", variant: str, kinds: Kinds) -> Iterator[Problem]:
    """A batch of which a norm cannot take its statistics, or that the data do not fill."""
    study.evaluation_of(variant)
    training, norm = study.training_of(variant), study.variants[variant].norm
    yield from _too_many_ranks(study, variant)
    if NORMS[norm.name].batch_statistics and training.batch_size < 2:
        yield Problem(
            ("training", "batch_size"),
            f"variant {variant!r}: norm {norm.name!r} takes its statistics over the batch and needs at least 2"
            f" examples, got {training.batch_size}",
        )
    ghost = norm.options.get("ghost_size")
    single = any(locations == 1 for _, locations in kinds)
    data = DATASETS.describe(study.data.name, study.data.options)
    for place, sizes in _batches(study, variant, data.examples):
        for size in sizes:
            if ghost and ghost < size and single and min(ghost, size % ghost or ghost) == 1:
                yield Problem(
                    place,
                    f"variant {variant!r}: norm {norm.name!r} with ghost_size {ghost} leaves a virtual batch of 1"
                    f" example, which has no variance, of {size}; use a multiple of the ghost_size, of 2 or more",
                )
            elif place[0] != "training" and NORMS[norm.name].batch_statistics and size < 2:
                why = "takes its statistics over the batch, which would be of 1 example"
                yield Problem(place, f"variant {variant!r}: norm {norm.name!r} {why}; use 2 or more")
    if training.batch_size > data.examples["train"]:
        most = f"must be <= {data.examples['train']} training examples"
        yield Problem(("training", "batch_size"), f"{most}, got {training.batch_size}")


def _too_many_ranks(study: "Study", variant: str) -> Iterator[Problem]:
    """Ranks without an example, or with one alone where statistics are each rank's own; and what takes one process."""
    training, row = study.training_of(variant), NORMS[study.variants[variant].norm.name]
    if training.ranks > training.batch_size:
        most = f"must be <= training.batch_size {training.batch_size}, an example for each"
        yield Problem(("training", "ranks"), f"{most}, got {training.ranks}")
    elif row.batch_statistics and not row.synchronised and 1 < training.batch_size < 2 * training.ranks:
        yield Problem(
            ("training", "ranks"),
            f"variant {variant!r}: each rank takes statistics of its own share, and of a batch of {training.batch_size}"
            f" some of {training.ranks} ranks have 1 example; use norm 'sync', fewer ranks or a larger batch",
        )
    if training.ranks > 1 and study.probes.metrics:
        yield Problem(("training", "ranks"), "probes look at runs of one process; leave probes out, or use 1 rank")


def _batches(
    study: "Study", variant: str, examples: Mapping[str, int]
) -> Iterator[tuple[tuple[str, ...], Iterable[int]]]:
    """The sizes of the batches of which norms take statistics, with the key that says so."""
    batch, probes, evaluation = study.training_of(variant).batch_size, study.probes, study.evaluation_of(variant)
    ranks = study.training_of(variant).ranks
    yield ("training", "batch_size"), {batch // ranks, -(-batch // ranks)}
    if evaluation.statistics == "batch":  # the split in even parts of about a batch
        there = examples[evaluation.split]
        parts = max(1, there // batch)
        yield ("evaluation", "statistics"), sorted({there // parts, -(-there // parts)})
    if probes.metrics and probes.mode == "train":  # whole batches, or the probe set where it is smaller
        yield ("probes", "examples"), (min(batch, probes.examples, examples[probes.split]),)


def _contradictions(study: "Study", variant: str, layers: int) -> Iterator[Problem]:
    """A recipe whose parts contradict each other or the data, or that leaves too many numbers behind."""
    training, data = study.training_of(variant), DATASETS.describe(study.data.name, study.data.options)
    warmup = training.schedule.options["warmup"]
    if warmup >= training.steps:
        message = (
            f"warmup must be below the {training.steps} steps of training, got {warmup}; set"
            " training.schedule.warmup, or training.schedule=constant"
        )
        yield Problem(("training", "schedule"), message)
    if few := training.batches.classes_per_batch:
        wrong = ""
        if data.tokens or not data.classes:
            wrong = f"data {study.data.name!r} has no class{' for each example' if data.tokens else 'es'}; leave it out"
        elif few > data.classes:
            wrong = f"must be <= {data.classes} classes of data {study.data.name!r}, got {few}"
        if wrong:
            yield Problem(("training", "batches", "classes_per_batch"), wrong)
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
    yield from budget.too_many_records(training.steps, study.evaluation.every, study.probes, layers)
