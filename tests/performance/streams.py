"""How fast batches come from a file that is mapped into memory: `python tests/performance/streams.py`.

One at a time when it is wanted, read ahead by threads (what `Split.batches` does), and by worker processes of torch's
DataLoader, interleaved, each batch with a product behind it; milliseconds a batch of 128 images of 3 x 64 x 64 bytes.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bncli.data.splits import Split

EXAMPLES, FEATURES, BATCH, BATCHES, ROUNDS = 30_000, 3 * 64 * 64, 128, 150, 5


class Rows(Dataset[Tensor]):
    """Rows of the mapped file, for DataLoader."""

    def __init__(self, stored: Tensor) -> None:
        self.stored = stored

    def __getitem__(self, index: Any) -> Tensor:
        return self.stored.index_select(0, index)


def batches_of(way: str, split: Split, index: Tensor) -> Iterator[Tensor]:
    if way == "threads":
        yield from (x for x, _ in split.batches(index))
    elif way == "one at a time":
        yield from (split.inputs(one) for one in index)
    else:
        loader = DataLoader(Rows(split.stored), sampler=list(index), batch_size=None, num_workers=2)  # type: ignore[arg-type]
        yield from (split._floats(stored) for stored in loader)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npy"
        np.lib.format.open_memmap(file, "w+", np.uint8, (EXAMPLES, FEATURES))[:] = np.arange(FEATURES) % 256
        stored = torch.from_numpy(np.load(file, mmap_mode="c"))
        split = Split(stored, torch.zeros(EXAMPLES, dtype=torch.long), 1 / 255, streamed=True)
        weights = torch.randn(FEATURES, 300)
        index = torch.stack([torch.randperm(EXAMPLES)[:BATCH] for _ in range(BATCHES)])
        found: dict[str, list[float]] = {"one at a time": [], "threads": [], "processes": []}
        for _ in range(ROUNDS):
            for way, times in found.items():
                start = time.perf_counter()
                for x in batches_of(way, split, index):
                    x @ weights
                times.append(1e3 * (time.perf_counter() - start) / BATCHES)
        for way, times in found.items():
            print(f"{way}: {min(times):.1f} ms a batch, least of {ROUNDS} (median {np.median(times):.1f})")


if __name__ == "__main__":
    main()
