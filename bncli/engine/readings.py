"""What a probe reads at one step, by layer: one function for each kind of metric."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bncli.engine.layers import INPUT, NetworkLayer
from bncli.engine.moment import Activations, ProbeSite, Subject, resampled
from bncli.shift import METRICS
from bncli.shift.gradients import flat, gradient_shift, gradients, walk

POPULATION = 20  # training batches that stand for the population
COMPANIES = 8  # batches in whose company an example is normalised again


@dataclass(frozen=True)
class MetricValues:
    """One metric at one site: (*lanes, C) of its units, or (*lanes,) of the whole layer."""

    metric: str
    site: ProbeSite
    values: Tensor
    null: bool = False  # a draw of the null band: nothing has changed but the sample


@dataclass(frozen=True)
class Moment:
    """One step of training: whom to ask, what was seen at the probe before (nothing at the first), what is seen now."""

    subject: Subject
    step: int
    lr: Tensor  # (*lanes,), of the next training step
    before: Activations
    now: Activations
    examples: int  # behind `now`
    null: bool  # whether the null band is asked for


def read(names: Sequence[str], moment: Moment) -> Iterator[MetricValues]:
    """Every metric of `names`, kind by kind: what one kind needs is made once."""
    for kind, reader in READERS.items():
        metrics = {name: METRICS.load(name) for name in names if METRICS[name].kind == kind and name != "percentiles"}
        if metrics:
            yield from reader(metrics, moment)


MetricFunctions = Mapping[str, Callable[..., Tensor]]


def _pairs(metrics: MetricFunctions, moment: Moment) -> Iterator[MetricValues]:
    """Drift since the probe before; and what it is of two samples of this very checkpoint."""
    for site, now in moment.now.items():
        for name, metric in metrics.items():
            if site in moment.before:
                yield MetricValues(name, site, metric(moment.before[site], now))
    if not moment.null:
        return
    lanes, how = len(moment.subject.network.lanes), moment.subject.how
    for first, second in resampled(moment.now, moment.examples, lanes, how.null_draws, moment.step):
        for site in moment.now:
            for name, metric in metrics.items():
                yield MetricValues(name, site, metric(first[site], second[site]), null=True)


def _samples(metrics: MetricFunctions, moment: Moment) -> Iterator[MetricValues]:
    """Of the sample alone; saturation of what an activation takes, where one takes it."""
    functions = {ProbeSite(layer.name, place): layer.function for layer, place in _fed(moment.subject)}
    for site, now in moment.now.items():
        for name, metric in metrics.items():
            if "activation" not in METRICS[name].options:
                yield MetricValues(name, site, metric(now))
            elif functions.get(site, "identity") != "identity":
                yield MetricValues(name, site, metric(now, activation=functions[site]))


def _fed(subject: Subject) -> Iterator[tuple[NetworkLayer, str]]:
    """Layers and those of the probed places whose output an activation takes."""
    for layer in subject.chosen:
        for place in subject.how.sites:
            if layer.activation and layer.site(place) == layer.takes:
                yield layer, place


def _gradients(metrics: MetricFunctions, moment: Moment) -> Iterator[MetricValues]:
    """G and G' of every layer on the next training batch, by the next training step."""
    subject = moment.subject
    layers = {layer.name: layer.parameters for layer in subject.layers if layer.parameters}
    if not layers:
        return
    x, y = subject.next_batch()
    before = {name: p.detach() for name, p in subject.network.parameters.items()}
    after = subject.parameters_after(x, y, moment.lr)
    for found in gradient_shift(subject.loss_on(x, y), before, after, layers):
        for name, metric in metrics.items():
            yield MetricValues(name, ProbeSite(found.layer), metric(found.gradient, found.moved))


def _landscape(metrics: MetricFunctions, moment: Moment) -> Iterator[MetricValues]:
    """Along the negative gradient of the next training batch."""
    subject = moment.subject
    x, y = subject.next_batch()
    before = {name: p.detach() for name, p in subject.network.parameters.items()}
    walked = walk(subject.loss_on(x, y), before, [size * moment.lr for size in subject.how.step_sizes])
    for name, metric in metrics.items():
        yield MetricValues(name, ProbeSite(), metric(walked))


def _statistics(metrics: MetricFunctions, moment: Moment) -> Iterator[MetricValues]:
    """Running mean and variance against those of what the norm takes in, over training batches, weights held."""
    subject = moment.subject
    found: dict[ProbeSite, tuple[str, list[Tensor]]] = {}
    for layer in subject.layers:
        for norm, module in ((layer.norm, layer.normalised), (layer.before, layer.before + INPUT)):
            if len(pair := _running(subject, norm)) == 2:
                found.setdefault(ProbeSite(layer.name), (module, pair))
    if not found:
        return
    x, batch = torch.cat(list(subject.batches.fixed(POPULATION))), subject.batches.size
    inputs = subject.samples({site: module for site, (module, _) in found.items()}, x, training=True, batch=batch)
    for site, (_, pair) in found.items():
        var, mean = torch.var_mean(inputs[site], -2)
        if pair[0].shape == mean.shape:
            for name, metric in metrics.items():
                yield MetricValues(name, site, metric(*pair, mean, var))


def _running(subject: Subject, norm: str) -> list[Tensor]:
    """Running mean and variance of a norm, (*lanes, C); fewer where it has none."""
    names = [f"{norm}.running_{kind}" for kind in ("mean", "var")]
    return [subject.network.buffers[name] for name in names if name in subject.network.buffers]


def _draws(metrics: MetricFunctions, moment: Moment) -> Iterator[MetricValues]:
    """The first half of a batch of the probe set, in training mode, each time beside other training examples."""
    subject = moment.subject
    fixed = subject.probe_set()[: subject.batches.size // 2]
    outputs: list[Activations] = []
    for x in subject.batches.fixed(COMPANIES):
        batch = torch.cat([fixed, x[len(fixed) :]])
        sites = subject.sites(subject.how.sites)
        outputs.append(subject.samples(sites, batch, training=True, batch=len(batch), kept=len(fixed)))
    for site in outputs[0]:
        together = torch.stack([sample[site] for sample in outputs], len(subject.network.lanes))
        for name, metric in metrics.items():
            yield MetricValues(name, site, metric(together))


def _modes(metrics: MetricFunctions, moment: Moment) -> Iterator[MetricValues]:
    """One batch of the probe set in training mode, and the same in evaluation mode."""
    subject = moment.subject
    x, sites = subject.probe_set()[: subject.batches.size], subject.sites(subject.how.sites)
    training, evaluation = (subject.samples(sites, x, training=mode) for mode in (True, False))
    for site in sites:
        for name, metric in metrics.items():
            yield MetricValues(name, site, metric(training[site], evaluation[site]))


def _weights(metrics: MetricFunctions, moment: Moment) -> Iterator[MetricValues]:
    """Of the weight of each chosen layer."""
    parameters, lanes = moment.subject.network.parameters, len(moment.subject.network.lanes)
    for site, names in _weight_names(moment.subject).items():
        for name, metric in metrics.items():
            yield MetricValues(name, site, metric(flat([parameters[weight].detach() for weight in names], lanes)))


def _weight_gradients(metrics: MetricFunctions, moment: Moment) -> Iterator[MetricValues]:
    """Of the gradient in the weight of each chosen layer, of the loss of the next training batch."""
    subject, chosen = moment.subject, _weight_names(moment.subject)
    every = [weight for names in chosen.values() for weight in names]
    if not every:
        return
    losses, found = gradients(subject.loss_on(*subject.next_batch()), subject.network.parameters, every)
    for site, names in chosen.items():
        for name, metric in metrics.items():
            yield MetricValues(name, site, metric(flat([found[weight] for weight in names], losses.ndim)))


def _weight_names(subject: Subject) -> dict[ProbeSite, list[str]]:
    """The weight of each chosen layer; where it is computed from others, the one that its direction comes from."""
    weights = subject.network.weights
    found = {ProbeSite(layer.name): [name for name in layer.parameters if name in weights] for layer in subject.chosen}
    return {site: names for site, names in found.items() if names}


READERS = {
    "pair": _pairs, "sample": _samples, "gradient": _gradients, "landscape": _landscape, "statistics": _statistics,
    "draws": _draws, "modes": _modes, "weight": _weights, "weight-gradient": _weight_gradients,
}  # fmt: skip
