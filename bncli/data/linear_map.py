"""The task of the deep linear network of Santurkar et al. 2018: x ~ N(0, I), and A x for one Gaussian matrix A."""

import torch

from bncli.data.splits import Split, Splits

EXAMPLES, NUMBERS = 1000, 10


def load(*, seed: int, device: str) -> Splits:
    """Draw A (10, 10) and training, validation and test examples x, each (1000, 10), all standard normal; y = A x."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(NUMBERS, NUMBERS, generator=generator, dtype=torch.float64)

    def split() -> Split:
        x = torch.randn(EXAMPLES, NUMBERS, generator=generator, dtype=torch.float64)
        return Split(x.to(device), (x @ a.T).to(device, torch.get_default_dtype()))

    return Splits(split(), split(), split())
