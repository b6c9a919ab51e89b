"""Losses: what training makes small."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats of each lane.

    Args:
        outputs: (*lanes, N, K).
        targets: (*lanes, N) classes; without lanes if all lanes share them.
        smoothing: of a class's probability, how much is spread evenly over all classes.

    Returns:
        (*lanes,)
    """
    log_p = F.log_softmax(outputs, -1)
    targets = targets.expand(outputs.shape[:-1]).unsqueeze(-1)
    losses = -log_p.gather(-1, targets).squeeze(-1).mean(-1)
    return (1 - smoothing) * losses - smoothing * log_p.mean((-1, -2)) if smoothing else losses


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of each lane, (*lanes,); classes count as 1 for the right one and 0 for the others.

    Args:
        outputs: (*lanes, N, K).
        targets: (*lanes, N, K) numbers or (*lanes, N) classes; without lanes if all lanes share them.
    """
    if not targets.is_floating_point():
        targets = F.one_hot(targets, outputs.shape[-1]).to(outputs.dtype)
    return (outputs - targets).square().mean((-1, -2))
