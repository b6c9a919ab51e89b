"""Which layers of torch, torchvision and timm are norms, told by their names: neither of the latter is imported."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from bncli.norms import NORMS


@dataclass(frozen=True)
class NormKind:
    """What a layer does, in the terms of bncli's own norms."""

    name: str  # of bncli's norm that does the same; "" if there is none
    axis: int = 1  # of its input that holds the channels: 1, or -1 for the last one
    each_location: bool = False  # it takes its statistics from each location by itself
    sizes: tuple[int, ...] = ()  # of the last axes, if it is those that it normalises
    refusal: str = ""  # why nothing can stand in its place
    stays: bool = False  # and that is as it should be


Adapter = Callable[[Any], tuple[int, int]]
"""From a layer of a class that bncli does not know to its channels and the axis that holds them, 1 or -1."""

_FORMULA = NormKind("", refusal="is norm and activation in one formula, and a norm would replace both")
_LAST, _SECOND = NormKind("layer", -1, True), NormKind("layer", 1, True)
_RMS_LAST, _RMS_SECOND = NormKind("rms", -1, True), NormKind("rms", 1, True)

# by the package and the name of a class; what is derived from one of them is none of them
_KINDS: Mapping[str, Mapping[str, NormKind]] = {
    "torch": {
        **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"), NormKind("batch")),
        **dict.fromkeys(("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"), NormKind("instance")),
        "GroupNorm": NormKind("group"),
        "LayerNorm": _LAST,
        "RMSNorm": _RMS_LAST,
        **dict.fromkeys(("LocalResponseNorm", "CrossMapLRN2d"), NormKind("")),
    },
    "torchvision": {"FrozenBatchNorm2d": NormKind("frozen"), "LayerNorm2d": _SECOND},
    "timm": {
        **dict.fromkeys(("BatchNormAct2d", "SyncBatchNormAct"), NormKind("batch")),
        "FrozenBatchNormAct2d": NormKind("frozen"),
        **dict.fromkeys(
            ("GroupNorm", "GroupNorm1", "GroupNorm1NoBias", "GroupNormAct", "GroupNorm1Act"), NormKind("group")
        ),
        **dict.fromkeys(("LayerNorm", "LayerNormFp32", "LayerNormNoBias", "LayerNormAct", "LayerNormActFp32"), _LAST),
        **dict.fromkeys(
            (
                "LayerNorm2d", "LayerNorm2dFp32", "LayerNorm2dNoBias", "LayerNormExp2d", "LayerNormAct2d",
                "LayerNormAct2dFp32",
            ),
            _SECOND,
        ),
        **dict.fromkeys(("RmsNorm", "RmsNormFp32", "RmsNormAct", "RmsNormActFp32"), _RMS_LAST),
        **dict.fromkeys(("RmsNorm2d", "RmsNorm2dFp32", "RmsNormAct2d", "RmsNormAct2dFp32"), _RMS_SECOND),
        **dict.fromkeys(("SimpleNorm", "SimpleNormFp32"), NormKind("", -1, True)),
        **dict.fromkeys(("SimpleNorm2d", "SimpleNorm2dFp32"), NormKind("", 1, True)),
        "FilterResponseNormAct2d": NormKind(""),
        **dict.fromkeys(("EvoNorm2dB0", "EvoNorm2dB1", "EvoNorm2dB2", "EvoNorm2dS0", "EvoNorm2dS0a"), _FORMULA),
        **dict.fromkeys(("EvoNorm2dS1", "EvoNorm2dS1a", "EvoNorm2dS2", "EvoNorm2dS2a"), _FORMULA),
        **dict.fromkeys(("FilterResponseNormTlu2d", "InplaceAbn"), _FORMULA),
        "GlobalResponseNorm": NormKind(
            "", refusal="adds what it computes to its input, and starts as the identity", stays=True
        ),
    },
}  # fmt: skip
_NAMED_NORM = re.compile(r"Norm(?![a-z])")  # LlamaRMSNorm, MyBatchNorm2d; not Normalize
_FOLLOWS = ("drop", "act")  # what a layer of timm applies to the norm's output


def kind_of(module: nn.Module, adapters: Mapping[type, Adapter]) -> NormKind | None:
    """What a module is, with the reason if nothing can replace it; None if it is no norm."""
    cls = type(module)
    if cls in adapters:
        return NormKind("", adapters[cls](module)[1])
    if cls.__module__.startswith("bncli.norms.") and hasattr(module, "channels"):
        return _own(module)
    if is_parametrized(module):
        cls = cls.__mro__[1]
    known = _KINDS.get(cls.__module__.partition(".")[0], {}).get(cls.__name__)
    if known is None:
        return _unknown(module)
    sizes = tuple(getattr(module, "normalized_shape", ())) if known.axis == -1 else ()
    return replace(_of_sizes(known, sizes), refusal=_refuse(module, known))


def name_of(module: nn.Module) -> str:
    """A class as a reader knows it: `BatchNorm2d` of torch, `timm.BatchNormAct2d`, `mine.Norm`, bncli's `batch`."""
    package, cls = type(module).__module__.partition(".")[0], type(module).__name__
    if package == "bncli":
        home = next(kind for kind in type(module).__mro__ if kind.__module__ != "bncli.norms.sites.layout")
        return own_name(home) or cls
    return cls if package == "torch" else f"{package}.{cls}"


def own_name(kind: type) -> str:
    """The name in the catalogue of one of bncli's norms; "" of anything else."""
    target = f"{kind.__module__}:{kind.__name__}"
    return next((name for name, row in NORMS.own.items() if row.target == target), "")


def channels_of(module: nn.Module, adapters: Mapping[type, Adapter]) -> int:
    """How many channels a norm has; 0 if only its input says."""
    if type(module) in adapters:
        return adapters[type(module)](module)[0]
    for name in ("channels", "num_features", "num_channels"):
        found = getattr(module, name, None)
        if isinstance(found, int | tuple):
            return found if isinstance(found, int) else int(found[0])
    if shape := getattr(module, "normalized_shape", ()):
        return int(shape[0])
    for tensor in (getattr(module, "weight", None), getattr(module, "running_mean", None)):
        if tensor is not None:
            return int(tensor.shape[0])
    return 0


def followers_of(module: nn.Module) -> dict[str, nn.Module]:
    """Dropout and activation that a layer applies to its norm's output, by their names in it."""
    children = dict(module.named_children())
    return {name: children[name] for name in _FOLLOWS if name in children}


def _own(module: Any) -> NormKind:
    name, layout = name_of(module), getattr(module, "layout", None)
    if layout:  # put into another's place before
        return NormKind(name, layout.axis, layout.each_location)
    if getattr(module, "over", "sample") == "last":
        sizes = module.channels if isinstance(module.channels, tuple) else (module.channels,)
        return _of_sizes(NormKind(name, -1, True), sizes)
    return NormKind(name, 1, getattr(module, "over", "sample") == "channels")


def _of_sizes(kind: NormKind, sizes: tuple[int, ...]) -> NormKind:
    """Over one axis, the last, it takes each location by itself; over several the whole example, channels first."""
    return replace(kind, sizes=sizes) if len(sizes) < 2 else NormKind(kind.name, 1, sizes=sizes)


def _refuse(module: Any, known: NormKind) -> str:
    if known is _FORMULA and getattr(module, "apply_act", True) is False:
        return _changed(module)
    if known.refusal:
        return known.refusal
    return _changed(module)


def _changed(module: nn.Module) -> str:
    if is_parametrized(module):
        return "has parametrized weights"
    if "forward" in vars(module):
        return "has a forward of its own"
    others = [name for name, _ in module.named_children() if name not in _FOLLOWS]
    return f"has layers of its own ({', '.join(others)})" if others else ""


def _unknown(module: nn.Module) -> NormKind | None:
    """A class that calls itself a norm, or is derived from one, and holds no layer that is none."""
    homes = {f"{kind.__module__}" for kind in type(module).__mro__}
    derived = homes & {"torch.nn.modules.batchnorm", "torch.nn.modules.instancenorm", "torch.nn.modules.normalization"}
    scripted = getattr(module, "original_name", "") if isinstance(module, nn.Module) else ""
    if isinstance(module, nn.Identity) or not (derived or _NAMED_NORM.search(scripted or type(module).__name__)):
        return None
    holds = any(
        isinstance(inner, nn.Linear | nn.modules.conv._ConvNd) or kind_of(inner, {})
        for inner in module.modules()
        if inner is not module
    )
    if holds and not derived:
        return None  # a block that is named after the norm in it
    if scripted:
        return NormKind("", refusal="is compiled by torch.jit; replace before that")
    if is_lazy_class(module):
        return NormKind("", refusal="does not know its channels yet; give inputs, or call the model once")
    return NormKind("", refusal="is of a class that bncli does not know; name its channels in adapters=")


def is_lazy_class(module: nn.Module) -> bool:
    """Whether it is one of torch's layers that learn their channels from their first input."""
    return isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params()
