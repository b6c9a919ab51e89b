"""Anybody's model, looked at with the same examples at two checkpoints: how far its distributions drifted in between.

    before = probe(model, x)
    ...  # train, or load another checkpoint
    for row in drift(before, probe(model, x)):
        print(row.site, row.metric, row.median, "within noise" if row.within_noise else "")

Shapes: N examples, C channels, P locations.
"""

import copy
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bncli.errors import ConfigError, expect, expect_texts, unknown
from bncli.shift import METRICS, PLACES, ProbePlace
from bncli.shift.samples import null_band
from bncli.shift.sites import observed, tensors_in

LIGHT = tuple(name for name, row in METRICS.own.items() if row.kind == "pair" and row.tier == "light")
LOCATIONS = 16  # of each example: of an image more would be as good as the same numbers again


@dataclass(frozen=True)
class Probe:
    """What passed the sites of a model for one batch: (N P, C) by the site's name, in the order in which they were."""

    samples: Mapping[str, Tensor]
    examples: int  # N
    modules: Mapping[str, str]  # by the same names, the path of the module whose values they are


@dataclass(frozen=True)
class Drift:
    """One metric at one site; over units, where it is a number of each unit, else three times the same."""

    site: str  # `layer3.0.conv1/norm`: the layer's name, and the place behind it
    metric: str
    mean: float
    median: float
    p90: float  # these three are nan where a sample is not finite
    noise: float  # below this are 95 % of what two samples of one checkpoint make of the mean

    @property
    def within_noise(self) -> bool:
        """Whether sampling noise alone could have made it; never of what is not finite, as a diverged model's."""
        return self.mean <= self.noise


def probe(
    model: nn.Module, *inputs: Any, sites: Collection[ProbePlace] = PLACES, training: bool = False, **keywords: Any
) -> Probe:
    """What the sites of `model` give for one batch.

    The model is left as it was, also where it raises: parameters, buffers and other tensors, attributes, the mode of
    every module, hooks, and the generators of torch, numpy and Python; so are the inputs, of which the model gets
    copies. A compiled model runs as it was written, since compiled code calls no hooks.

    Args:
        model: any module; nothing of it need be known, and no layer of it need be a particular one.
        inputs: what it is called with, and `keywords` too: tensors (N, ...), or dicts, lists and tuples of such.
        sites: which places behind each layer, as `sites` of a preset's `probes`: "layer", what the layer gives; "norm",
            what the norm behind it gives, or where there is none what reaches the activation; "activation", what that
            gives.
        training: with batch statistics, as in training; else as it is used.

    Raises:
        ConfigError: if it is no model or has no values yet; if there are fewer than two examples; for an unknown site;
            if the model ran and none of the sites was met.
    """
    examples = _checked(model, (inputs, keywords), sites, training)
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    given, named = _copied(inputs), _copied(keywords)
    with (
        _left_as_it_was(model, [*tensors_in((inputs, keywords))]),
        observed(model, sites, locations=LOCATIONS) as found,
    ):
        model.train(training)
        with torch.no_grad():
            model(*given, **named)
    if not found:
        missed = "" if set(sites) == set(PLACES) else f" that has a place {' or '.join(map(repr, sites))}"
        raise ConfigError(
            f"the model has no layer, no norm and no activation that is a module of torch or bncli{missed}: "
            "functions (F.relu) are not seen"
        )
    samples = {site.name: sample for site, sample in found.items()}
    return Probe(samples, examples, {site.name: site.module for site in found})


def _checked(model: nn.Module, inputs: object, sites: Collection[str], training: bool) -> int:
    """The number of examples, after all that a caller can get wrong was refused."""
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: expected a torch.nn.Module, got {_kind(model)}")
    expect_texts(sites=[*sites] if isinstance(sites, set | frozenset) else sites)
    for site in sites:
        if site not in PLACES:
            raise ConfigError(f"sites: {unknown('site', site, PLACES, in_order=True)}")
    if not sites:
        raise ConfigError(f"sites: expected at least one of {', '.join(PLACES)}, got none")
    expect("training", training, isinstance(training, bool), "True or False")
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if lazy := [name for name, tensor in held.items() if is_lazy(tensor)]:
        raise ConfigError(f"model: {lazy[0]} has no shape yet, as its layer is lazy; call the model once first")
    if none := [name for name, tensor in held.items() if tensor.is_meta]:
        raise ConfigError(f"model: {none[0]} is on the meta device and has no values; load its weights first")
    counts = [len(x) for x in tensors_in(inputs) if x.ndim]
    if not counts:
        raise ConfigError("inputs: expected what the model is called with, a tensor (N, ...) among it; there is none")
    if counts[0] < 2:
        raise ConfigError(f"inputs: expected at least 2 examples, as fewer have no distribution; got {counts[0]}")
    return counts[0]


def _kind(value: object) -> str:
    return f"the class {value.__name__} itself" if isinstance(value, type) else f"a {type(value).__name__}"


def _copied(value: Any) -> Any:
    """Inputs that may be written over; what cannot be copied is passed on as it is."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if type(value) in (tuple, list):
        return type(value)(map(_copied, value))
    if type(value) is dict:
        return {key: _copied(inner) for key, inner in value.items()}
    with suppress(Exception):
        return copy.deepcopy(value)
    return value


@contextmanager
def _left_as_it_was(model: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Put back what a model's pass may change: its modules' attributes, tensors and modes, and generators."""
    attributes = [(vars(module), dict(vars(module))) for module in model.modules()]
    parts = {id(part): part for _, kept in attributes for part in _parts(kept)}.values()
    strided = [part for part in parts if isinstance(part, Tensor) and part.layout == torch.strided]
    tensors = [(part, part.detach().clone()) for part in strided]
    containers = [(part, part.copy()) for part in parts if isinstance(part, dict | list | set)]
    generators = [(part, part.get_state()) for part in parts if isinstance(part, torch.Generator)]
    devices = {part.get_device() for part in strided if part.is_cuda}
    devices |= {x.get_device() for x in inputs if x.is_cuda}
    others = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(sorted(devices)):
            yield
    finally:
        random.setstate(others[0])
        np.random.set_state(others[1])
        for generator, state in generators:
            generator.set_state(state)
        for container, content in [*containers, *attributes]:
            _refill(container, content)
        with torch.no_grad():
            for tensor, values in tensors:
                if tensor.shape != values.shape:
                    tensor.data = values
                elif not torch.equal(tensor, values):  # else a backward pass under way would miss its own version
                    tensor.copy_(values)


def _parts(attributes: Mapping[str, Any]) -> Iterator[object]:
    """What a module holds in its attributes, and in its dicts of parameters and buffers."""
    for value in attributes.values():
        yield value
        if isinstance(value, dict | list | set):
            yield from value.values() if isinstance(value, dict) else value


def _uncompile(model: nn.Module) -> None:
    """Have all of a model run as it was written, until its attributes are put back."""
    for module in model.modules():
        vars(module).pop("_compiled_call_impl", None)
        if hasattr(module, "_orig_mod"):
            vars(module)["forward"] = module._orig_mod


def _refill(container: Any, content: Any) -> None:
    """Put a content back into a dict, list or set that others may hold too."""
    container.clear()
    container.extend(content) if isinstance(container, list) else container.update(content)


def drift(before: Probe, after: Probe, metrics: Sequence[str] = LIGHT, *, seed: int = 0) -> list[Drift]:
    """How far each site drifted from one probe to a later one of the same examples, by every metric of a pair.

    Args:
        before: what `probe` gave.
        after: what it gave of another checkpoint; sites that only one of the two has are left out.
        metrics: names in `METRICS`, of kind "pair".
        seed: of the draws behind the noise.

    Raises:
        ConfigError: for what is no probe, probes that share no site or are not of the same examples, an unknown metric,
            or one that is not of a pair.
    """
    for name, given in (("before", before), ("after", after)):
        if not isinstance(given, Probe):
            raise ConfigError(f"{name}: expected what probe() gave, got {_kind(given)}")
    expect_texts(metrics=metrics)
    expect("seed", seed, type(seed) is int, "a whole number")
    for name in metrics:
        if METRICS[name].kind != "pair":
            raise ConfigError(f"metric {name!r} is of a {METRICS[name].kind}, not of a pair of samples")
    if before.examples != after.examples:
        raise ConfigError(
            f"before is of {before.examples} examples and after of {after.examples}: probe both times the same ones"
        )
    shared = [site for site in before.samples if site in after.samples]
    if not shared:
        names = [", ".join([*probe.samples][:3]) + ", ..." * (len(probe.samples) > 3) for probe in (before, after)]
        raise ConfigError(
            f"the two probes share no site: before has {names[0]} and after has {names[1]}; "
            "probe models whose layers have the same names, with the same `sites`"
        )
    for site in shared:
        shapes = [tuple(probe.samples[site].shape) for probe in (before, after)]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"site {site}: before is of shape {shapes[0]} (values, channels) and after of {shapes[1]}; "
                "a drift is of the same channels and the same examples"
            )
    return [_drift(site, name, before, after, seed) for site in shared for name in metrics]


def _drift(site: str, name: str, before: Probe, after: Probe, seed: int) -> Drift:
    metric, sample = METRICS.load(name), before.samples[site]
    later = after.samples[site].to(sample.device)
    if not (sample.isfinite().all() and later.isfinite().all()):
        return Drift(site, name, nan, nan, nan, nan)  # units that stayed finite say nothing of a model that diverged
    dtype = torch.promote_types(sample.dtype, later.dtype)
    sample, later = sample.to(dtype), later.to(dtype)
    values = metric(sample, later).reshape(-1)
    block = len(sample) // before.examples if len(sample) % before.examples == 0 else 1
    band = null_band(lambda a, b: _mean(metric(a, b).reshape(-1)), sample, seed=seed, block=block)
    median, p90 = values.quantile(torch.tensor([0.5, 0.9], dtype=values.dtype, device=values.device)).tolist()
    return Drift(site, name, _mean(values).item(), median, p90, band.upper.item())


def _mean(values: Tensor) -> Tensor:
    """Over units that have a finite value: one that was constant before has no relative drift."""
    return values[values.isfinite()].mean()
