"""How much faster the kernels are than straightforward compositions: `python tests/performance/norm_kernels.py [--json]`.

One thread, float32, the whole norm in training, all rivals of a case interleaved in one run, each allocating what it
gives. A figure is the median, with quartiles, of ratios of processor times (which leave out the time that others held the
processor) taken one after the other, their order alternating, so that what slows the machine slows both. Compositions:
torch's own batch norm; autograd through eigh, cholesky, Newton-Schulz as published, in float32 and, where ours is, in
double precision. The figures of docs/measurements.md are of an allocator that keeps what is freed; the environment that
makes it do so is given there.

The floor of IterNorm is the time of the matrix products that its algorithm cannot do without, on tensors as they lie:
covariance, its gradient, applying the root and the two gradients of that (five of planes), 3 (T - 1) products of the
steps and 6 (T - 1) of their gradient; no mean, no sum over examples, no addition, no trace, nothing of autograd.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from statistics import quantiles

import torch
from torch import Tensor, nn

from bncli.norms import norm

SHAPES = [(32, 64, 28, 28), (32, 256, 14, 14), (32, 64, 56, 56), (64, 256), (60, 100)]
WHITENERS = {"iternorm": (64, 1e-5, 1.6), "zca": (16, 1e-3, 1.6), "cholesky": (16, 1e-3, 1.6)}  # d, eps, goal
# (shape, channels_last) of which batch must not be slower than torch's own
OTHERS = [((32, 64, 28, 28), True), ((32, 64, 196), False), ((32, 64, 7, 7), False), ((8, 16, 8, 8), False)]
Work = Callable[[], object]


def paired(rivals: dict[str, Work], repeats: int) -> dict[str, list[float]]:
    """Seconds of each rival, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for work in rivals.values():
        work(), work(), work()
    for turn in range(repeats):
        for name, work in list(rivals.items())[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return times


def figure(times: dict[str, list[float]], slow: str, fast: str, goal: str) -> dict[str, object]:
    low, value, high = quantiles([a / b for a, b in zip(times[slow], times[fast], strict=True)], n=4)
    return {"value": value, "low": low, "high": high, "unit": f"time of {slow} / time of {fast}", "goal": goal}


def zca_root(S: Tensor) -> Tensor:
    values, U = torch.linalg.eigh(S)
    return (U * values.rsqrt().unsqueeze(-2)) @ U.mT


def cholesky_root(S: Tensor) -> Tensor:
    return torch.linalg.inv(torch.linalg.cholesky(S))


def iternorm_root(S: Tensor, T: int = 5) -> Tensor:
    n = S.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    P = torch.eye(S.shape[-1]).expand_as(S)
    for _ in range(T):
        P = torch.baddbmm(P, torch.matrix_power(P, 3), S / n, beta=1.5, alpha=-0.5)
    return P * n.rsqrt()


ROOTS = {"zca": zca_root, "cholesky": cholesky_root, "iternorm": iternorm_root}


class Composition(nn.Module):
    """Whitening as it is usually written; the last group is a smaller one of its own where d does not divide C."""

    def __init__(self, channels: int, root: Callable[[Tensor], Tensor], d: int, eps: float, double: bool) -> None:
        super().__init__()
        self.root, self.d, self.eps, self.double_precision = root, min(d, channels), eps, double
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.running_mean, self.running_cov = torch.zeros(channels), {}

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(0, 1).flatten(1)
        rows = rows.double() if self.double_precision else rows
        whole = len(rows) // self.d * self.d
        parts = [self.whiten(part, k) for k, part in enumerate((rows[:whole], rows[whole:])) if len(part)]
        y = torch.cat(parts).to(x.dtype).view(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)
        each = (-1, *[1] * (x.ndim - 2))
        return y * self.weight.view(each) + self.bias.view(each)

    def whiten(self, rows: Tensor, part: int) -> Tensor:
        d = min(self.d, len(rows))
        values = rows.view(-1, d, rows.shape[1])
        centred = values - values.mean(-1, keepdim=True)
        S = centred @ centred.mT / values.shape[-1] + self.eps * torch.eye(d, dtype=rows.dtype)
        old = self.running_cov.get(part, torch.eye(d))
        self.running_cov[part] = 0.9 * old + 0.1 * S.detach()
        return (self.root(S) @ centred).flatten(0, 1)


def step(module: nn.Module, x: Tensor, g: Tensor) -> object:
    return torch.autograd.grad(module(x), [x, *module.parameters()], g)


def products(shape: tuple[int, ...], d: int, T: int) -> Work:
    """The matrix products that IterNorm needs: five of planes, and those of the steps and their gradient."""
    N, C = shape[:2]
    d = min(d, C)
    G = -(-C // d)
    planes = torch.randn(N, G, d, *shape[2:]).flatten(3) if len(shape) > 2 else torch.randn(1, G, d, N)
    A, flat = torch.randn(G, d, d), planes.flatten(0, 1)

    def work() -> None:
        for _ in range(2):
            torch.bmm(flat, flat.mT)
        for _ in range(3):
            torch.matmul(A, planes)
        for _ in range(9 * (T - 1)):
            torch.bmm(A, A)

    return work


def batch_figures(shape: tuple[int, ...], repeats: int, last: bool | None = None) -> dict[str, dict[str, object]]:
    torch.manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    x, g = (torch.randn(shape).contiguous(memory_format=layout) for _ in "xg")
    still, long = x, len(shape) > 2 and last is None
    x = still.clone().requires_grad_()
    ours, native = norm("batch", shape[1]), norm("batch", shape[1], impl="plain")
    forward = paired({"torch": lambda: native(still), "batch": lambda: ours(still)}, repeats)
    both = paired({"torch": lambda: step(native, x, g), "batch": lambda: step(ours, x, g)}, repeats)
    case = f"{shape} channels_last" if last else str(shape)
    return {
        f"batch forward {case}": figure(forward, "torch", "batch", ">= 2.2" if long else ">= 0.95"),
        f"batch forward+backward {case}": figure(both, "torch", "batch", ">= 1.4" if long else ">= 0.95"),
    }


def whitening_figures(shape: tuple[int, ...], repeats: int) -> dict[str, dict[str, object]]:
    found = {}
    for name, (d, eps, goal) in WHITENERS.items():
        torch.manual_seed(0)
        x, g = torch.randn(shape, requires_grad=True), torch.randn(shape)
        ours = norm(name, shape[1])
        rivals: dict[str, Work] = {name: partial(step, ours, x, g)}
        few = len(shape) == 2 and name != "iternorm"  # then we are in double precision too
        for kind, double in {"composition": False, **({"composition in double": True} if few else {})}.items():
            rivals[kind] = partial(step, Composition(shape[1], ROOTS[name], d, eps, double), x, g)
        if name == "iternorm":
            rivals["products"] = products(shape, d, 5)
        times = paired(rivals, repeats)
        found[f"{name} forward+backward {shape}"] = figure(times, "composition", name, f">= {goal}")
        if few:
            found[f"{name}, composition in double {shape}"] = figure(times, "composition in double", name, "none")
        if name == "iternorm":
            found[f"{name} over its products {shape}"] = figure(times, name, "products", "<= 1.4")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object {figure: {value, low, high, unit, goal}}")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, object]] = {}
    for shape in SHAPES:
        found |= batch_figures(shape, arguments.repeats) | whitening_figures(shape, arguments.repeats)
    for shape, last in OTHERS:
        found |= batch_figures(shape, arguments.repeats, last)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for name, one in found.items():
        print(f"{name:54} {one['value']:6.2f}  [{one['low']:.2f}, {one['high']:.2f}]  goal {one['goal']}")


if __name__ == "__main__":
    main()
