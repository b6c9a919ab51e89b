"""What a plan is in words: the line that describes it, what its norms are, and warnings that stop nothing."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bncli.config import Study
from bncli.config.asking import tune_warnings
from bncli.config.recipe import Training
from bncli.config.search import search_warnings
from bncli.config.study import searched_keys
from bncli.data import DATASETS
from bncli.models import MODELS
from bncli.norms import NORMS
from bncli.plan import Run, each_run, facts_key


def warnings_of(study: Study) -> list[str]:
    """What stops nothing, with what to change: a second activation, batches too small for what a norm estimates."""
    if study.task:
        return []
    functions = {name: study.model_of(name).options.get("activation", "identity") for name in study.variants}
    found = [
        f"{name}: norm {variant.norm.name!r} is an activation as well, and the network's"
        f" {functions[name]} comes on top; leave it out with --set model.activation=identity"
        for name, variant in study.variants.items()
        if NORMS[variant.norm.name].activates and functions[name] != "identity"
    ]
    for _, at in study.settings():
        for name, variant in at.variants.items():
            batch, group = at.training_of(name).batch_size, variant.norm.options.get("group_size")
            if not (NORMS[variant.norm.name].whitens and group):
                continue
            data = DATASETS.describe(at.data.name, at.data.options)
            model = at.model_of(name)
            layers = MODELS[model.name].normalised(model.options, data.shape, data.outputs)
            group = min(group, max((layer.channels for layer in layers), default=group))
            values = batch * min((layer.locations for layer in layers), default=1)
            if values < 2 * group:
                needed = -(-2 * group * batch // values)
                found.append(
                    f"{name}: whitens groups of {group} channels from batches of {batch}, too few for their covariance"
                    f" ({'rank-deficient' if values <= group else 'noisy'}); use training.batch_size {needed} or more,"
                    f" or group_size {max(1, values // 2)} or less"
                )
    return [*dict.fromkeys(found), *tune_warnings(study.tune), *search_warnings(study.search)]


def network_warnings(runs: Iterable[Run]) -> list[str]:
    """What of networks makes their comparison another than it looks like: weights of others, a look at the future."""
    found = []
    for run in runs:
        norm, options = NORMS[run.norm.name], run.model.options
        if (
            options.get("causal")
            and options.get("statistics") == "all"
            and norm.side == "activation"
            and not norm.apart
        ):
            when = "in training, and not in use" if norm.batch_statistics else "in training and in use"
            found.append(
                f"{run.variant}: norm {run.norm.name!r} takes its statistics over all positions, so {when} a"
                " causal network sees later tokens by them; use model.statistics: position, or data.predict: masked"
            )
        facts, weights = MODELS.facts(facts_key(run)), run.model.options.get("weights")
        if facts and facts.functional:
            found.append(
                f"{', '.join(facts.functional)} is no module and stays as it is in every variant; make it one"
                " to have it replaced"
            )
        if facts and weights:
            found.append(
                f"{Path(weights).name} was trained with {' and '.join(facts.norms)}: every other norm starts from"
                " weights that were not trained with it; leave --weights out to train all from the start"
            )
    return [*dict.fromkeys(found)]


def explain_norms(study: Study) -> list[str]:
    """What the norms of the variants are, but for none and batch: a line, and their summaries; empty without any."""
    names = dict.fromkeys(variant.norm.name for variant in study.variants.values())
    found = [name for name in names if name not in ("none", "batch")]
    if not found or study.task:
        return []
    whitening = [name for name in found if NORMS[name].whitens]
    listed = " and ".join(filter(None, [", ".join(whitening[:-1]), *whitening[-1:]]))
    verb = "whiten: they decorrelate" if len(whitening) > 1 else "whitens: it decorrelates"
    said = f"{listed} {verb} channels as well as scale them; " if whitening else ""
    summaries = "; ".join(f"{name}: {NORMS[name].summary}" for name in found)
    return [f"{said}bncli ls norms NAME says what a norm is", f"{summaries}."]


def describe(study: Study, device: str) -> str:
    """One line: data, network, recipe, seeds, device; of a task its options instead of a recipe."""
    counted = f"{len(study.seeds)} paired seeds" if len(study.seeds) > 1 else "1 seed"
    if study.task:
        options = study.task.options | {key.removeprefix("task."): values for key, values in study.sweep.items()}
        written = [f"{key} {', '.join(map(str, v)) if isinstance(v, tuple) else v}" for key, v in options.items()]
        return " · ".join([f"task {study.task.name}", *written, counted, device])
    run, training = next(each_run(study, device)), study.training
    data, model = DATASETS.describe(study.data.name, study.data.options), MODELS[study.model.name]
    options = (study.model if study.variants[run.variant].model else run.model).options  # of most variants
    shape = model.text(options, data.shape, model.sizes(options, data.shape, data.outputs))
    swept = {key: ", ".join(str(v) for v in values) for key, values in study.sweep.items()}
    if study.any_search:
        how = "tuned" if study.tune else "bisected" if study.bisect else "searched"
        swept |= dict.fromkeys(searched_keys(study), how)
    changed = {key.removeprefix("model."): values for key, values in swept.items() if key.startswith("model.")}
    if changed:
        shape = ", ".join(f"{key} {values}" for key, values in changed.items())
    elif facts := MODELS.facts(facts_key(run)):
        shape = f"({facts.parameters:,} parameters)"
    activation = study.model.options.get("activation", "")
    few = swept.get("training.batches.classes_per_batch", training.batches.classes_per_batch)
    named = next((Path(study.data.options[key]).name for key, o in data.options.items() if o.place), study.data.name)
    if data.tokens:
        predicted = swept.get("data.predict", study.data.options["predict"])
        named += f", {predicted} character{'s' if predicted == 'masked' else ''}"
    own = "; ".join(
        f"{name}: {', '.join(f'{key} {value}' for key, value in variant.model.items())}"
        for name, variant in study.variants.items()
        if variant.model
    )
    parts = [
        named,
        f"{study.model.name} {shape} {activation}".strip() + (f" ({own})" if own else ""),
        f"batch {swept.get('training.batch_size', training.batch_size)}{f' of {few} classes' if few else ''}",
        _describe_optimizer(training, swept, images=len(data.shape) > 1),
        f"{training.steps:,} steps",
        counted,
        device,
    ]
    return " · ".join(parts)


def _describe_optimizer(training: Training, swept: Mapping[str, str], images: bool) -> str:
    """`sgd lr 0.5 (constant), momentum 0.9, weight decay 0.0005, no augmentation`: what is off is said to be."""

    def listed(options: Mapping[str, Any], where: str = "", least: object = None) -> list[str]:
        known = {key: swept.get(where + key, value) for key, value in options.items()}
        return [
            key if value is True else f"{key} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
            for key, value in known.items()
            if value is not False and value is not None and value != least
        ]

    lr = swept.get("training.lr", f"{training.lr:g}")
    schedule = ", ".join([training.schedule.name, *listed(training.schedule.options, "training.schedule.", 0)])
    parts = [f"{training.optimizer.name} lr {lr} ({schedule})"]
    parts += listed(training.optimizer.options, "training.optimizer.")
    parts += listed({"weight_decay": training.weight_decay}, "training.", 0) or ["no weight decay"]
    parts += listed({"clip": training.clip}, "training.")
    if images:
        augment = training.augment.model_dump() if training.augment else {}
        parts += listed(augment, "training.augment.", 0) or ["no augmentation"]
    return ", ".join(parts).replace("weight_decay", "weight decay")
