"""Draws a network's weights so that one seed means the same weights in every variant."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own for each seed and purpose, so that one draw never shifts another."""
    return torch.Generator().manual_seed(seed_for(seed, purpose))


def seed_for(seed: int, purpose: str) -> int:
    """A seed of its own for each seed and purpose, for what draws from torch's global generators."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@torch.no_grad()
def initialise(model: nn.Module, init: Any, seed: int) -> None:
    """Draw every linear or convolutional weight from (seed, the module's name); set their biases to 0.

    A parametrized layer, whose weight is computed, is assigned the same draw: what it makes of it is its own affair.

    Args:
        model: drawn in place.
        init: "he" (normal, std sqrt(2 / fan in)), "glorot" (uniform), {"normal": std}, or a function that draws the
            whole model by torch's global generator, which is seeded for it and put back.
        seed: of the run.
    """
    if callable(init):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "init"))
            init(model)
        return
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            continue
        computed = is_parametrized(module, "weight")
        weight = torch.empty_like(module.weight) if computed else module.weight
        _draw(weight, init, generator(seed, f"init/{name}"))
        if computed:
            module.weight = weight
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _draw(weight: Tensor, init: Any, draw: torch.Generator) -> None:
    if init == "he":
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=draw)
    elif init == "glorot":
        nn.init.xavier_uniform_(weight, generator=draw)
    else:
        nn.init.normal_(weight, std=init["normal"], generator=draw)
