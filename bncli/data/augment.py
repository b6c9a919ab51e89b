"""Augmentation of batches of images, on the device: moved, mirrored, a square cut out; drawn example by example."""

from collections.abc import Sequence

import torch
from torch import Tensor

DRAWS = 5  # numbers in [0, 1) of an example: down, right, mirrored or not, and the centre of the square


def draw(examples: int, generator: torch.Generator) -> Tensor:
    """What is done to so many examples: (examples, DRAWS); one augmentation more changes no other's draws."""
    return torch.rand(examples, DRAWS, generator=generator, dtype=torch.float64)


def augment(x: Tensor, draws: Tensor, shape: Sequence[int], *, crop: int, flip: bool, cutout: int) -> Tensor:
    """Images moved by up to `crop` pixels each way, half of them mirrored by `flip`, a square of side `cutout` cut out.

    What comes in at the edge, and what is cut out, is 0 as the network sees it: black, or the mean where data are
    standardised. The square's centre lies anywhere in the image, so some of it may lie outside (DeVries & Taylor 2017,
    arXiv:1708.04552).

    Args:
        x: (*I, features), images of `shape` (C, H, W).
        draws: (*I, DRAWS), of `draw`.
        shape: of an example.
        crop: pixels.
        flip: left and right.
        cutout: pixels.

    Returns:
        (*I, features)
    """
    channels, height, width = shape
    given, chance = x.reshape(-1, channels, height * width), draws.reshape(-1, DRAWS).float().to(x.device)
    down, right = ((chance[:, i] * (2 * crop + 1)).long()[:, None] - crop for i in (0, 1))
    across = torch.arange(width, device=x.device).expand(len(given), -1)
    if flip:
        across = torch.where(chance[:, 2:3] < 0.5, width - 1 - across, across)
    rows, columns = torch.arange(height, device=x.device) + down, across + right
    kept = _within(rows, height)[:, :, None] & _within(columns, width)[:, None]
    if cutout:
        kept &= ~(_square(chance[:, 3:4], height, cutout)[:, :, None] & _square(chance[:, 4:5], width, cutout)[:, None])
    index = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None]
    moved = given.gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
    return torch.where(kept.flatten(1)[:, None], moved, 0).view(x.shape)


def _within(places: Tensor, length: int) -> Tensor:
    return (places >= 0) & (places < length)


def _square(chance: Tensor, length: int, side: int) -> Tensor:
    first = (chance * length).long() - side // 2
    return _within(torch.arange(length, device=chance.device) - first, side)
