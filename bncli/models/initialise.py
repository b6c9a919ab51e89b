"""Draws a network's weights so that one seed means the same weights in every variant."""

import hashlib
from typing import Any

import torch
from torch import nn


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

    Args:
        model: drawn in place.
        init: "he" (normal, std sqrt(2 / fan in)), "glorot" (uniform), or {"normal": std}.
        seed: of the run.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            continue
        draw = generator(seed, f"init/{name}")
        if init == "he":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=draw)
        elif init == "glorot":
            nn.init.xavier_uniform_(module.weight, generator=draw)
        else:
            nn.init.normal_(module.weight, std=init["normal"], generator=draw)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
