"""What a new norm takes over from the one it replaces: parameters, statistics, hooks; and what stands in its way."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bncli.errors import ConfigError

_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
_OWN = frozenset(vars(nn.Module()))  # attributes that every module has


def hand_over(old: Any, new: Any) -> tuple[list[str], list[str]]:
    """Put the old norm's parameters themselves and its running statistics into the new one; what was kept, what to say.

    An optimiser that has the parameters stays right. Nothing of the old norm is changed.
    """
    kept, notes = [], []
    for name in ("weight", "bias"):
        mine, theirs = new._parameters.get(name), getattr(old, name, None)
        if not isinstance(theirs, Tensor):
            continue
        if mine is not None and mine.shape == theirs.shape:
            if isinstance(theirs, nn.Parameter):
                new._parameters[name] = theirs
            else:  # a frozen norm's buffers
                mine.data.copy_(theirs)
                notes.append(f"{name} was frozen, and is learned now")
            kept.append(name)
        elif theirs.device.type != "meta" and bool((theirs != float(name == "weight")).any()):
            has = "has none" if mine is None else f"has shape {tuple(mine.shape)}, not {tuple(theirs.shape)}"
            notes.append(f"the old {name} is lost: the new norm {has}")
    learned = [p.requires_grad for p in old.parameters(False)]
    if learned and not any(learned):
        new.requires_grad_(False)
    running = {name for name, _ in new.named_buffers(recurse=False) if name.startswith("running_")}
    theirs = dict(old.named_buffers(recurse=False))
    if running and all(name in theirs and theirs[name].shape == getattr(new, name).shape for name in running):
        for name, mine in new.named_buffers(recurse=False):
            if name in theirs:
                mine.copy_(theirs[name])
        kept.append("running statistics")
    new.training = old.training
    return [*kept, *(["hooks"] if any(getattr(old, name, None) for name in _HOOKS) else [])], notes


def hand_hooks_over(old: nn.Module, new: nn.Module) -> None:
    """Give a module's hooks to another, in the very dicts that their handles know."""
    for name in _HOOKS:
        if theirs := getattr(old, name, None):
            theirs.update(getattr(new, name))
            new.__dict__[name] = theirs
            new._is_full_backward_hook = old._is_full_backward_hook


def check_frozen(old: nn.Module) -> None:
    """Refuse to normalise by running statistics that nothing updates where there are none worth having.

    Raises:
        ConfigError: if the old norm has none, or they are where they start.
    """
    mean, var = getattr(old, "running_mean", None), getattr(old, "running_var", None)
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        raise ConfigError("has no running statistics that a frozen norm could use")
    if mean.device.type != "meta" and not mean.any() and bool((var == 1).all()):
        raise ConfigError("has running statistics of an untrained model, by which a frozen norm normalises nothing")


def find_hidden(model: nn.Module) -> dict[nn.Module, str]:
    """Modules that a model also holds where no walk over modules finds them, and where."""
    found: dict[nn.Module, str] = {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if key in _OWN:
                continue
            inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            place = f"{path}.{key}".removeprefix(".")
            found |= {one: f"is held by {place} as well: use nn.ModuleList" for one in inner if _is_module(one)}
    return found


def _is_module(value: object) -> bool:
    return isinstance(value, nn.Module)


def leave_fused(model: nn.Module, swapped: Mapping[nn.Module, nn.Module]) -> list[str]:
    """Keep torch's encoder layers from their fused evaluation, which has layer norms of its own; what to say of it."""
    found = []
    for path, module in model.named_modules():
        if isinstance(module, nn.TransformerEncoderLayer) and {module.norm1, module.norm2} & swapped.keys():
            module.activation_relu_or_gelu = 0
            found.append(path or "the model itself")
    return [f"{', '.join(found)}: torch's fused evaluation, which calls no norm, is off"] if found else []


def device_of(old: nn.Module, model: nn.Module) -> Tensor:
    """A tensor of the device and type that a new norm's parameters are to have."""
    tensors = (*old.parameters(False), *old.buffers(False), *model.parameters())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
