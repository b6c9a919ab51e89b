"""Forward and backward pass of attention by plain products and by torch's own, in turn: `python tests/performance/attention.py`.

Milliseconds, the least of eleven, on one thread; once for one run, once for five in lanes.
"""

import math
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = ((16, 2, 32, 16), (16, 4, 64, 16), (16, 4, 128, 16), (8, 8, 256, 32))  # examples, heads, positions, channels


def plain(q: Tensor, k: Tensor, v: Tensor, future: Tensor | None) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    scores = scores if future is None else scores.masked_fill(future, -math.inf)
    return scores.softmax(-1) @ v


def in_parts(q: Tensor, k: Tensor, v: Tensor, future: Tensor | None) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    scores = scores if future is None else scores.masked_fill(future, -math.inf)
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return (exponentials / exponentials.sum(-1, keepdim=True)) @ v


def of_torch(q: Tensor, k: Tensor, v: Tensor, future: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=future is not None)


def step_of(
    attend: Callable[..., Tensor], lanes: int, shape: tuple[int, ...], future: Tensor | None
) -> Callable[[], None]:
    inputs = [torch.randn(*((lanes,) if lanes > 1 else ()), *shape, requires_grad=True) for _ in range(3)]

    def call(*given: Tensor) -> Tensor:
        return attend(*given, future)

    run = torch.vmap(call) if lanes > 1 else call

    def step() -> None:
        y = run(*inputs)
        torch.autograd.grad(y, inputs, torch.ones_like(y))

    return step


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch says that its own has no rule for lanes
    for lanes in (1, 5):
        for shape in SHAPES:
            for future in (None, torch.ones(shape[2], shape[2], dtype=torch.bool).triu(1)):
                steps = {f.__name__: step_of(f, lanes, shape, future) for f in (plain, in_parts, of_torch)}
                seconds: dict[str, list[float]] = {name: [] for name in steps}
                for _ in range(11):
                    for name, step in steps.items():
                        start = time.perf_counter()
                        step()
                        seconds[name].append(time.perf_counter() - start)
                found = ", ".join(f"{name} {1000 * min(each):.2f}" for name, each in seconds.items())
                print(f"{lanes} lanes, {shape}, {'causal' if future is not None else 'full'}: {found}", flush=True)


if __name__ == "__main__":
    main()
