"""The toy of Ioffe & Szegedy 2015, section 2: inputs u ~ N(0, 1), every target 1."""

import torch

from bncli.data.splits import Split, Splits

EXAMPLES = 1000


def load(*, seed: int, device: str) -> Splits:
    """Draw training, validation and test examples, each (1000, 1); all targets are 1."""
    generator = torch.Generator().manual_seed(seed)

    def split() -> Split:
        inputs = torch.randn(EXAMPLES, 1, generator=generator, dtype=torch.float64)
        return Split(inputs.to(device), torch.ones(EXAMPLES, 1, device=device))

    return Splits(split(), split(), split())
