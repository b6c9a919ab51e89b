"""A traced step captured in a CUDA graph: one launch for all its operations."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bncli.engine.noise import tensors_kept

WARM_UP = 3  # steps on the side stream, as torch asks for before a capture


def captured(
    operations: Callable[..., Tensor], fixed: Sequence[Tensor], x: Tensor, y: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """`operations(*fixed, x, y)` as a graph that is replayed; `fixed` is what it reads and changes in place.

    On small networks a GPU waits for Python between kernels; a replay hands it all of a step's kernels at once. The
    tensors of `fixed` come out of this as they went in; generators do not, and are the caller's matter.

    Raises:
        Exception: whatever torch raises for an operation that cannot be captured.
    """
    inputs, targets = x.clone(), y.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with tensors_kept(fixed):
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                operations(*fixed, inputs, targets)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = operations(*fixed, inputs, targets)

    def step(x: Tensor, y: Tensor) -> Tensor:
        inputs.copy_(x)
        targets.copy_(y)
        graph.replay()
        return losses

    return step
