"""Evaluates every lane on a split, with running, precise or the batch's own statistics."""

from itertools import pairwise

import torch
from torch import Tensor

from bncli.config import Evaluation
from bncli.data.splits import Split
from bncli.engine.batches import Batches
from bncli.engine.network import Network
from bncli.engine.state import noise_kept
from bncli.errors import ConfigError
from bncli.optim import LOSSES

CHUNK = 2_000  # examples a forward pass: large enough for full speed, small enough for the cache
CHUNK_OF_IMAGES = 200  # the same where a network keeps channels x pixels, or x positions, of each
LARGER_ON_A_GPU = 5  # times: a small network there waits for the calls, not for the numbers


def losses_of(outputs: Tensor, targets: Tensor, loss: str, smoothing: float = 0.0) -> Tensor:
    """Mean loss of each lane, (*lanes,).

    Args:
        outputs: (*lanes, N, K), or (*lanes, N, T, K) at every position.
        targets: (*lanes, N) classes, (*lanes, N, K) numbers, or those of tokens (`bncli.data.tokens`); without lanes
            if all lanes share them.
        loss: a name in the catalogue; of those that are not bncli's own, without lanes.
        smoothing: of a class's probability, how much is spread evenly over all classes; for cross-entropy.

    Raises:
        ConfigError: if somebody's loss gives no number.
    """
    compute, (outputs, targets) = LOSSES.load(loss), each_target(outputs, targets)
    if loss in LOSSES.own:
        found: Tensor = compute(outputs, targets, smoothing) if smoothing else compute(outputs, targets)
        return found
    found = compute(outputs, targets)
    if not isinstance(found, Tensor) or found.numel() != 1:
        what = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(f"loss {loss!r}: must give one number, the mean over the batch, and gives {what}")
    return found.reshape(())


def each_target(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (*lanes, M, K) and classes (*lanes, M), an example for each position that has a target; others as given.

    Args:
        outputs: (*lanes, N, T, K) where targets are those of tokens.
        targets: (*lanes, N, T, 1) classes, or (*lanes, N, M, 2) positions and classes; without lanes if shared.
    """
    if targets.is_floating_point() or targets.ndim < 3:
        return outputs, targets
    if targets.shape[-1] == 2:
        targets = targets.expand(*outputs.shape[:-2], *targets.shape[-2:])
        places = targets[..., :1].expand(*targets.shape[:-1], outputs.shape[-1])
        outputs = outputs.gather(-2, places)
    return outputs.flatten(-3, -2), targets[..., -1].flatten(-2)


@torch.no_grad()
def evaluate(network: Network, split: Split, how: Evaluation, loss: str, batches: Batches) -> dict[str, Tensor]:
    """Loss, and accuracy where there are classes, of every lane: each (*lanes,).

    `running` uses the norms' running statistics. `precise` (Ioffe & Szegedy 2015, algorithm 2) averages the
    statistics of `how.precise_batches` training batches with the weights held. `batch` normalises batches of about
    the training batch's size by their own statistics. Buffers and generators are left as they were.
    """
    with network.buffers_kept(), noise_kept(split.targets.device.type):
        if how.statistics == "precise":
            _settle(network, batches, how.precise_batches)
        network.train(how.statistics == "batch")
        size = batches.size if how.statistics == "batch" else _chunk(network)
        found = _sums(network, split, max(1, len(split) // size), loss)
    network.train(True)
    return found


def _chunk(network: Network) -> int:
    kernels = network.positions or any(p.ndim > 2 + len(network.lanes) for p in network.parameters.values())
    on_a_gpu = any(p.device.type == "cuda" for p in network.parameters.values())
    return (CHUNK_OF_IMAGES if kernels else CHUNK) * (LARGER_ON_A_GPU if on_a_gpu else 1)


def _sums(network: Network, split: Split, parts: int, loss: str) -> dict[str, Tensor]:
    ends = [len(split) * i // parts for i in range(parts + 1)]
    total = torch.zeros(network.lanes, device=split.targets.device)
    right = torch.zeros_like(total)
    for first, last in pairwise(ends):
        x, y = split.slice(first, last)
        outputs = network.forward(x, shared=True)
        total += losses_of(outputs, y, loss) * len(y)
        if not y.is_floating_point():
            outputs, classes = each_target(outputs, y)
            right += (outputs.argmax(-1) == classes).sum(-1) / (classes.shape[-1] // len(y))
    found = {"loss": total / len(split)}
    return found if split.targets.is_floating_point() else {**found, "accuracy": right / len(split)}


def _settle(network: Network, batches: Batches, count: int) -> None:
    """Replace the running statistics by their average over `count` training batches."""
    running = {name: b for name, b in network.buffers.items() if name.rpartition(".")[2].startswith("running_")}
    sums = {name: torch.zeros_like(buffer) for name, buffer in running.items()}
    network.train(True)
    with network.momentum(1.0):
        for x in batches.fixed(count):
            network.forward(x, shared=True)
            for name, buffer in running.items():
                sums[name] += buffer
    for name, buffer in running.items():
        buffer.copy_(sums[name] / count)
