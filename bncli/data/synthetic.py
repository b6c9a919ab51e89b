"""Data drawn by rule: the linear map of Santurkar et al. 2018, the toy of Ioffe & Szegedy 2015, section 2."""

import torch

from bncli.data.splits import Split, Splits

NUMBERS = 10


def load_linear_map(*, seed: int, device: str) -> Splits:
    """Draw A (10, 10) and training, validation and test examples x, each (1000, 10), all standard normal; y = A x."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(NUMBERS, NUMBERS, generator=generator, dtype=torch.float64)

    def split() -> Split:
        x = torch.randn(EXAMPLES, NUMBERS, generator=generator, dtype=torch.float64)
        return Split(x.to(device), (x @ a.T).to(device, torch.get_default_dtype()))

    return Splits(split(), split(), split())


EXAMPLES = 1000


def load_offset(*, seed: int, device: str) -> Splits:
    """Draw training, validation and test examples, each (1000, 1); all targets are 1."""
    generator = torch.Generator().manual_seed(seed)

    def split() -> Split:
        inputs = torch.randn(EXAMPLES, 1, generator=generator, dtype=torch.float64)
        return Split(inputs.to(device), torch.ones(EXAMPLES, 1, device=device))

    return Splits(split(), split(), split())
