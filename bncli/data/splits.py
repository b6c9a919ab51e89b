"""Examples as tensors on a device, what every data set is loaded into; and data that are drawn by rule."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Inputs (N, features) as stored, and targets (N,) or (N, outputs).

    Stored inputs may be bytes; `inputs` turns the chosen ones into floats as `stored * scale + shift`.
    """

    stored: Tensor
    targets: Tensor
    scale: float = 1.0
    shift: float = 0.0

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, index: Tensor) -> Tensor:
        """The examples at `index` (any shape I), as floats of shape (*I, features)."""
        flat = self.stored.index_select(0, index.reshape(-1))  # several times as fast as stored[index]
        return self._floats(flat).view(*index.shape, -1)

    def slice(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Examples first..last-1 as (inputs, targets)."""
        return self._floats(self.stored[first:last]), self.targets[first:last]

    def _floats(self, stored: Tensor) -> Tensor:
        if not stored.is_floating_point():
            values = stored.to(torch.get_default_dtype())
            values = values if self.scale == 1 else values.mul_(self.scale)
            return values.add_(self.shift) if self.shift else values
        return stored.to(torch.get_default_dtype())


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set."""

    train: Split
    validation: Split
    test: Split


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
