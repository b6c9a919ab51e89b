"""The order of a tensor's axes in memory, which a norm hands on as it got it."""

from torch import Tensor


def laid_out_like(y: Tensor, x: Tensor) -> Tensor:
    """`y` with its channels innermost (channels_last) if those of `x` are, both (N, C, ...) of one shape."""
    if x.ndim > 3 and x.shape[1] > 1 and x.stride(1) == 1:
        return y.movedim(1, -1).contiguous().movedim(-1, 1)
    return y
