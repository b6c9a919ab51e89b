"""Examples as tensors on a device: what every data set is loaded into."""

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
