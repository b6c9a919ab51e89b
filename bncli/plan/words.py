"""What a plan is in words: the line that describes it, and doubts about it that stop nothing."""

from collections.abc import Iterable
from pathlib import Path

from bncli.config import Study
from bncli.config.asking import tune_warnings
from bncli.config.search import search_warnings
from bncli.config.study import searched_keys
from bncli.data import DATASETS
from bncli.models import MODELS
from bncli.norms import NORMS
from bncli.plan import Run, facts_key, runs_of


def warnings_of(study: Study) -> list[str]:
    """Doubts about a study that stop nothing: a second activation, batches too small for what a norm estimates."""
    if study.task:
        return []
    found = [
        f"{name}: norm {variant.norm.name!r} is an activation as well, and the network's"
        f" {study.model.options['activation']} comes on top"
        for name, variant in study.variants.items()
        if NORMS[variant.norm.name].activates and study.model.options.get("activation", "identity") != "identity"
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
                    f"{name}: whitens groups of {group} channels from batches of {batch}; the covariance is "
                    f"{'rank-deficient' if values <= group else 'noisy'} below {needed} examples"
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
            found.append(f"{', '.join(facts.functional)} is no module and stays as it is in every variant")
        if facts and weights:
            found.append(
                f"{Path(weights).name} was trained with {' and '.join(facts.norms)}: every other norm starts from"
                " weights that were not trained with it"
            )
    return [*dict.fromkeys(found)]


def describe(study: Study, device: str) -> str:
    """One line: data, network, recipe, seeds, device; of a task its options instead of a recipe."""
    counted = f"{len(study.seeds)} paired seeds" if len(study.seeds) > 1 else "1 seed"
    if study.task:
        options = study.task.options | {key.removeprefix("task."): values for key, values in study.sweep.items()}
        written = [f"{key} {', '.join(map(str, v)) if isinstance(v, tuple) else v}" for key, v in options.items()]
        return " · ".join([f"task {study.task.name}", *written, counted, device])
    run, training = runs_of(study, device)[0], study.training
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
    lr = swept.get("training.lr", f"{training.lr:g}")
    schedule = "" if training.schedule.name == "constant" else f" {training.schedule.name}"
    parts = [
        next((Path(study.data.options[key]).name for key, o in data.options.items() if o.place), study.data.name),
        f"{study.model.name} {shape} {activation}".strip(),
        f"batch {swept.get('training.batch_size', training.batch_size)}",
        f"{training.optimizer.name} lr {lr}{schedule}",
        f"{training.steps:,} steps",
        counted,
        device,
    ]
    return " · ".join(parts)
