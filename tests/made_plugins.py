"""Plug-ins of every kind, each a file of a few lines."""

NORM = '''
import torch
from torch import nn

class Half(nn.Module):
    """Each channel less its mean over the batch, times a share.

    Args:
        channels: of the layer.
        share: of the deviation that
            is kept.
        centre: whether the mean goes.
    """

    def __init__(self, channels: int, *, share: float = 0.5, centre: bool = True):
        super().__init__()
        self.share, self.centre = share, centre

    def forward(self, x):
        return self.share * (x - x.mean(0) if self.centre else x)

NORMS = {"half": Half}
'''

MODEL = '''
from torch import nn

def small(norm, shape, classes, *, widths: tuple[int, ...] = (4, 8), act: "Literal['relu', 'tanh']" = "relu"):
    """Convolutions of stride 2."""
    layers, before = [], shape[0]
    for width in widths:
        layers += [nn.Conv2d(before, width, 3, 2, 1), norm(width), nn.ReLU() if act == "relu" else nn.Tanh()]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))

from typing import Literal
MODELS = {"small": small}
'''

DATA = '''
import torch

def clouds(*, device, noise: float = 0.1, seed: int = 0):
    """Two clouds of points in a plane."""
    generator = torch.Generator().manual_seed(seed)

    def part(examples):
        y = torch.randint(0, 2, (examples,), generator=generator)
        return y[:, None] + noise * torch.randn(examples, 2, generator=generator), y

    return {"train": part(400), "validation": part(100), "test": part(100)}

DATASETS = {"clouds": clouds}
'''

METRIC = '''
def spread(x, *, of: float = 1.0):
    """Widest distance within a channel."""
    return of * (x.amax(0) - x.amin(0))

def moved(before, after):
    """Mean distance from where an example was."""
    return (after - before).norm(dim=1).mean()

METRICS = {"spread": spread, "moved": moved}
'''

OPTIMIZER = '''
import torch
from bncli.optim.optimizers import Optimizer

def lion(*, beta1: float = 0.9, beta2: float = 0.99):
    """Lion: the sign of an average of gradients (Chen et al. 2023)."""

    def init(params, hyper):
        return {"average": [torch.zeros_like(p) for p in params]}

    def update(params, grads, state, hyper):
        for p, g, average in zip(params, grads, state["average"]):
            p.sub_(hyper.like(hyper.lr, p) * (beta1 * average + (1 - beta1) * g).sign())
            average.mul_(beta2).add_(g, alpha=1 - beta2)

    return Optimizer(init, update)

OPTIMIZERS = {"lion": lion}
'''

SCHEDULE = '''
def triangle(step, steps, *, peak: float = 0.5):
    """Up to the peak, then down to 0."""
    return min(step / (peak * steps), (steps - step) / ((1 - peak) * steps))

SCHEDULES = {"triangle": triangle}
'''

ROW = """
from torch import nn
from bncli.catalogue import Option
from bncli.norms.rows import NormRow

def double(channels, *, factor):
    return nn.Threshold(-factor, -factor)

NORMS = {
    "double": NormRow(
        ":double", "cut from below", {"factor": Option(float, 2.0, "where")}, family="activation", citation="none",
        formula="max(x, -factor)", over="", evaluation="the same", cost=1.1,
    ),
}
"""

WITHOUT_TORCH = '''
class Half:
    """Of everything, half."""

    def __init__(self, channels: int, *, share: float = 0.5):
        self.share = share

NORMS = {"half": Half}
'''

EXECUTOR = '''
from concurrent.futures import ThreadPoolExecutor

def one_thread(workers, device, *, name: str = "one"):
    """One thread of this process."""
    return ThreadPoolExecutor(1, thread_name_prefix=name)

EXECUTORS = {"one-thread": one_thread}
'''

KINDS = {
    "NORMS": NORM, "MODELS": MODEL, "DATASETS": DATA, "METRICS": METRIC, "OPTIMIZERS": OPTIMIZER,
    "SCHEDULES": SCHEDULE, "EXECUTORS": EXECUTOR,
}  # fmt: skip
