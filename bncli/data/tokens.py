"""Windows of tokens as tensors, and their targets: the token after each, or those that were masked.

A token is the number of a character's kind, 0 to K - 1; K stands for a masked one. Targets are (N, T, 1), the class of
every position, or (N, M, 2), the places of M masked positions and their classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bncli.data.splits import Split, Splits
from bncli.data.text import PARTS, Text, count_masked, cut, read_docs, read_text
from bncli.errors import DataError


@dataclass(frozen=True)
class Masking:
    """How windows are masked: Devlin et al. 2019 (arXiv:1810.04805), section 3.1.

    Of `count` positions, drawn without regard to what is there, 80 % become the mask, 10 % a token drawn evenly, and
    10 % stay; all are targets. The paper masks 15 % of all tokens of a text, here it is as many in every window.
    """

    kinds: int  # of tokens; the mask is the next number
    count: int  # masked in each window

    def draw(self, windows: int, generator: torch.Generator) -> Tensor:
        """What masks so many windows: (windows, 2 count)."""
        return torch.rand(windows, 2 * self.count, generator=generator, dtype=torch.float64)

    def choose(self, chance: Tensor, length: int) -> Tensor:
        """Places (*I, count) of a window of `length`, all sets of them as likely, from draws (*I, count).

        Robert Floyd's algorithm (Bentley & Floyd 1987): as many steps as there are places.
        """
        places = torch.empty(chance.shape, dtype=torch.long, device=chance.device)
        for i, last in enumerate(range(length - self.count, length)):
            drawn = (chance[..., i] * (last + 1)).long().clamp_(max=last)
            taken = (places[..., :i] == drawn.unsqueeze(-1)).any(-1)
            places[..., i] = torch.where(taken, last, drawn)
        return places

    def mask(self, windows: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (*I, T) of whole tokens, masked by `draws` (*I, 2 count); and their targets (*I, count, 2)."""
        where, what = draws.to(windows.device).split(self.count, -1)
        places = self.choose(where, windows.shape[-1])
        tokens = windows.gather(-1, places)
        others = ((what - 0.8) * 10 * self.kinds).long().clamp_(0, self.kinds - 1)
        put = torch.where(what < 0.8, self.kinds, torch.where(what < 0.9, others, tokens))
        return windows.scatter(-1, places, put), torch.stack([places, tokens], -1)

    def mask_anew(self, windows: Tensor, targets: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Windows that are masked already, masked by other draws."""
        return self.mask(windows.scatter(-1, targets[..., 0], targets[..., 1]), draws)


def load_text(*, file: str, length: int, predict: str, checksum: str | None, device: str) -> Splits:
    """Load the windows of a file of text.

    Raises:
        DataError: if it is not the one of the checksum.
    """
    return _load(read_text(file), file, length, predict, checksum, device)


def load_docs(*, length: int, predict: str, checksum: str | None, device: str) -> Splits:
    """Load the windows of the running Python's documentation.

    Raises:
        DataError: if it is not the one of the checksum: another version of Python's.
    """
    return _load(read_docs(), "python-docs", length, predict, checksum, device)


def _load(text: Text, place: str, length: int, predict: str, checksum: str | None, device: str) -> Splits:
    if checksum not in (None, text.checksum):
        raise DataError(
            f"{place}: its checksum is {text.checksum}, and {checksum} was planned with; leave the text alone while a"
            " study runs, and give every machine the same file, or the same version of Python"
        )
    numbers = np.full(ord(max(text.kinds)) + 1, 0, np.int64)
    numbers[[ord(kind) for kind in text.kinds]] = np.arange(len(text.kinds))
    masking = Masking(len(text.kinds), count_masked(length)) if predict == "masked" else None
    found = {}
    for i, part in enumerate(PARTS):
        codes = np.frombuffer(cut(text, part, length).encode("utf-32-le", "surrogatepass"), np.uint32)
        tokens = torch.from_numpy(numbers[codes])
        windows = tokens[:-1].view(-1, length)
        targets = tokens[1:].view(-1, length, 1)
        if masking:  # as an evaluation sees them; training draws anew
            draws = masking.draw(len(windows), torch.Generator().manual_seed(i))
            windows, targets = masking.mask(windows, draws)
        found[part] = Split(windows.to(device), targets.to(device), tokens=True, masking=masking)
    return Splits(**found)
