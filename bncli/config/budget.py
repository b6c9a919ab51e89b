"""How much a preset may ask for, counted before anything is expanded or built (docs/studies.md has the table).

What one number may be stands with its key; here are the limits of what several numbers make together.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bncli.config.parts import Part
from bncli.errors import Problem
from bncli.models import Layer
from bncli.norms import NORMS

if TYPE_CHECKING:
    from bncli.config.recipe import Probes, Training
    from bncli.config.study import Study

MOST_VARIANTS = 1_000
MOST_RUNS = 100_000  # planning so many takes a minute, and their tables say nothing any more
MOST_ARMS = 10_000  # variants at settings: each is checked before training
MOST_LAYERS = 10_000_000  # of all runs together: the plan looks at every one
MOST_WEIGHTS = 10**11  # of one network: 400 GB in float32, for which bncli trains on one device
MOST_RECORDS = 10_000_000  # numbers that one run leaves behind: a gigabyte and more
MOST_CASES = 10_000  # of a bench preset
MOST_NUMBERS = 10**11  # of one bench input

MANY_RUNS = 10_000  # from here on --yes is needed
MANY_DAYS = 30.0  # likewise, of expected training
MANY_CASES = 1_000  # likewise
ON_A_GPU = 50  # how many times as fast as a core it is taken for, where days are counted

_CHUNK, _CHUNK_OF_IMAGES = 2_000, 200  # examples that an evaluation takes at once
_RECORDS = 8  # numbers that an evaluation leaves, roughly


def written(count: int) -> str:
    """A whole number of any length: `1,000,000`, `10^20`."""
    return f"{count:,}" if count < 10**16 else f"10^{math.log10(count):.4g}"


def written_bytes(size: float) -> str:
    """`0.80 GB`, `3,200 GB`."""
    return f"{size / 1e9:,.3g} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"


def list_seeds(ranges: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The seeds of every range, both of its ends included.

    Raises:
        ValueError: if they are too many to be expanded.
    """
    count = sum(max(0, last - first + 1) for first, last in ranges)
    if count > MOST_RUNS:
        raise ValueError(f"{written(count)} seeds; at most {MOST_RUNS:,}: 50 decide nearly everything")
    return tuple(seed for first, last in ranges for seed in range(first, last + 1))


def count_runs(study: "Study") -> int:
    """How many runs a study asks for at most, those of its search included."""
    arms = len(study.variants) * math.prod(map(len, study.sweep.values()))
    if tune := study.tune:
        return arms * (len(tune.values) * tune.seeds + len(study.seeds))
    if search := study.search:
        return arms * (sum(search.count_trials()) * search.seeds + len(study.seeds))
    if bisect := study.bisect:
        halvings = math.log2(max(2.0, math.log(bisect.high / bisect.low) / math.log(bisect.within)))
        return arms * len(study.seeds) * (2 + math.ceil(halvings))
    return arms * len(study.seeds)


def too_much(study: "Study") -> Iterator[Problem]:
    """What a study has too many of, from its lists alone."""
    settings, variants, runs = math.prod(map(len, study.sweep.values())), len(study.variants), count_runs(study)
    if variants > MOST_VARIANTS:
        yield Problem(("variants",), f"{variants:,}; at most {MOST_VARIANTS:,}, so split them over several presets")
        return
    arms = settings * variants
    factors = {"sweep": settings, "variants": variants}
    said, count, most = f"{written(settings)} settings x {variants:,} variants", arms, MOST_ARMS
    if arms <= MOST_ARMS:
        seeds, tune, trials = len(study.seeds), study.tune, study.search
        searching = f" and {len(tune.values)} values x {tune.seeds:,} seeds of a search" if tune else ""
        if trials:
            searching = f" and {sum(trials.count_trials()):,} trials x {trials.seeds:,} seeds of a search"
        factors |= {"seeds": seeds, "tune": len(tune.values) * tune.seeds if tune else 0}
        factors["search"] = sum(trials.count_trials()) * trials.seeds if trials else 0
        said, count, most = f"{said} x {seeds:,} seeds{searching}", runs, MOST_RUNS
    if count > most:
        what = f"{said} are {written(count)}{' runs' if most == MOST_RUNS else ''}; at most {most:,} in one preset"
        yield Problem((max(factors, key=lambda key: factors[key]),), f"{what}: ask for fewer, or split it over several")


def too_many_runs(runs: int) -> str:
    """Say that a study has more runs than most people mean to ask for."""
    return f"{runs:,} runs, which is more than {MANY_RUNS:,}"


def too_many_layers(layers: int) -> str:
    """Say that all runs together have too many layers to be planned."""
    return f"all runs together have over {written(layers)} layers; at most {MOST_LAYERS:,}: fewer runs, or less deep"


def too_many_weights(model: str, weights: int) -> str:
    """Say that a network is too large for any machine."""
    what = f"model {model!r} has {written(weights)} weights, {written_bytes(4 * weights)} in float32"
    return f"{what}; at most {MOST_WEIGHTS:,}: use a smaller one"


def too_many_records(steps: int, evaluated: int, probes: "Probes", layers: int) -> Iterator[Problem]:
    """Refuse runs, evaluated every so many steps, that leave more numbers behind than fits a store."""
    places = layers * len(probes.sites) * (4 * len(probes.metrics) + probes.null_draws + 3 * probes.units)
    evaluating = _RECORDS * (steps // evaluated + 2)
    probing = places * (steps // probes.every + 1) if probes.metrics else 0
    if evaluating + probing > MOST_RECORDS:
        said = f"each run leaves about {written(evaluating + probing)} numbers; at most {MOST_RECORDS:,}"
        key, remedy = ("probes", "probe") if probing > evaluating else ("evaluation", "evaluate")
        yield Problem((key,), f"{said}: {remedy} less often")


def count_weights(layers: Sequence[Layer]) -> int:
    """Learned numbers of a network, with a bias or the norm's scale and shift of each channel."""
    return sum(layer.inputs * layer.channels * layer.area + 2 * layer.channels for layer in layers)


def training_bytes(layers: Sequence[Layer], norm: Part, training: "Training") -> int:
    """Bytes that training one run takes at least, in float32.

    Weights, their gradients and the optimiser's state; what each layer gives, kept for the backward pass, or what two
    layers give in an evaluation, if that is more; the covariances of norms that decorrelate.
    """
    given = [layer.channels * layer.locations for layer in layers]
    chunk = _CHUNK_OF_IMAGES if any(layer.area > 1 for layer in layers) else _CHUNK
    activations = max(training.batch_size * sum(given), 2 * chunk * max(given, default=0))
    covariances = sum(
        count_covariances(norm.name, norm.options, layer.channels, training.batch_size)
        for layer in layers
        if layer.normalised
    )
    return 4 * (count_weights(layers) * (2 + _moments(training)) + activations + covariances)


def _moments(training: "Training") -> int:
    """Numbers that the optimiser keeps for each weight."""
    if training.optimizer.name in ("adam", "adamw"):
        return 2
    return int(bool(training.optimizer.options.get("momentum")))


def count_covariances(norm: str, options: Mapping[str, Any], channels: int, examples: int) -> int:
    """Numbers in the covariances of one layer; norms that look at each example alone have those of a whole batch."""
    row = NORMS[norm]
    if row.family != "whitening":
        return 0
    options = {key: option.default for key, option in row.options.items()} | dict(options)
    if "groups" in options:
        return examples * min(int(options["groups"]), channels) ** 2
    alone = "each example" in row.over or "locations alone" in row.over
    return (examples if alone else 1) * channels * min(int(options.get("group_size", channels)), channels)
