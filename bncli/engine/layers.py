"""A network's layers in the order in which they run: their parameters, and where their distributions are seen."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bncli.models.transformer import SelfAttention, SwiGLU
from bncli.models.unit import ACTIVATIONS
from bncli.shift.sites import is_norm, is_over_last_axis

# the activations that a network is built with, by name
INPUT = " (input)"  # behind a module's name: what it takes, not what it gives
CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_TYPES = {type(make()): name for name, make in ACTIVATIONS.items()}


@dataclass(frozen=True)
class NetworkLayer:
    """A linear layer or convolution, and what directly takes its output: modules by name, "" where there is none."""

    name: str
    parameters: tuple[str, ...]  # its own and those of what follows, up to the next layer
    norm: str
    activation: str
    takes: str  # the module whose output the activation takes
    normalised: str  # the module whose output the norm takes
    function: str  # of `ACTIVATIONS`
    before: str = ""  # the norm whose output it takes, if that follows no layer: in front of a residual branch

    def site(self, place: str) -> str:
        """The module whose output is seen at a place, "layer", "norm" or "activation", or the last before it."""
        before = [self.name, *([self.norm] if place != "layer" else []), *([self.activation] * (place == "activation"))]
        return [name for name in before if name][-1]


@dataclass(frozen=True)
class _ModuleCall:
    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Any


def layers_of(model: nn.Module, x: Tensor) -> list[NetworkLayer]:
    """Layers in the order of their first call on the input x (N, features); buffers stay as they are."""
    calls: list[_ModuleCall] = []
    mode, kept = model.training, {name: buffer.clone() for name, buffer in model.named_buffers()}

    def note(name: str) -> Any:
        return lambda module, inputs, output: calls.append(_ModuleCall(name, module, inputs, output))

    hooks = [module.register_forward_hook(note(name)) for name, module in _atoms(model, "")]
    try:
        with torch.no_grad():
            model.eval()(x)
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    return list(_layers(model, calls))


def _layers(model: nn.Module, calls: list[_ModuleCall]) -> Iterator[NetworkLayer]:
    owned, behind = _owned(model, calls), set[str]()
    for i, call in enumerate(calls):
        if not _is_layer(call.module) or any(call.name == earlier.name for earlier in calls[:i]):
            continue
        norm, activation, takes, normalised, function, output = "", "", "", "", "", call.output
        for after in calls[i + 1 :]:
            if _is_layer(after.module) or not any(given is output for given in after.inputs):
                break
            if type(after.module) in _TYPES and not activation:
                activation, takes, function = after.name, norm or call.name, _TYPES[type(after.module)]
            elif _may_be_norm(after.module) and (not norm or type(model.get_submodule(norm)) is nn.Identity):
                norm, normalised = after.name, activation or call.name
            else:
                break
            output = after.output
        behind.add(norm)
        first = calls[i - 1] if i else call
        led = not _is_layer(first.module) and type(first.module) not in _TYPES and _may_be_norm(first.module)
        before = first.name if led and any(given is first.output for given in call.inputs) else ""
        yield NetworkLayer(
            call.name, tuple(owned.get(call.name, ())), norm, activation, takes, normalised, function,
            "" if before in behind else before,
        )  # fmt: skip


def _owned(model: nn.Module, calls: list[_ModuleCall]) -> Mapping[str, list[str]]:
    """Parameters by layer: what is called after a layer and before the next one belongs to it."""
    owner, current, found = dict[str, str](), "", dict[str, list[str]]()
    for call in calls:
        current = call.name if _is_layer(call.module) else current
        owner.setdefault(call.name, current)
    for name, _ in model.named_parameters():
        atom = max((atom for atom in owner if f"{name}.".startswith(f"{atom}.")), key=len, default="")
        found.setdefault(owner.get(atom, ""), []).append(name)
    return found


def _may_be_norm(module: nn.Module) -> bool:
    return not isinstance(module, nn.MaxPool2d | nn.AvgPool2d | SelfAttention | SwiGLU)


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.modules.conv._ConvNd)


def _atoms(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Layers, and modules that are neither chains nor hold layers: norms and activations."""
    holds = any(_is_layer(inner) for inner in module.modules())
    if _is_layer(module) or not (holds or isinstance(module, CHAINS)):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from _atoms(child, f"{name}.{child_name}".removeprefix("."))


@contextmanager
def outputs_of(model: nn.Module, names: set[str]) -> Iterator[dict[str, Tensor]]:
    """While it is open, what the modules called so give, or take, at their first call of a forward pass, by name.

    Each is (N, C, ...), as norms have it. Channels are the last axis behind a linear layer and at norms over that axis.
    """
    taken: dict[str, Tensor] = {}
    behind_linear = False

    def pass_layer(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal behind_linear
        behind_linear = isinstance(module, nn.Linear)

    def take(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found = inputs[0] if name.endswith(INPUT) else output
            last = is_over_last_axis(module, output) if is_norm(module) else behind_linear
            taken.setdefault(name, (found.movedim(-1, 1) if last else found).clone())

        return note

    hooks = [module.register_forward_hook(pass_layer) for module in model.modules() if _is_layer(module)]
    hooks += [model.get_submodule(name.removesuffix(INPUT)).register_forward_hook(take(name)) for name in names]
    try:
        yield taken
    finally:
        for hook in hooks:
            hook.remove()
