"""Where a network is looked at: what its layers give, the norms and the activations behind them; by hooks alone.

The words are those of `probes:` in a preset and of the records: a site is a place behind a layer, `block3.conv1/norm`.
A layer has the same name in every variant of a network, whatever norm stands behind it, or none.

Shapes: N examples, C channels, P locations; what is taken at a site is (N P, C), one row for each location.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from bncli.shift import PLACES, ProbePlace

ModuleKind = Literal["norm", "activation", "layer"]
Recognises = Callable[[nn.Module], bool]

_NORMS = {"torch.nn.modules.batchnorm", "torch.nn.modules.instancenorm", "torch.nn.modules.normalization"}
_OF_WEIGHTS = {"bncli.norms.weight"}  # act on no activations, or are no norm
_ACTIVATIONS = {"torch.nn.modules.activation"}
_OF_MANY = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin)  # no function of one number
_ROWS = (nn.Linear, nn.Bilinear, nn.Embedding, nn.MultiheadAttention, nn.RNNBase)  # channels last
_MAPS = (nn.modules.conv._ConvNd,)  # channels second


@dataclass(frozen=True)
class Site:
    """One place in one forward pass."""

    layer: str  # path in `named_modules` of the layer that ran last; the first, where it has several; "" before any
    place: ProbePlace
    call: int = 1  # which of the layer's calls in this pass
    nth: int = 1  # which norm, or activation, behind that call
    module: str = field(default="", compare=False)  # path of the module that is looked at

    @property
    def name(self) -> str:
        """`fc/norm`; `fc#2/norm` behind its second call, `fc/norm#2` the second norm there, `input/norm` before any."""
        layer, nth = self.layer or "input", f"#{self.nth}" if self.nth > 1 else ""
        return f"{layer}{f'#{self.call}' if self.call > 1 else ''}/{self.place}{nth}"


def is_norm(module: nn.Module) -> bool:
    """Whether it is torch's or bncli's norm of activations, or derived from one."""
    homes = {kind.__module__ for kind in type(module).__mro__}
    own = {home for home in homes if home.startswith("bncli.norms.")}
    return bool(homes & _NORMS or own - _OF_WEIGHTS)


def is_activation(module: nn.Module) -> bool:
    """Whether it is one of torch's activations that act on each number by itself, or derived from one."""
    homes = {kind.__module__ for kind in type(module).__mro__}
    return bool(homes & _ACTIVATIONS) and not isinstance(module, _OF_MANY)


@contextmanager
def observed(
    model: nn.Module,
    sites: Collection[ProbePlace] = PLACES,
    *,
    norms: Recognises = is_norm,
    activations: Recognises = is_activation,
    locations: int = 0,
) -> Iterator[dict[Site, Tensor]]:
    """Collect what passes the sites of `model` while it runs within; no gradient flows back from there.

    Values are copies, so that what is later changed in place stays as it was. Where the model runs inside
    torch.func.vmap, enter this inside as well and return the collected values:

        def run(parameters, buffers, x):
            with observed(model) as found:
                functional_call(model, (parameters, buffers), (x,))
            return found

    Sites come in the order in which they are passed. A layer is linear, a convolution, an embedding, an attention or a
    recurrent one of torch; what follows belongs to the one that ran last, up to the next. What is no module (`F.relu`)
    is not seen, nor is what lies within a norm. Of several outputs the first tensor of numbers is taken. Channels are
    the second axis, or the last one behind a linear layer and at torch's layer norm over the last axis. The hooks are
    gone afterwards, also after an error.

    Args:
        model: any module.
        sites: which places behind each layer: "layer", what it gives; "norm", what a norm behind it gives, or without
            one what reaches the activation; "activation", what the activation gives.
        norms: says of a module whether it is a norm.
        activations: says of a module whether it is an activation.
        locations: how many locations of each example are kept, evenly spaced; 0 for all.
    """
    watch = _Watch(sites, locations)
    with ExitStack() as hooks:
        for path, module, kind in _watched(model, norms, activations):
            path = path.replace("_orig_mod.", "")  # a compiled module has the name that it had
            if kind == "activation":
                hooks.callback(module.register_forward_pre_hook(watch.before(path), with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(watch.after(path, kind)).remove)
        yield watch.found


def _watched(
    model: nn.Module, norms: Recognises, activations: Recognises
) -> Iterator[tuple[str, nn.Module, ModuleKind]]:
    """Each module that matters, once, under its first path."""
    within: list[str] = []  # paths of norms, and of what reshapes weights
    for path, module in model.named_modules():
        if any(path.startswith(f"{outer}." if outer else "") for outer in within):
            continue
        if isinstance(module, ParametrizationList):
            within.append(path)
        elif norms(module):
            within.append(path)
            yield path, module, "norm"
        elif activations(module):
            yield path, module, "activation"
        elif isinstance(module, _ROWS + _MAPS):
            yield path, module, "layer"


class _Watch:
    """What one pass has met so far."""

    def __init__(self, places: Collection[ProbePlace], locations: int) -> None:
        self.found: dict[Site, Tensor] = {}
        self._places, self._locations = places, locations
        self._seen: Counter[object] = Counter()
        self._layer, self._call = "", 1  # that ran last
        self._rows = False  # channels are its last axis
        self._stands_in: Site | None = None  # what reached the activation, as long as no norm follows

    def before(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not self._seen[self._layer, self._call, "norm"] and self._stands_in is None:
                self._stands_in = self._take(Site(self._layer, "norm", self._call, 1, path), (args, kwargs))

        return hook

    def after(self, path: str, kind: ModuleKind) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if kind == "layer":
                self._seen[path] += 1
                self._layer, self._call, self._stands_in = path, self._seen[path], None
                self._rows = isinstance(module, _ROWS)
            elif kind == "norm":
                self._rows = is_over_last_axis(module, output)
                if self._stands_in is not None:
                    del self.found[self._stands_in]
                    self._stands_in = None
            place = (self._layer, self._call, kind)
            self._seen[place] += 1
            self._take(Site(self._layer, kind, self._call, self._seen[place], path), output)

        return hook

    def _take(self, site: Site, given: object) -> Site | None:
        """Keep a copy of the first tensor of numbers in what is `given`, if the site is asked for and there is one."""
        x = next((x for x in tensors_in(given) if x.is_floating_point() and x.ndim), None)
        if x is None or site.place not in self._places:
            return None
        self.found[site] = _sample(x.detach(), self._rows, self._locations)
        return site


def tensors_in(value: object) -> Iterator[Tensor]:
    """Tensors in tuples, lists and mappings, however deep, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | Mapping):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(inner)


def is_over_last_axis(norm: nn.Module, output: object) -> bool:
    """Whether a norm's channels are the last axis; a derived layer norm may have moved them to the second."""
    if getattr(norm, "over", "") == "last" or getattr(getattr(norm, "layout", None), "axis", 1) == -1:
        return True  # bncli's own, in the place of such a layer norm
    if not isinstance(norm, nn.LayerNorm | nn.RMSNorm) or len(norm.normalized_shape) != 1:
        return False
    shape = next((x.shape for x in tensors_in(output)), ())
    return type(norm) in (nn.LayerNorm, nn.RMSNorm) or shape[1:2] != norm.normalized_shape


def _sample(x: Tensor, rows: bool, locations: int) -> Tensor:
    """Copy x, (N, C, ...) or with `rows` (N, ..., C), to (N P, C); a single axis is that of the examples."""
    x = x.unsqueeze(-1) if x.ndim == 1 else x
    if x.ndim == 2:
        return x.clone(memory_format=torch.contiguous_format)
    places = x.flatten(1, -2) if rows else x.flatten(2).transpose(1, 2)  # (N, P, C)
    if 0 < locations < places.shape[1]:
        places = places[:, torch.linspace(0, places.shape[1] - 1, locations).round().long()]
    return places.clone(memory_format=torch.contiguous_format).flatten(0, 1)
