"""Torch's global generators, and tensors, kept and put back."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def noise_kept(device: str) -> Iterator[None]:
    """Put the generators back as they were, so that what is drawn meanwhile shifts nothing in training."""
    states = noise(device)
    try:
        yield
    finally:
        put_noise(device, states)


def noise(device: str) -> list[Tensor]:
    """The states of the global generators that training on `device` draws from."""
    more = {"cuda": torch.cuda.get_rng_state, "mps": torch.mps.get_rng_state}
    return [torch.get_rng_state(), *(more[device]() for _ in range(device in more))]


def put_noise(device: str, states: list[Tensor]) -> None:
    """Put them back as `noise` gave them."""
    more = {"cuda": torch.cuda.set_rng_state, "mps": torch.mps.set_rng_state}
    torch.set_rng_state(states[0])
    if device in more:
        more[device](states[1])


@contextmanager
def tensors_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Put every tensor's numbers back as they were."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, old in kept:
                tensor.copy_(old)
