"""Where a network is looked at: before each norm, behind it, behind each activation; by hooks, the model left as it is.

Shapes: N examples, C channels, P locations; what is taken at a site is (N P, C), one row for each location.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

Where = Literal["before-norm", "after-norm", "before-activation", "after-activation"]
ModuleKind = Literal["norm", "activation", "layer"]
Recognises = Callable[[nn.Module], bool]

WHERE: tuple[Where, ...] = ("before-norm", "after-norm", "after-activation")
_WHERE: dict[tuple[str, ModuleKind], Where] = {
    ("before", "norm"): "before-norm",
    ("after", "norm"): "after-norm",
    ("before", "activation"): "before-activation",
    ("after", "activation"): "after-activation",
}
_NORMS = {"torch.nn.modules.batchnorm", "torch.nn.modules.instancenorm", "torch.nn.modules.normalization"}
_OF_WEIGHTS = {"bncli.norms.weight"}  # act on no activations, or are no norm
_ACTIVATIONS = {"torch.nn.modules.activation"}
_OF_MANY = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin)  # no function of one number
_ROWS = (nn.Linear, nn.Bilinear, nn.Embedding)  # channels last
_MAPS = (nn.modules.conv._ConvNd,)  # channels second


@dataclass(frozen=True)
class Site:
    """One place in one forward pass."""

    module: str  # path in `named_modules` of the norm or activation; the first, where it has several
    where: Where
    call: int = 1  # which of the module's calls in this pass
    layer: str = ""  # path of the linear or convolutional layer that ran last: the same, whatever norm follows it

    @property
    def name(self) -> str:
        """`features.1 after-norm`, `relu#2 after-activation` for the second call of a module."""
        return f"{self.module or 'model'}{f'#{self.call}' if self.call > 1 else ''} {self.where}"


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
    where: Collection[Where] = WHERE,
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

    Sites come in the order in which they are passed. What is no module (`F.relu`) is not seen, nor is what lies within
    a norm. Of several inputs the first tensor is taken. Channels are the second axis, or the last one behind a linear
    layer and at torch's layer norm over the last axis. The hooks are gone afterwards, also after an error.

    Args:
        model: any module.
        where: which sides of norms and activations.
        norms: says of a module whether it is a norm.
        activations: says of a module whether it is an activation.
        locations: how many locations of each example are kept, evenly spaced; 0 for all.
    """
    watch = _Watch(where, locations)
    with ExitStack() as hooks:
        for path, module, kind in _watched(model, norms, activations):
            before = watch.before(path, kind)
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            if kind != "layer":
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

    def __init__(self, where: Collection[Where], locations: int) -> None:
        self.found: dict[Site, Tensor] = {}
        self._where, self._locations = where, locations
        self._calls: Counter[str] = Counter()
        self._layer = ""  # that ran last
        self._rows = False  # channels are its last axis

    def before(self, path: str, kind: ModuleKind) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._calls[path] += 1
            if kind == "layer":
                self._layer, self._rows = path, isinstance(module, _ROWS)
            else:
                self._take(path, module, kind, "before", (*args, *kwargs.values()))

        return hook

    def after(self, path: str, kind: ModuleKind) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._take(path, module, kind, "after", output if isinstance(output, tuple | list) else (output,))

        return hook

    def _take(self, path: str, module: nn.Module, kind: ModuleKind, side: str, values: Iterable[Any]) -> None:
        site = Site(path, _WHERE[side, kind], self._calls[path], self._layer)
        x = next((v for v in values if isinstance(v, Tensor) and v.is_floating_point() and v.ndim), None)
        if x is None:
            return
        if kind == "norm":
            self._rows = _over_last_axis(module, x)
        if site.where in self._where:
            self.found[site] = _sample(x.detach(), self._rows, self._locations)


def _over_last_axis(norm: nn.Module, x: Tensor) -> bool:
    """Whether a norm's channels are the last axis; a derived layer norm may have moved them to the second."""
    if getattr(norm, "over", "") == "last" or getattr(getattr(norm, "layout", None), "axis", 1) == -1:
        return True  # bncli's own, in the place of such a layer norm
    if not isinstance(norm, nn.LayerNorm | nn.RMSNorm) or len(norm.normalized_shape) != 1:
        return False
    return type(norm) in (nn.LayerNorm, nn.RMSNorm) or x.shape[1:2] != norm.normalized_shape


def _sample(x: Tensor, rows: bool, locations: int) -> Tensor:
    """Copy x, (N, C, ...) or with `rows` (N, ..., C), to (N P, C); a single axis is that of the examples."""
    x = x.unsqueeze(-1) if x.ndim == 1 else x
    if x.ndim == 2:
        return x.clone(memory_format=torch.contiguous_format)
    places = x.flatten(1, -2) if rows else x.flatten(2).transpose(1, 2)  # (N, P, C)
    if 0 < locations < places.shape[1]:
        places = places[:, torch.linspace(0, places.shape[1] - 1, locations).round().long()]
    return places.clone(memory_format=torch.contiguous_format).flatten(0, 1)
