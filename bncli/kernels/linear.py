"""Linear layers whose products are laid out so that gradients come out in the parameters' own order.

Their reference is `F.linear`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from bncli.kernels import lanes_first


class ProductsInOrder(TorchFunctionMode):
    """Within it, `F.linear` of a matrix is `linear`, in whatever module it is called.

    torch's own gradient of a weight is the transpose of a product, which the optimiser then reads against the grain:
    on the paper's network a quarter of the step (docs/measurements.md). The mode costs time at each call, so it is
    for tracing.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace F.linear of (N, K) inputs; everything else goes its way."""
        if func is F.linear and not kwargs and args[0].dim() == 2:
            return linear(*args)
        return func(*args, **(kwargs or {}))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias: (N, K), (M, K), (M,) to (N, M); all may have one leading dimension of lanes, or be vmapped.

    Within autocast in its number format, as `F.linear`: the backward pass, which is outside of it, could not tell.
    """
    if torch.is_autocast_enabled(x.device.type):
        x, weight = (_of_autocast(t) for t in (x, weight))
        bias = None if bias is None else _of_autocast(bias)
    y: Tensor = _Linear.apply(x, weight, bias)
    return y


def _of_autocast(tensor: Tensor) -> Tensor:
    dtype = torch.get_autocast_dtype(tensor.device.type)
    return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)


class _Linear(Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None:
            return torch.matmul(x, weight.mT)
        return torch.addmm(bias, x, weight.t()) if x.dim() == 2 else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        return (
            g @ weight if ctx.needs_input_grad[0] else None,
            g.mT @ x if ctx.needs_input_grad[1] else None,
            g.sum(-2) if ctx.biased else None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor | None) -> tuple[Tensor, int]:
        """Lanes in front, as batched products take them."""
        return _Linear.apply(*lanes_first(tensors, in_dims, info.batch_size)), 0
