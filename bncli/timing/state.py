"""What a norm has of its truth's state: weights and biases, and the statistics that training moves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bncli.timing.build import Norm

# Of the change of a running statistic, what another momentum or a biased variance does not explain.
_STRAY = 0.1


@dataclass(frozen=True)
class Shared:
    """What a norm and its truths have in common: the truth's names by the norm's own."""

    parameters: Mapping[str, str]
    statistics: Mapping[str, str]


def share_state(norm: Norm, truths: Sequence[Norm]) -> Shared:
    """Give the truths what the norm has of their state.

    A norm may hold what it has inside another module ("norm.weight" is the truth's "weight"), call it otherwise (a
    "gamma" that begins as the weight does), or have statistics in attributes. Weights and biases are moved off one and
    zero first, where forgetting them would not show.
    """
    parameters, statistics = dict[str, str](), dict[str, str]()
    for truth in truths:
        for pairs, own, theirs in (
            (parameters, list_parameters(norm), list_parameters(truth)),
            (statistics, list_statistics(norm), list_statistics(truth)),
        ):
            if not pairs:
                pairs |= _pair(own, theirs)
                for number, (mine, name) in enumerate(pairs.items()):
                    if pairs is parameters and name.rpartition(".")[2] in ("weight", "bias"):
                        _move_off(own[mine], number)
            _lend(own, theirs, pairs)
    return Shared(parameters, statistics)


def lend_statistics(norm: Norm, truths: Sequence[Norm], state: Shared) -> None:
    """Give the truths what a norm's statistics are now."""
    for truth in truths:
        _lend(list_statistics(norm), list_statistics(truth), state.statistics)


def _lend(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], pairs: Mapping[str, str]) -> None:
    for mine, name in pairs.items():
        theirs[name].copy_(own[mine].reshape(theirs[name].shape))


def list_parameters(norm: Norm) -> dict[str, Tensor]:
    """The values of a norm's parameters, by name."""
    return {name: each.detach() for name, each in norm.named_parameters()} if isinstance(norm, nn.Module) else {}


def list_statistics(norm: Norm) -> dict[str, Tensor]:
    """Of a norm's state the real numbers."""
    return {name: each for name, each in list_state(norm).items() if each.is_floating_point()}


def list_state(norm: object) -> dict[str, Tensor]:
    """The values of a norm's buffers by name, and of the tensors that are attributes of its modules."""
    if not isinstance(norm, nn.Module):
        return {}
    found = dict(norm.named_buffers())
    for place, module in norm.named_modules():
        held = {name: each for name, each in vars(module).items() if type(each) is Tensor}
        found |= {f"{place}.{name}".lstrip("."): each for name, each in held.items()}
    return {name: each.detach() for name, each in found.items()}


def copy_statistics(norm: Norm, names: Mapping[str, str]) -> dict[str, Tensor]:
    """What a norm's statistics are now, in float64, by the truth's names."""
    own = list_statistics(norm)
    return {name: own[mine].double().flatten().clone() for mine, name in names.items() if mine in own}


def _pair(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, str]:
    """The truth's name of each that has one: the same name, or else as many values that are the same ones."""
    pairs = dict[str, str]()
    for name, value in theirs.items():
        left = [mine for mine in own if mine not in pairs and own[mine].numel() == value.numel()]
        called = [mine for mine in left if mine == name] or [mine for mine in left if mine.endswith(f".{name}")]
        strange = [mine for mine in left if mine not in theirs]
        alike = [mine for mine in strange if torch.equal(own[mine].flatten().to(value), value.flatten())]
        if len(called) <= 1 and (chosen := called or alike):
            pairs[chosen[0]] = name
    return pairs


def _move_off(value: Tensor, seed: int) -> None:
    chance = torch.Generator(value.device).manual_seed(seed)
    value.add_(torch.randn(value.shape, generator=chance, device=value.device), alpha=0.1)


def describe_statistics(
    truth: str, before: Mapping[str, Tensor], own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> list[str]:
    """What a training pass should have moved and has not, or not in the truth's direction; momentum is everybody's own.

    Args:
        truth: what the truth is called.
        before: the truth's statistics, each of so many values, before the pass: the norm's own, where it has them.
        own: the norm's after the pass.
        theirs: the truth's after the same pass.
    """
    faults = []
    for name, old in before.items():
        if torch.equal(theirs.get(name, old), old):
            continue
        if name not in own:
            faults.append(f"it keeps no {name}, as {truth} does")
        elif torch.equal(own[name], old):
            faults.append(f"its {name} does not move in training")
        elif not _follows(old, own[name], theirs[name]):
            faults.append(f"its {name} does not move in training as that of {truth} does")
    return faults


def _follows(old: Tensor, own: Tensor, theirs: Tensor) -> bool:
    """Whether it is a sum of what was there and of the truth's, that with a positive share."""
    basis = torch.stack([old, theirs], 1)
    shares = torch.linalg.pinv(basis) @ own
    stray = (own - basis @ shares).norm()
    return bool(shares[1] > 0 and stray <= _STRAY * (own - old).norm())
