"""Probes of a job in training: when, of what, and what is taken down; training goes on as if nobody had looked."""

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch

import torch
from torch import Tensor

from bncli.config import Probes
from bncli.data.splits import Splits
from bncli.engine.batches import Batches
from bncli.engine.layers import NetworkLayer
from bncli.engine.moment import CHUNK, Activations, ProbeSite, Subject
from bncli.engine.network import Network
from bncli.engine.readings import MetricValues, Moment, read
from bncli.engine.trace import TrainingStep
from bncli.errors import ConfigError
from bncli.optim.optimizers import Hyper, State
from bncli.plan import Job, loss_of
from bncli.records import PERCENTILES, CurveKey, Record
from bncli.shift import METRICS
from bncli.shift.distribution import percentiles

NULL_EVERY = 4  # probes to one that has a null band: it is averaged over time, and costs as much as a drift


class Prober:
    """What a job's probes have seen last, and how the next one looks.

    A run without probes has one too, which is never due. Everything is read off copies: parameters, buffers, the
    optimiser's state, generators and the order of batches stay as they are, bit for bit.
    """

    def __init__(
        self,
        job: Job,
        network: Network,
        splits: Splits,
        batches: Batches,
        step: TrainingStep,
        state: State,
        hyper: Hyper,
    ) -> None:
        first = job.runs[0]
        self._how, self._lanes = first.probes, len(job.runs)
        self._names = self._how.metrics
        self._before: Activations = {}
        if self._names:
            layers = network.layers(splits.train.slice(0, 2)[0])
            chosen = _chosen(layers, self._how)
            self._subject = Subject(
                self._how, network, layers, chosen, splits, batches, step, state, hyper,
                loss_of(first), first.training.label_smoothing,
            )  # fmt: skip

    def every(self, steps: int) -> int:
        """Steps between probes; `steps`, all there are, where nothing is probed."""
        return self._how.every if self._names else steps

    def due(self, step: int) -> bool:
        """Whether a probe comes after so many steps.

        Before training running statistics know no data: there is no distribution of evaluation to look at.
        """
        known = step > 0 or self._how.mode == "train"
        return bool(self._names) and known and step % self._how.every == 0

    def look(self, step: int, lr: Tensor) -> list[list[Record]]:
        """Probe after `step` steps, and return what was found by lane; `lr` (*lanes,) is that of the next step."""
        subject, x = self._subject, self._subject.probe_set()
        training, batch = self._how.mode == "train", subject.batches.size
        examples = len(x) - len(x) % batch if training and len(x) > batch else len(x)
        sites = subject.sites(self._how.sites)
        now = subject.samples(sites, x[:examples], training=training, batch=batch if training else CHUNK)
        null = (step // self._how.every) % NULL_EVERY == 1
        moment = Moment(subject, step, lr, self._before, now, examples, null)
        found: list[list[Record]] = [[] for _ in range(self._lanes)]
        for key, unit, values in [*_bands(moment), *_summaries(read(self._names, moment))]:
            for lane, value in zip(found, values.reshape(-1).tolist(), strict=True):
                if math.isfinite(value):
                    lane.append(Record(key.metric, step, value, unit, *key[1:]))
        self._before = now
        return found

    def state(self) -> dict[tuple[str, str], Tensor]:
        """What the next probe compares with, in types that a checkpoint may hold."""
        return {(site.layer, site.place): sample for site, sample in self._before.items()}

    def restore(self, state: Mapping[tuple[str, str], Tensor], device: str) -> None:
        """Go on from what `state` gave."""
        self._before = {ProbeSite(*site): sample.to(device) for site, sample in state.items()}


def _chosen(layers: list[NetworkLayer], how: Probes) -> list[NetworkLayer]:
    """Layers whose distributions are looked at: those asked for, else all but the last, which gives the outputs."""
    if not how.layers:
        return layers[:-1] or layers
    names = [layer.name for layer in layers]
    found = {pattern: {name for name in names if _fits(name, pattern, names)} for pattern in how.layers}
    for pattern, fitting in found.items():
        if not fitting:
            raise ConfigError(f"probes.layers: no layer is called {pattern!r} (known: {', '.join(names)})")
    return [layer for layer in layers if any(layer.name in fitting for fitting in found.values())]


def _fits(name: str, pattern: str, names: list[str]) -> bool:
    """Whether the pattern is of this layer, by its name as it is or with one of its numbers counted from the end."""
    if fnmatch(name, pattern):
        return True
    parts, others = name.split("."), [other.split(".") for other in names]
    for i in (i for i, part in enumerate(parts) if part.isdecimal()):
        beside = [int(o[i]) for o in others if o[:i] == parts[:i] and len(o) > i and o[i].isdecimal()]
        from_end = int(parts[i]) - 1 - max(beside)
        if fnmatch(".".join([*parts[:i], str(from_end), *parts[i + 1 :]]), pattern):
            return True
    return False


Line = tuple[CurveKey, str, Tensor]  # what it is, its unit of measure, values (*lanes,)


def _bands(moment: Moment) -> Iterator[Line]:
    """The paper's percentiles at every site: their median over units, and those of the single units asked for."""
    if "percentiles" not in moment.subject.how.metrics:
        return
    for site, now in moment.now.items():
        for name, values in zip(PERCENTILES, percentiles(now).unbind(-2), strict=True):
            yield CurveKey(name, *site, "median"), "activation", values.median(-1).values
            for unit in range(min(moment.subject.how.units, values.shape[-1])):
                yield CurveKey(name, *site, index=unit), "activation", values[..., unit]


def _summaries(found: Iterator[MetricValues]) -> Iterator[Line]:
    """Mean over those units that have a finite value, median and 90th percentile over all; every null draw."""
    draws: dict[tuple[str, ProbeSite], list[Tensor]] = {}
    for each in found:
        row, values = METRICS[each.metric], each.values
        mean = _mean(values) if row.per == "unit" else values
        if each.null:
            draws.setdefault((each.metric, each.site), []).append(mean)
            continue
        yield CurveKey(each.metric, *each.site, "mean" if row.per == "unit" else ""), row.unit, mean
        if row.per == "unit":
            ranked = values.sort(-1).values
            for name, share in (("median", 0.5), ("p90", 0.9)):
                place = share * (ranked.shape[-1] - 1)
                yield CurveKey(each.metric, *each.site, name), row.unit, _between(ranked, place)
    for (metric, site), values_of_draws in draws.items():
        for index, value in enumerate(values_of_draws):
            alone = len(values_of_draws) == 1
            yield CurveKey(metric, *site, "null", None if alone else index), METRICS[metric].unit, value


def _mean(values: Tensor) -> Tensor:
    finite = values.isfinite()
    return torch.where(finite, values, 0).sum(-1) / finite.sum(-1)


def _between(ranked: Tensor, place: float) -> Tensor:
    low, high = ranked[..., math.floor(place)], ranked[..., math.ceil(place)]
    return torch.where(low == high, low, low + (high - low) * (place - math.floor(place)))
