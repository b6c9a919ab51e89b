"""The processes that train one run together, each on its share of every batch: how they meet, what they exchange."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import accumulate
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from bncli.engine.network import Network, Tensors
from bncli.engine.work import Meeting
from bncli.errors import ConfigError

T = TypeVar("T")
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


def require_devices(ranks: int, device: str) -> None:
    """Pass if this machine has a device for each rank.

    Raises:
        ConfigError: if not.
    """
    if device == "cuda" and torch.cuda.device_count() < ranks:
        raise ConfigError(
            f"training.ranks: {ranks} ranks take a GPU each, and a worker here sees {torch.cuda.device_count()}; ask"
            " for fewer ranks, or for fewer workers (--jobs), among which the GPUs are shared out"
        )
    if device not in BACKENDS or not dist.is_available():
        why = f"there are none on {device}" if device not in BACKENDS else "this torch has no torch.distributed"
        raise ConfigError(f"training.ranks: {ranks} ranks cannot be had: {why}; use --device cpu, or 1")


@contextmanager
def joined(meeting: Meeting | None, device: str) -> Iterator[None]:
    """Be one of the ranks; None is a process that trains alone."""
    if meeting is None:
        yield
        return
    if loopback := {"linux": "lo", "darwin": "lo0"}.get(sys.platform):  # nothing is listened to from outside
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", loopback)
    if device == "cuda":
        torch.cuda.set_device(meeting.rank)
    dist.init_process_group(
        "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl", init_method=meeting.file.as_uri(), rank=meeting.rank,
        world_size=meeting.ranks, timeout=timedelta(seconds=meeting.seconds),
    )  # fmt: skip
    yield
    dist.destroy_process_group()  # not where it failed: others may wait in it


class Ranks:
    """The ranks of a run as one of them sees them; a run in one process has one."""

    def __init__(self, count: int, batch: int) -> None:
        """`batch` examples are split in order; where `count` does not divide them, the first ranks have one more."""
        self.count, self.rank = count, dist.get_rank() if count > 1 else 0
        sizes = [batch // count + (rank < batch % count) for rank in range(count)]
        self.start, self.examples = [0, *accumulate(sizes)][self.rank], sizes[self.rank]
        self.share = self.examples / batch

    @property
    def first(self) -> bool:
        """Whether it is the rank that evaluates, keeps checkpoints and gives the results."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Of all ranks' tensors."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: T) -> list[T]:
        """What each rank has."""
        found: list[Any] = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(found, value)
        return found

    def take_first(self, find: Callable[[], T]) -> T:
        """What the first rank finds, in all ranks; the others only wait for it."""
        found: list[Any] = [find() if self.first else None]
        if self.count > 1:
            dist.broadcast_object_list(found)
        value: T = found[0]
        return value

    def forward(self, network: Network) -> Callable[[Tensors, Tensors, Tensor], Tensor]:
        """The forward pass of a training step; with several ranks it begins with the first one's buffers in all."""
        if self.count == 1:
            return network.pure

        def run(parameters: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
            self.spread(buffers.values())
            return network.pure(parameters, buffers, x)

        return run

    @torch.no_grad()
    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Give all ranks the first one's numbers, in place."""
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors if self.count > 1 else ():
            kinds.setdefault(tensor.dtype, []).append(tensor)
        for alike in kinds.values():
            dist.broadcast(flat := torch.cat([tensor.flatten() for tensor in alike]), 0)
            for tensor, part in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def weigh(self, loss: Tensor) -> Tensor:
        """What a rank's mean loss over its share adds to the mean loss over the whole batch."""
        return loss if self.count == 1 else loss * self.share

    def add(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The sum over ranks of gradients of what each loss adds: those of the mean loss over the whole batch.

        As `DistributedDataParallel` gives them if each loss is scaled by ranks * share; that does not see gradients
        that are taken by `torch.autograd.grad`, and to import it costs each rank 2 s more (docs/log.md).
        """
        if self.count == 1:
            return gradients
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        return [part.view(g.shape).to(g.dtype) for part, g in zip(parts, gradients, strict=True)]
