"""What whitening costs here against another checkout of bncli: `python tests/performance/whitening_cost.py CHECKOUT`.

One thread, float32, both in one process and interleaved, their order alternating. A figure is the median, with quartiles,
of ratios of processor times taken one after the other: this checkout's over the other's, so above 1 is slower.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

import torch
from torch import Tensor, nn

SHAPES = [(60, 100), (64, 256), (128, 64, 4, 4), (32, 64, 28, 28)]
NAMES = ["batch", "zca", "zca-cor", "cholesky", "pca", "iternorm", "deconv"]


def load(checkout: Path) -> dict[str, type[nn.Module]]:
    """The norms' classes of a checkout, which takes the modules of another before it out of the interpreter's."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "bncli"]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    norms = importlib.import_module("bncli.norms")
    assert Path(norms.__file__).is_relative_to(checkout.resolve()), norms.__file__
    classes = {name: type(norms.norm(name, 2)) for name in NAMES}  # imports them while the path says where from
    sys.path.remove(str(checkout))
    return classes


def train(module: nn.Module, x: Tensor, g: Tensor) -> object:
    return torch.autograd.grad(module(x), [x, *module.parameters()], g)


def evaluate(module: nn.Module, x: Tensor, g: Tensor) -> object:
    with torch.no_grad():
        return module(x)


def compare(work: Callable[..., object], pair: list[nn.Module], x: Tensor, g: Tensor, repeats: int) -> list[float]:
    """Quartiles of the first's time over the second's."""
    ratios = []
    for turn in range(-3, repeats):
        seconds = {}
        for module in pair[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            work(module, x, g)
            seconds[module] = time.process_time() - start
        if turn >= 0:
            ratios.append(seconds[pair[0]] / seconds[pair[1]])
    return quantiles(ratios, n=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    both = [load(Path(__file__).resolve().parents[2]), load(arguments.checkout)]
    print("| norm | shape | training | evaluation |\n|---|---|---|---|")
    for shape in SHAPES:
        for name in NAMES:
            torch.manual_seed(0)
            x, g = torch.randn(shape, requires_grad=True), torch.randn(shape)
            pair = [classes[name](shape[1]) for classes in both]
            figures = [compare(train, pair, x, g, arguments.repeats)]
            figures.append(compare(evaluate, [module.eval() for module in pair], x, g, arguments.repeats))
            cells = [f"{median:.2f} [{low:.2f}, {high:.2f}]" for low, median, high in figures]
            print(f"| {name} | {shape} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
