"""Anybody's model with other norms: every norm layer that is found is replaced, and what was done is said.

    model, report = replace_norms(model, "group", groups=8)
    print(report)

What stands at a place is looked at first (bncli/norms/sites), everything is planned, and only then is anything changed:
an error leaves the model as it was.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from bncli.errors import ConfigError, first_line
from bncli.norms import NORMS, norm
from bncli.norms.rows import NormRow
from bncli.norms.sites import Census, NormCall, NormChoice, NormSite, ReplacedNorm, Replacement, list_refusals
from bncli.norms.sites.census import settle, take_census
from bncli.norms.sites.handover import check_frozen, device_of, find_hidden, hand_hooks_over, hand_over, leave_fused
from bncli.norms.sites.known import Adapter, followers_of
from bncli.norms.sites.layout import NormLayout, adapt
from bncli.norms.sites.options import options_at

NewNorm = str | Callable[[int], nn.Module]
_DISTRIBUTED = {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}  # the last of fully_shard


def replace_norms(
    model: nn.Module,
    to: NewNorm,
    *,
    inputs: Any = None,
    where: NormChoice | None = None,
    inplace: bool = False,
    strict: bool = True,
    adapters: Mapping[type, Adapter] | None = None,
    **options: Any,
) -> tuple[nn.Module, Replacement]:
    """Replace the norms of any model by another norm.

    Layers of torch, torchvision, timm and bncli are known. Kept are names in the `state_dict`, the parameters
    themselves (an optimiser that has them stays right), eps, hooks, device, dtype, mode, `requires_grad`, and an
    activation that is one layer with its norm. What was normalised over the last axis is so again. A linear layer or
    convolution right before a norm gets a bias if the new norm has no shift and cancels none, and loses its own if the
    new norm cancels it and the old one did not. Torch's generators are left as they were.

    Args:
        model: any module.
        to: name of a norm in the catalogue, or a function from the number of channels to a module of (N, C, ...).
        inputs: what the model is called with: a tensor, a tuple of arguments or a dict of keyword arguments; the
            smallest batch that it will be given. Norms that cannot take their place's shape are then found now.
            Without it a batch is guessed, to see which layer stands before which norm. It gives layers that are
            lazy still their sizes, as a first call does.
        where: which norms: a pattern on their paths ("layer4.*"), or a function of path and module.
        inplace: change `model` itself; else a copy.
        strict: refuse a model of which a norm cannot be replaced; else leave that norm, and say so.
        adapters: for classes that bncli does not know: from a layer to its channels and their axis (1 or -1).
        options: of the norm. Groups that do not fit become the largest number that does; `channels_per_group` may be
            said instead of `groups`.

    Returns:
        The model (a new one, even with `inplace`, where the model itself is a norm), and what was done.

    Raises:
        ConfigError: for an unknown norm or option, a model without norms, and every norm that cannot be replaced.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: expected a torch module, got {type(model).__name__}")
    if not (where is None or isinstance(where, str) or callable(where)):
        raise ConfigError(f"where: expected a pattern or a function of path and module, got {type(where).__name__}")
    _check_target(to, options)
    kinds = {kind.__name__ for part in model.modules() for kind in type(part).__mro__} & _DISTRIBUTED
    if wrapper := next(iter(kinds), "OptimizedModule" if type(model).__name__ == "OptimizedModule" else ""):
        raise ConfigError(f"the model is wrapped in {wrapper} already; replace its norms before")
    settle(model, inputs)
    if inplace and inputs is not None:  # what fails then fails on a copy
        replace_norms(model, to, inputs=inputs, where=where, strict=strict, adapters=adapters, **options)
    model = model if inplace else copy.deepcopy(model)
    census = take_census(model, inputs, adapters=adapters)
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices):
        rows, steps = _plan(model, census, to, where, options)
        _refuse(rows, census, strict)
        before = set(model.state_dict())
        changed, report = _carry_out(model, census, to, rows, steps)
    after = set(changed.state_dict())
    if inputs is not None and not inplace:
        _try(changed, inputs, report)
    return changed, replace(report, added=tuple(sorted(after - before)), removed=tuple(sorted(before - after)))


@dataclass(frozen=True)
class NormFactory:
    """A norm as a function of the number of channels; it prints, compares and pickles."""

    name: str
    axis: int
    options: Mapping[str, Any]

    def __call__(self, channels: int, *, device: Any = None, dtype: Any = None, **options: Any) -> nn.Module:
        """The norm of so many channels; options given here (`eps`) win over those of the factory."""
        site = NormSite("", (), "", "", channels, self.axis, each_location=False)
        found, _ = options_at(self.name, {**self.options, **options}, site, None, None)
        made = norm(self.name, channels, device=device, dtype=dtype, **found)
        return adapt(made, _lay_out(NORMS[self.name], found, site, None), {})


def factory(name: str, *, axis: int = 1, **options: Any) -> NormFactory:
    """A norm as a function of the number of channels, as `norm_layer=` of torchvision's models wants one.

    Groups that do not divide some layer's channels become the largest number that does.

    Args:
        name: of a norm in the catalogue.
        axis: of the input that holds the channels: 1, or -1 for the last one (Swin, ViT).
        options: of the norm; `channels_per_group` may be said instead of `groups`.

    Raises:
        ConfigError: for an unknown name or option, or a norm that acts on no activations.
    """
    _check_target(name, options)
    if axis not in (1, -1):
        raise ConfigError(f"factory({name!r}): axis must be 1 or -1, got {axis!r}")
    if NORMS[name].side != "activation":
        raise ConfigError(f"norm {name!r} acts on the weights of layers; use bncli.replace_norms(model, {name!r})")
    return NormFactory(name, axis, options)


@dataclass(frozen=True)
class _Swap:
    """What is to be done at one place."""

    row: ReplacedNorm
    site: NormSite
    old: nn.Module
    new: nn.Module
    layers: tuple[str, ...]  # that feed it, and nothing else


def _name(to: NewNorm) -> str:
    return to if isinstance(to, str) else getattr(to, "__name__", str(to))


def _row(to: NewNorm) -> NormRow | None:
    return NORMS[to] if isinstance(to, str) else None


def _check_target(to: NewNorm, options: Mapping[str, Any]) -> None:
    """Refuse an unknown norm or option, or one that cannot stand in a norm's place."""
    if not isinstance(to, str):
        if not callable(to):
            raise ConfigError(f"to: expected a norm's name or a function of the channels, got {type(to).__name__}")
        if options:
            raise ConfigError(f"options ({', '.join(options)}) are for a norm by name; bind them in the function given")
        return
    given = dict(options)
    if "groups" in NORMS[to].options and "channels_per_group" in given:
        per_group = given.pop("channels_per_group")
        if "groups" in given:
            raise ConfigError("groups and channels_per_group say the same; give one of them")
        if not isinstance(per_group, int) or per_group < 1:
            raise ConfigError(f"channels_per_group: must be a whole number >= 1, got {per_group!r}")
    NORMS.options(to, given)
    if NORMS[to].side == "network":
        raise ConfigError(f"norm {to!r} changes whole residual networks of bncli; it cannot stand in a norm's place")


def _plan(
    model: nn.Module, census: Census, to: NewNorm, where: NormChoice | None, options: Mapping[str, Any]
) -> tuple[list[ReplacedNorm], list[_Swap]]:
    """A row for each norm, and a step for each that can be replaced."""
    rows: list[ReplacedNorm] = []
    steps, hidden = [], find_hidden(model)
    for site in census.sites:
        old, call = model.get_submodule(site.path), census.calls.get(site.path)
        row = ReplacedNorm(site.path, site.also, site.type, channels=site.channels)
        reason = site.refusal or hidden.get(old, "")
        if not site.channels and call:
            site = replace(site, channels=call.shape[site.axis])
        if not site.matches(where, old):
            rows.append(replace(row, reason="not chosen"))
        elif reason or not site.channels:
            reason = reason or "does not say how many channels it has; give inputs"
            rows.append(replace(row, reason=reason, refused=not site.stays))
        else:
            try:
                steps.append(_make(model, site, old, call, census, to, options))
                rows.append(steps[-1].row)
            except ConfigError as error:
                rows.append(replace(row, reason=str(error), refused=True))
    return rows, steps


def _make(
    model: nn.Module,
    site: NormSite,
    old: Any,
    call: NormCall | None,
    census: Census,
    to: NewNorm,
    options: Mapping[str, Any],
) -> _Swap:
    """The new norm of one place, with what it takes over from the old one.

    Raises:
        ConfigError: if none can stand there; to follow the old one's name.
    """
    row, like, layers = _row(to), device_of(old, model), call.layers if call else ()
    found: dict[str, Any] = {}
    notes: list[str] = []
    if not isinstance(to, str):
        new = _call_factory(to, site.channels).to(like.device, like.dtype)
    elif NORMS[to].side == "weight":
        found = NORMS.options(to, options)
        _check_layers(model, call, census, to, found)
        new = norm("none", site.channels)
    else:
        if to == "frozen":
            check_frozen(old)
        seen = call if call and (not census.guessed or len(call.shape) == 2) else None  # a guess may be too small
        found, notes = options_at(to, options, site, old, seen)
        several = len(site.sizes) > 1 and found.get("over") == "last"
        new = norm(to, site.sizes if several else site.channels, device=like.device, dtype=like.dtype, **found)
    kept, lost = hand_over(old, new)
    followers, layout = followers_of(old), _lay_out(row, found, site, call)
    if to == "none" or (row and row.side == "weight"):
        changed = call is None or call.changed or bool(followers)
        layout = replace(layout, copies=changed and (call is None or call.shared or call.viewed))
    elif row and row.family == "sample" and site.each_location and found.get("over", "sample") == "sample":
        notes.append("averages over the locations of an example, where the old norm took each by itself")
    done = ReplacedNorm(
        site.path, site.also, site.type, _name(to), site.channels, found, (*kept, *followers), (*notes, *lost)
    )
    return _Swap(done, site, old, adapt(new, layout, followers), () if call and call.shared else layers)


def _call_factory(make: Callable[[int], nn.Module], channels: int) -> nn.Module:
    """What a stranger's function gives.

    Raises:
        ConfigError: if it raises, or gives no module.
    """
    try:
        made = make(channels)
    except Exception as error:  # anybody's code
        raise ConfigError(f"cannot be replaced: {_name(make)}({channels}) raised {first_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"cannot be replaced: {_name(make)}({channels}) gave a {type(made).__name__}, not a module")
    return made


def _lay_out(row: NormRow | None, options: Mapping[str, Any], site: NormSite, call: NormCall | None) -> NormLayout:
    """How a place gives its input to the new norm."""
    if options.get("over", "sample") != "sample":
        return NormLayout()
    place = NormLayout(site.axis, site.each_location)
    if row and row.over in ("", "examples and locations"):
        return replace(place, flat=site.axis == -1)  # the same numbers, and nothing is moved
    return replace(place, examples=call.examples if call else 0)


def _check_layers(model: nn.Module, call: NormCall | None, census: Census, to: str, options: Mapping[str, Any]) -> None:
    """Refuse a norm of weights where no layer is known whose weights it could normalise."""
    layers = call.layers if call else ()
    if call is None and census.problem:
        raise ConfigError(f"stands where no forward pass came ({census.problem}); give inputs")
    if not layers:
        raise ConfigError("has no linear layer or convolution right before it, whose weights could be normalised")
    for path in layers:
        if is_parametrized(model.get_submodule(path)):
            raise ConfigError(f"has a layer before it, {path}, whose weights are parametrized already")
        NORMS.load(to)(copy.deepcopy(model.get_submodule(path)), **options)  # refuses what it cannot act on


def _refuse(rows: Sequence[ReplacedNorm], census: Census, strict: bool) -> None:
    """Raise what stands against a replacement, all at once."""
    if not rows:
        functional = f" that is a module; out of reach: {', '.join(census.functional)}" if census.functional else ""
        raise ConfigError(f"the model has no norm{functional}")
    refused = list_refusals(rows)
    if strict and refused:
        raise ConfigError(*refused, "to leave what cannot be replaced as it is: strict=False, or where=")
    if all(row.reason == "not chosen" for row in rows):
        paths = ", ".join(row.path for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
        raise ConfigError(f"where: chooses none of the {len(rows)} norms ({paths})")


def _carry_out(
    model: nn.Module, census: Census, to: NewNorm, rows: Sequence[ReplacedNorm], steps: Sequence[_Swap]
) -> tuple[nn.Module, Replacement]:
    """Put the new norms in, under every path of the old ones."""
    row, added, dropped = _row(to), list[str](), list[str]()
    swapped = {step.old: step.new for step in steps}
    notes = leave_fused(model, swapped)
    for step in steps:
        gains, loses = _compare_shifts(step, row) if row else (False, False)
        for path in step.layers:
            layer: Any = model.get_submodule(path)
            if gains and layer.bias is None:
                size = getattr(layer, "out_features", getattr(layer, "out_channels", 0))
                layer.bias = nn.Parameter(layer.weight.new_zeros(size), requires_grad=layer.weight.requires_grad)
                added.append(path)
            elif loses and layer.bias is not None:
                layer.bias = None
                dropped.append(path)
        for path in step.layers if row and row.side == "weight" else ():
            if not is_parametrized(model.get_submodule(path)):
                NORMS.load(_name(to))(model.get_submodule(path), **step.row.options)
        hand_hooks_over(step.old, step.new)
    for module in [*model.modules()]:
        for key, child in module._modules.items():
            if child in swapped:
                module._modules[key] = swapped[child]
    unseen = [step.row.path for step in steps if step.row.path not in census.calls]
    if unseen and census.problem:
        notes.append(
            f"no forward pass came to {', '.join(unseen)} ({census.problem}): no bias was looked at; give inputs"
        )
    if model in swapped:
        notes.append("the model itself is a norm: what is returned is another module")
    report = Replacement(_name(to), tuple(rows), census.functional, tuple(added), tuple(dropped), notes=tuple(notes))
    return swapped.get(model, model), report


def _compare_shifts(step: _Swap, row: NormRow) -> tuple[bool, bool]:
    """Whether the layers before need a bias that they did not need, and have no use for one that they had."""
    cancelled = step.site.kind in NORMS and NORMS[step.site.kind].absorbs_bias
    had = isinstance(getattr(step.old, "bias", None), Tensor)
    has = row.side == "activation" and step.new._parameters.get("bias") is not None
    return (had or cancelled) and not has and not row.absorbs_bias, row.absorbs_bias and not cancelled


def _try(model: nn.Module, inputs: Any, report: Replacement) -> None:
    """Run the changed model once.

    Raises:
        ConfigError: if it fails.
    """
    try:
        take_census(model, inputs)
    except ConfigError as error:
        cause = first_line(error.__cause__) if isinstance(error.__cause__, Exception) else str(error)
        raise ConfigError(f"with {report.to} in place of its norms the model does not run: {cause}") from error
