"""Anybody's model, looked at with the same examples at two checkpoints: how far its distributions drifted in between.

    before = probe(model, x)
    ...  # train, or load another checkpoint
    for row in drift(before, probe(model, x)):
        print(row.site, row.metric, row.median, "within noise" if row.within_noise else "")

Shapes: N examples, C channels, P locations.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor, nn

from bncli.errors import ConfigError
from bncli.shift import METRICS
from bncli.shift.samples import null_band
from bncli.shift.sites import WHERE, Where, observed

LIGHT = tuple(name for name, row in METRICS.own.items() if row.kind == "pair" and row.tier == "light")
LOCATIONS = 16  # of each example: of an image more would be as good as the same numbers again


@dataclass(frozen=True)
class Probe:
    """What passed the sites of a model for one batch: (N P, C) by the site's name, in the order in which they were."""

    samples: Mapping[str, Tensor]
    examples: int  # N


@dataclass(frozen=True)
class Drift:
    """One metric at one site; over units, where it is a number of each unit, else three times the same."""

    site: str  # `features.1 after-norm`
    metric: str
    mean: float
    median: float
    p90: float  # these three are nan where a sample is not finite
    noise: float  # below this are 95 % of what two samples of one checkpoint make of the mean

    @property
    def within_noise(self) -> bool:
        """Whether sampling noise alone could have made it; never of what is not finite, as a diverged model's."""
        return self.mean <= self.noise


def probe(model: nn.Module, *inputs: Tensor, training: bool = False, where: Collection[Where] = WHERE) -> Probe:
    """What the sites of `model` give for one batch.

    The model is left as it was: parameters, buffers, the mode of every module, and torch's generators.

    Args:
        model: any module; nothing of it need be known, and no layer of it need be a particular one.
        inputs: what it is called with.
        training: with batch statistics, as in training; else as it is used.
        where: which sides of norms and activations.

    Raises:
        ConfigError: if the model has no norm and no activation that is a module.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = {x.device.index or 0 for x in inputs if x.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices), observed(model, where, locations=LOCATIONS) as found:
            model.train(training)(*inputs)
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    if not found:
        raise ConfigError("the model has no norm and no activation that is a module: functions (F.relu) are not seen")
    return Probe({site.name: sample for site, sample in found.items()}, len(inputs[0]))


def drift(before: Probe, after: Probe, metrics: Sequence[str] = LIGHT, *, seed: int = 0) -> list[Drift]:
    """How far each site drifted from one probe to a later one of the same examples, by every metric of a pair.

    Args:
        before: what `probe` gave.
        after: what it gave of another checkpoint; sites that only one of the two has are left out.
        metrics: names in `METRICS`, of kind "pair".
        seed: of the draws behind the noise.

    Raises:
        ConfigError: for an unknown metric, or one that is not of a pair.
    """
    for name in metrics:
        if METRICS[name].kind != "pair":
            raise ConfigError(f"metric {name!r} is of a {METRICS[name].kind}, not of a pair of samples")
    shared = [site for site in before.samples if site in after.samples]
    return [_drift(site, name, before, after, seed) for site in shared for name in metrics]


def _drift(site: str, name: str, before: Probe, after: Probe, seed: int) -> Drift:
    metric, sample = METRICS.load(name), before.samples[site]
    values = metric(sample, after.samples[site]).reshape(-1)
    if not (sample.isfinite().all() and after.samples[site].isfinite().all()):
        return Drift(site, name, nan, nan, nan, nan)  # units that stayed finite say nothing of a model that diverged
    block = len(sample) // before.examples if len(sample) % before.examples == 0 else 1
    band = null_band(lambda a, b: _mean(metric(a, b).reshape(-1)), sample, seed=seed, block=block)
    median, p90 = values.quantile(torch.tensor([0.5, 0.9], dtype=values.dtype, device=values.device)).tolist()
    return Drift(site, name, _mean(values).item(), median, p90, band.upper.item())


def _mean(values: Tensor) -> Tensor:
    """Over units that have a finite value: one that was constant before has no relative drift."""
    return values[values.isfinite()].mean()
