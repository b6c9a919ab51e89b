"""What a GPU does with bncli, in one run of at most four minutes: `python tests/performance/gpu_figures.py [--json]`.

Rivals are timed in turns, their order alternating. A kernel's time is that of a CUDA graph of several calls, between
events, each call on other arguments, so many that none is in the L2 cache; a call's outputs are allocated within the
graph. A figure is the median of ratios of neighbouring times, with a 95 % interval of that median from order statistics.
Training is timed by the clock of the wall, after one untimed round. Every part is for itself: one that fails shows its
traceback, and the others go on. `--device cpu` tries the script.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bncli
from bncli.config.study import study_of
from bncli.data.mnist import load
from bncli.engine.captured import UNCAPTURABLE
from bncli.engine.network import build
from bncli.engine.train import train
from bncli.norms import NORMS
from bncli.plan import Job, runs_of

Figure = dict[str, Any]
Work = Callable[..., object]
RESNET50 = [  # channels, height and width of the maps that batch normalisation sees
    (64, 112), (64, 56), (256, 56), (128, 28), (512, 28), (256, 14), (1024, 14), (512, 7), (2048, 7),
]  # fmt: skip
DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
PASSES = {"speed of light": 5, "algorithmic": 8}  # times x's bytes, forward and backward (bncli/bench/work.py)
CACHE = 120e6  # bytes to rotate through: more than twice an H100's L2
WHITENED = [(64, 64, 56, 56), (64, 256, 14, 14), (256, 512), (1024, 1024)]
WHITENERS = {"iternorm": (64, 1e-5), "zca": (16, 1e-3)}
ROW_NORMS: dict[str, tuple[dict[str, Any], list[tuple[int, ...]]]] = {  # each with options, and where it is timed
    "group": ({"groups": 32}, [(64, 256, 28, 28), (64, 512, 7, 7), (64, 64, 112, 112)]),
    "layer": ({}, [(64, 256, 28, 28), (4096, 768), (3840, 100)]),
    "rms": ({}, [(64, 256, 28, 28), (4096, 768), (4096, 4096)]),
}
BLOCK_ENDS = [(256, 56), (512, 28), (1024, 14), (2048, 7)]  # of ResNet-50: where the sum and a ReLU follow the norm
COSTS_AT = (64, 256, 28, 28)
FIGURE1: dict[str, Any] = {
    "data": {"name": "mnist", "binarize": 127},
    "model": {"name": "mlp", "hidden": [100, 100, 100], "activation": "sigmoid", "init": {"normal": 0.1}},
}
FIGURE1_TRAINING = {"batch_size": 60, "lr": 0.1}
WIDTHS = [784, 100, 100, 100, 10]
IMAGES: dict[str, Any] = {
    "data": {"name": "mnist"},
    "model": {"name": "resnet", "depth": 20, "channels": [64, 128, 256], "shortcut": "projection"},
}
IMAGES_TRAINING = {
    "batch_size": 128, "lr": 0.05, "precision": "mixed", "optimizer": {"name": "sgd", "momentum": 0.9},
}  # fmt: skip
EPOCHS = 10


class Device:
    """Where things are timed: a GPU by replayed graphs and events, a processor by the wall's clock."""

    def __init__(self, name: str, rounds: int) -> None:
        self.name, self.rounds = name, rounds
        self.cuda = name == "cuda"
        if self.cuda:  # a capture takes no default stream, and a backward pass runs where its forward pass ran
            torch.cuda.set_stream(torch.cuda.Stream())

    def copies(self, byte: float) -> int:
        """How many sets of arguments of so many bytes make a call find none in the cache."""
        return max(2, math.ceil(CACHE / byte)) if self.cuda else 2

    def ready(self, call: Work, sets: Sequence[tuple[Any, ...]], graph: bool = True) -> Callable[[], float]:
        """`call` over `sets` as something to time: seconds a call."""
        for arguments in [*sets, *sets][:4]:
            call(*arguments)
        if not self.cuda:
            return lambda: _seconds(partial(_all, call, sets)) / len(sets)
        torch.cuda.synchronize()
        run: Callable[[], object] = partial(_all, call, sets)
        if graph:
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured, stream=torch.cuda.current_stream()):
                run()
            captured.replay()
            run = captured.replay
        return lambda: _event_seconds(run) / len(sets)

    def paired(self, rivals: dict[str, Callable[[], float]], rounds: int = 0) -> dict[str, list[float]]:
        """Seconds of each, in turns."""
        times: dict[str, list[float]] = {name: [] for name in rivals}
        for turn in range(rounds or self.rounds):
            for name, work in list(rivals.items())[:: 1 if turn % 2 else -1]:
                times[name].append(work())
        return times


def _all(call: Work, sets: Sequence[tuple[Any, ...]]) -> None:
    for arguments in sets:
        call(*arguments)


def _event_seconds(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def figure(values: Sequence[float], unit: str, goal: str = "") -> Figure:
    """The median of `values` with its 95 % interval."""
    ranked, n = sorted(values), len(values)
    below = 0  # values left out at each end: the largest number that keeps 95 %
    while 1 - 2 * sum(math.comb(n, k) for k in range(below + 2)) / 2**n >= 0.95 and below + 1 < n // 2:
        below += 1
    low, high = (ranked[below], ranked[n - 1 - below]) if n > 1 else (ranked[0], ranked[0])
    return {"value": median(ranked), "low": low, "high": high, "unit": unit, "goal": goal or None}


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(over, under, strict=True)]


def ceilings(device: Device) -> Iterator[tuple[str, Figure]]:
    """(a) What memory and matrix units do here."""
    size = 2**29 if device.cuda else 2**22
    source, target = torch.randn(size // 4, device=device.name), torch.empty(size // 4, device=device.name)
    copy = device.ready(lambda: target.copy_(source), [()] * 4)
    yield "copy", figure([2 * size / copy() / 1e12 for _ in range(device.rounds)], "TB/s read and written")
    n = 8192 if device.cuda else 256
    for name, dtype, tf32 in (("bf16", torch.bfloat16, False), ("tf32", torch.float32, True), ("f32", None, False)):
        a, b = (torch.randn(n, n, device=device.name).to(dtype or torch.float32) for _ in range(2))
        torch.backends.cuda.matmul.allow_tf32 = tf32
        product = device.ready(lambda a=a, b=b: torch.mm(a, b), [()] * 2)
        torch.backends.cuda.matmul.allow_tf32 = False
        yield f"product {name}", figure([2 * n**3 / product() / 1e12 for _ in range(5)], "TFLOP/s")


def trained_once(module: nn.Module) -> Work:
    """A module's forward and backward pass on an input and its output's gradient."""
    parameters = list(module.parameters())
    return lambda x, g: torch.autograd.grad(module(x), [x, *parameters], g, allow_unused=True)


class Triton(nn.Module):
    """The Triton kernel alone, as a module."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        from bncli.kernels.triton_norms import batch_norm

        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, 0.1, 1e-5)


def batch_norms(device: Device, batch: int) -> Iterator[tuple[str, Figure]]:
    """(b) Training batch norm at ResNet-50's shapes: ours and torch's own against a copy of the same bytes."""
    makers: dict[str, Callable[[int], nn.Module]] = {"torch": nn.BatchNorm2d, "bncli": partial(bncli.norm, "batch")}
    if has_triton(device):
        makers["triton"] = Triton
    shares: dict[tuple[str, str], list[float]] = {}
    faster: dict[tuple[str, str], list[float]] = {}
    for dtype in DTYPES:
        for layout, memory_format in LAYOUTS.items():
            for channels, side in RESNET50 if device.cuda else RESNET50[-1:]:
                shape = (batch, channels, side, side)
                case = f"{channels}x{side}x{side} {dtype} {layout}"
                times = timed_norms(device, makers, shape, DTYPES[dtype], memory_format)
                size = math.prod(shape) * torch.empty((), dtype=DTYPES[dtype]).element_size()
                for name in makers:
                    if name not in times:
                        continue
                    rate = figure([size / 1e12 / t for t in times[name]], "TB/s of x")
                    shares.setdefault((name, f"{dtype} {layout}"), []).append(rate["value"])
                    yield f"batch {case} {name} time", figure([1e6 * t for t in times[name]], "us")
                    if name != "torch":
                        one = figure(ratios(times["torch"], times[name]), "x torch's speed", ">= .95")
                        faster.setdefault((name, f"{dtype} {layout}"), []).append(one["value"])
                        yield f"batch {case} {name}", one
    for (name, group), rates in shares.items():
        for what, passes in PASSES.items():
            low, high = min(rates), max(rates)
            goal = ">= .85" if name != "torch" and what == "algorithmic" else ""
            unit = f"of the copy, {what}, lowest to highest"
            found = {"value": geometric_mean(rates), "low": low, "high": high}
            copy = FOUND.get("copy", {"value": 1.0})["value"]
            yield (
                f"batch {name}, {group}, {what}",
                {key: v * passes / copy for key, v in found.items()} | {"unit": unit, "goal": goal or None},
            )
    for (name, group), found_ratios in faster.items():
        low, high = min(found_ratios), max(found_ratios)
        yield (
            f"batch {name}, {group}, over torch",
            {"value": geometric_mean(found_ratios), "low": low, "high": high,
             "unit": "x torch's speed, lowest to highest", "goal": ">= 1.2"},
        )  # fmt: skip


def timed_norms(
    device: Device, makers: dict[str, Callable[[int], nn.Module]], shape: tuple[int, ...], dtype: torch.dtype,
    memory_format: torch.memory_format, graph: bool = True, rounds: int = 0,
) -> dict[str, list[float]]:  # fmt: skip
    """Forward and backward seconds of each; one that cannot be timed is left out, with a line that says why."""
    torch.manual_seed(0)
    x = torch.randn(shape, device=device.name).to(dtype)
    sets = []
    for _ in range(device.copies(2 * x.numel() * x.element_size())):
        one, g = (torch.randn_like(x).contiguous(memory_format=memory_format) for _ in range(2))
        sets.append((one.requires_grad_(), g))
    rivals = {}
    for name, make in makers.items():
        try:
            rivals[name] = device.ready(trained_once(make(shape[1]).to(device.name)), sets, graph)
        except Exception as error:
            say(f"  {name} at {tuple(shape)}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
            if device.cuda:
                torch.cuda.synchronize()
    found = device.paired(rivals, rounds)
    del rivals, sets
    if device.cuda:
        torch.cuda.empty_cache()
    return found


class Composition(nn.Module):
    """Whitening as it is usually written: by autograd through `root`, in groups of d channels."""

    def __init__(self, channels: int, root: Callable[[Tensor], Tensor], d: int, eps: float) -> None:
        super().__init__()
        self.root, self.d, self.eps = root, min(d, channels), eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_cov", torch.eye(self.d).repeat(channels // self.d, 1, 1))
        self.register_buffer("eye", torch.eye(self.d))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(0, 1).flatten(1)
        values = rows.view(-1, self.d, rows.shape[1])
        mean = values.mean(-1, keepdim=True)
        centred = values - mean
        S = centred @ centred.mT / values.shape[-1] + self.eps * self.eye
        with torch.no_grad():
            self.running_mean.mul_(0.9).add_(mean.flatten(), alpha=0.1)
            self.running_cov.mul_(0.9).add_(S, alpha=0.1)
        y = (self.root(S) @ centred).flatten(0, 1).view(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)
        each = (-1, *[1] * (x.ndim - 2))
        return y * self.weight.view(each) + self.bias.view(each)


def zca_root(S: Tensor) -> Tensor:
    values, U = torch.linalg.eigh(S)
    return (U * values.rsqrt().unsqueeze(-2)) @ U.mT


def iternorm_root(S: Tensor, T: int = 5) -> Tensor:
    n = S.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    P = torch.eye(S.shape[-1], device=S.device).expand_as(S)
    for _ in range(T):
        P = torch.baddbmm(P, torch.matrix_power(P, 3), S / n, beta=1.5, alpha=-0.5)
    return P * n.rsqrt()


ROOTS = {"iternorm": iternorm_root, "zca": zca_root}


def whitenings(device: Device) -> Iterator[tuple[str, Figure]]:
    """(c) Whitening against the composition that people write, called as it is and as a replayed graph."""
    for name, (d, eps) in WHITENERS.items():
        for shape in WHITENED if device.cuda else WHITENED[2:3]:
            makers: dict[str, Callable[[int], nn.Module]] = {
                "composition": partial(Composition, root=ROOTS[name], d=d, eps=eps),
                "bncli": partial(bncli.norm, name),
            }
            if has_triton(device):
                makers["triton"] = partial(bncli.norm, name, impl="fast")
            for graph in (True, False) if name == "iternorm" and device.cuda else (False,):
                how = "replayed" if graph else "called"
                rounds = 0 if graph else 9
                times = timed_norms(device, makers, shape, torch.float32, torch.contiguous_format, graph, rounds)
                for rival, seconds in times.items():
                    yield f"{name} {shape} {how} {rival} time", figure([1e6 * t for t in seconds], "us")
                for rival in ("bncli", "triton"):
                    if {rival, "composition"} <= times.keys():
                        goal = ">= 4" if name == "iternorm" else ""
                        found = ratios(times["composition"], times[rival])
                        yield f"{name} {shape} {how}, {rival}", figure(found, "x the composition's speed", goal)


class BlockEnd(nn.Module):
    """What a residual block ends with: batch norm, the sum with what went past, ReLU; by torch, or by one kernel."""

    def __init__(self, channels: int, fused: bool) -> None:
        super().__init__()
        self.norm, self.fused = nn.BatchNorm2d(channels), fused
        self.residual: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.residual is None:
            self.residual = torch.randn_like(x).requires_grad_()
        if not self.fused:
            return torch.relu(self.norm(x) + self.residual)
        from bncli.kernels.triton_norms import batch_norm

        n = self.norm
        return batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, 0.1, 1e-5, self.residual, True)


def forced(device: Device, batch: int) -> Iterator[tuple[str, Figure]]:
    """(i) What `impl: fast` forces and nothing chooses yet: rows, and the end of a block, against the plain way."""
    makers: dict[str, Callable[[int], nn.Module]]
    ways = {"plain": {"impl": "plain"}, **({"triton": {"impl": "fast"}} if has_triton(device) else {})}
    for name, (options, shapes) in ROW_NORMS.items():
        for shape in shapes if device.cuda else [(4, 64, 8, 8)]:
            for dtype, (layout, memory_format) in product(DTYPES, list(LAYOUTS.items())[: len(shape) // 2]):
                makers = {way: partial(bncli.norm, name, **options, **more) for way, more in ways.items()}
                times = timed_norms(device, makers, shape, DTYPES[dtype], memory_format, rounds=7)
                yield from compared(f"{name} {shape} {dtype} {layout}", times, "plain", math.prod(shape), dtype)
    for channels, side in BLOCK_ENDS if device.cuda else [(64, 7)]:
        for dtype, (layout, memory_format) in product(DTYPES, LAYOUTS.items()):
            shape = (batch, channels, side, side)
            makers = {"torch": partial(BlockEnd, fused=False)}
            if has_triton(device):
                makers["triton"] = partial(BlockEnd, fused=True)
            times = timed_norms(device, makers, shape, DTYPES[dtype], memory_format, rounds=7)
            yield from compared(f"block's end {shape} {dtype} {layout}", times, "torch", math.prod(shape), dtype)


def compared(
    case: str, times: dict[str, list[float]], rival: str, values: int, dtype: str
) -> Iterator[tuple[str, Figure]]:
    """Times of all; those of Triton also against the rival, and x's bytes a second as a share of the copy's."""
    copy = FOUND.get("copy", {"value": 1.0})["value"]
    for name, seconds in times.items():
        yield f"{case} {name} time", figure([1e6 * t for t in seconds], "us")
    if rival in times and "triton" in times:
        size = values * DTYPES[dtype].itemsize / 1e12
        yield f"{case} over {rival}", figure(ratios(times[rival], times["triton"]), f"x {rival}'s speed", ">= 1")
        share = [PASSES["speed of light"] * size / t / copy for t in times["triton"]]
        yield f"{case} speed of light", figure(share, "of the copy")


def costs(device: Device) -> Iterator[tuple[str, Figure]]:
    """(f) Every norm of activations against torch's batch norm, forward and backward."""
    shape = COSTS_AT if device.cuda else (4, 32, 8, 8)
    for name, row in NORMS.items():
        if row.side != "activation":
            continue
        makers: dict[str, Callable[[int], nn.Module]] = {"torch": nn.BatchNorm2d, name: partial(bncli.norm, name)}
        graph = can_be_captured(name, device)
        how = "replayed" if graph else "called"
        times = timed_norms(device, makers, shape, torch.float32, torch.contiguous_format, graph, 7)
        if len(times) == 2:
            yield f"cost {name}", figure(ratios(times[name], times["torch"]), f"x torch's batch norm's time, {how}")


class Names(TorchDispatchMode):
    """Takes down which operations ran."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.add(func)
        return func(*args, **(kwargs or {}))


def can_be_captured(name: str, device: Device) -> bool:
    """Whether a norm runs without operations that no CUDA graph takes; not tried, because a failure spoils the rest."""
    module, x = bncli.norm(name, 64).to(device.name), torch.randn(8, 64, 4, 4, device=device.name)
    with Names() as names:
        module(x)
    return device.cuda and not names.found & UNCAPTURABLE


def job(device: Device, base: dict[str, Any], norm: Any, lanes: int, steps: int, recipe: Any, engine: Any) -> Job:
    training = {**recipe, "steps": steps}
    study = study_of({
        **base, "variants": {"it": {"norm": norm}}, "reference": "it", "seeds": lanes, "training": training,
        "evaluation": {"every": steps, "split": "validation"},
    })  # fmt: skip
    return Job(tuple(runs_of(study, device.name, engine)))


def run_steps(device: Device, norm: Any, lanes: int, steps: int, engine: Any = "auto", **recipe: Any) -> float:
    """Run-steps a second of the engine, drawing of batches counted in, start and evaluation left out."""
    asked = job(device, FIGURE1, norm, lanes, steps, {**FIGURE1_TRAINING, **recipe}, engine)
    info = train(asked)[0].info
    PATHS[f"{norm} {lanes} {engine} {recipe.get('precision', '')}"] = info.engine
    return steps / (info.seconds["training"] + info.seconds["data"])  # seconds are a lane's share


def has_triton(device: Device) -> bool:
    return device.cuda and (Path(bncli.__file__).parent / "kernels" / "triton_norms.py").is_file()


def loop(device: Device, normed: bool, steps: int, loader: bool) -> float:
    """Steps a second of the loop that people write; with torch's DataLoader, or with data on the device by index."""
    layers: list[nn.Module] = []
    for a, b in pairwise(WIDTHS[:-1]):
        layers += [nn.Linear(a, b), *([nn.BatchNorm1d(b)] if normed else []), nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(*WIDTHS[-2:])).to(device.name)
    where = "cpu" if loader else device.name
    split = load(binarize=127, standardize=False, device=where).train
    x, y = split.inputs(torch.arange(len(split), device=where)), split.targets
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss()

    def batches() -> Iterator[Sequence[Tensor]]:
        data = torch.utils.data.TensorDataset(x, y)
        while loader:
            yield from torch.utils.data.DataLoader(data, batch_size=60, shuffle=True)
        while True:
            for index in torch.randperm(len(x), device=where).split(60):
                yield x[index], y[index]

    drawn, start = batches(), 0.0
    for step in range(-20, steps):
        if step == 0:
            if device.cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
        inputs, targets = next(drawn)
        optimizer.zero_grad()
        loss(model(inputs.to(device.name)), targets.to(device.name)).backward()
        optimizer.step()
    if device.cuda:
        torch.cuda.synchronize()
    return steps / (time.perf_counter() - start)


PATHS: dict[str, str] = {}
FOUND: dict[str, Figure] = {}


def studies(device: Device) -> Iterator[tuple[str, Figure]]:
    """(d) figure1's network: the engine's paths against the loop, in one run."""
    many, steps, sample = (64, 2000, 300) if device.cuda else (4, 60, 20)
    for norm in ("none", "batch"):
        rivals: dict[str, Callable[[], float]] = {
            "loop, DataLoader": partial(loop, device, norm == "batch", sample, True),
            "loop": partial(loop, device, norm == "batch", sample, False),
            f"{many} lanes": partial(run_steps, device, norm, many, steps),
            f"{many} lanes, tf32": partial(run_steps, device, norm, many, steps, precision="tf32"),
            f"{many} lanes, mixed": partial(run_steps, device, norm, many, steps, precision="mixed"),
            f"{many} lanes, Triton": partial(run_steps, device, {"name": "batch", "impl": "fast"}, many, steps),
            f"{many} lanes, untraced": partial(run_steps, device, norm, many, steps // 20, "untraced"),
            "10 lanes": partial(run_steps, device, norm, 10, steps),
            "alone": partial(run_steps, device, norm, 1, steps),
        }
        if norm == "none" or not has_triton(device):
            del rivals[f"{many} lanes, Triton"]
        for work in rivals.values():
            work()  # libraries and kernels are loaded
        rates = device.paired(rivals, 3)
        for name, values in rates.items():
            yield f"figure1 {norm}, {name}", figure(values, "run-steps/s")
        for name in ("loop", "loop, DataLoader"):
            yield (
                f"figure1 {norm}, {many} lanes over {name}",
                figure(ratios(rates[f"{many} lanes"], rates[name]), f"x the {name}'s run-steps", ">= 100"),
            )
    for name in ("zca", "iternorm", "cholesky", "layer", "rms"):
        for impl in ("auto", "fast") if has_triton(device) and name in ("iternorm", "layer", "rms") else ("auto",):
            part = {"name": name, "impl": impl}
            run_steps(device, part, many, steps // 10)
            rates_of = [run_steps(device, part, many, steps // 4) for _ in range(2)]
            yield f"figure1 {name}, {impl}, {many} lanes", figure(rates_of, "run-steps/s")
    for key, path in PATHS.items():
        say(f"  {key}: {path}")


class CompiledLoop:
    """A hand-written loop with torch.compile, bfloat16 autocast, channels_last and the fused optimiser."""

    def __init__(self, device: Device) -> None:
        start = time.perf_counter()
        self.device = device
        run = job(device, IMAGES, "batch", 1, 100, IMAGES_TRAINING, "auto").runs[0]
        self.size = run.training.batch_size
        self.model = build(run).to(device.name).to(memory_format=torch.channels_last)
        self.compiled: Any = torch.compile(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, fused=device.cuda)
        self.split = load(**run.data.options, device=device.name).train
        self.steps(5)
        self.start = time.perf_counter() - start

    def steps(self, count: int) -> float:
        """Steps a second."""
        loss, start = nn.CrossEntropyLoss(), _now(self.device)
        order = torch.randperm(len(self.split), device=self.device.name)
        for step in range(count):
            index = order[step % 400 * self.size :][: self.size]
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.name, torch.bfloat16):
                value = loss(self.compiled(self.split.inputs(index)), self.split.targets[index])
            value.backward()
            self.optimizer.step()
        return count / (_now(self.device) - start)


def _now(device: Device) -> float:
    if device.cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def images(device: Device) -> Iterator[tuple[str, Figure]]:
    """(e) A residual network of 20 layers and 64, 128, 256 channels in bfloat16 on 28 x 28, one run, batches of 128.

    CIFAR and ResNet-18 itself are not in bncli; this one takes as many operations an example to 20 %.
    """
    steps, epoch = (200, 430) if device.cuda else (50, 2)
    made = CompiledLoop(device)
    ours, theirs, starts, first = [], [], [], made.start
    for _ in range(3 if device.cuda else 1):
        theirs.append(made.steps(steps))
        info = train(job(device, IMAGES, "batch", 1, steps, IMAGES_TRAINING, "auto"))[0].info
        PATHS["resnet"] = info.engine
        ours.append(steps / (info.seconds["training"] + info.seconds["data"]))
        starts.append(info.seconds["start"] + info.seconds["compilation"])
    yield "resnet, torch.compile loop", figure(theirs, "steps/s")
    yield "resnet, torch.compile loop, start", figure([first], "s")
    yield "resnet, bncli", figure(ours, "steps/s")
    yield "resnet, bncli, start", figure(starts, "s")
    whole = [
        (first + EPOCHS * epoch / b) / (s + EPOCHS * epoch / a) for a, b, s in zip(ours, theirs, starts, strict=True)
    ]
    yield f"resnet, bncli over the loop, {EPOCHS} epochs with start", figure(whole, "x the loop's speed", ">= .9")
    yield "resnet, bncli over the loop, steps alone", figure(ratios(ours, theirs), "x the loop's speed", ">= .9")
    say(f"  {PATHS['resnet']}")


def convolved_lanes(device: Device) -> Iterator[tuple[str, Figure]]:
    """(g) Whether convolutions gain by lanes."""
    base = {"data": {"name": "mnist"}, "model": {"name": "convnet", "channels": [16, 32, 64]}}
    steps, many = (300, 16) if device.cuda else (50, 3)
    rates: dict[int, list[float]] = {1: [], many: []}
    for turn in range(4):
        for lanes, found in rates.items():
            info = train(job(device, base, "batch", lanes, steps, {"batch_size": 128, "lr": 0.05}, "auto"))[0].info
            if turn:
                found.append(steps / (info.seconds["training"] + info.seconds["data"]))
    yield f"convnet, {many} lanes over one by one", figure(ratios(rates[many], rates[1]), "x run-steps")
    yield "convnet, alone", figure(rates[1], "run-steps/s")


def whole_commands(device: Device) -> Iterator[tuple[str, Figure]]:
    """(h) Commands from start to end."""
    import tempfile

    for name, more in {"quickstart": [], "quickstart, 40 seeds": ["--seeds", "40"]}.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "bncli", "compare", "--device", device.name, "--store", folder, *more]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=environment)
            yield f"bncli compare {name}", figure([time.perf_counter() - start], "s")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object {figure: {value, low, high, unit, goal}}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--batch", type=int, default=64, help="examples of the shapes of ResNet-50")
    parser.add_argument("--only", default="", help="parts: a,b,c,d,e,f,g,h,i")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"skipped: torch {torch.__version__} sees no CUDA device here")
        return 0
    device = Device(options.device, options.rounds)
    parts: dict[str, Callable[[], Iterator[tuple[str, Figure]]]] = {
        "a": partial(ceilings, device),
        "d": partial(studies, device),
        "c": partial(whitenings, device),
        "b": partial(batch_norms, device, options.batch if device.cuda else 2),
        "g": partial(convolved_lanes, device),
        "i": partial(forced, device, options.batch if device.cuda else 2),
        "h": partial(whole_commands, device),
        "f": partial(costs, device),
        "e": partial(images, device),
    }
    say(f"torch {torch.__version__}, {torch.cuda.get_device_name() if device.cuda else 'processor'}")
    failed = False
    for key, part in parts.items():
        if options.only and key not in options.only.split(","):
            continue
        start = time.perf_counter()
        try:
            for name, one in part():
                FOUND[name] = one
                goal = f"  goal {one['goal']}" if one["goal"] else ""
                text = f"{name:64} {one['value']:10.4g}  [{one['low']:.4g}, {one['high']:.4g}] {one['unit']}{goal}"
                print(text, file=sys.stderr if options.json else sys.stdout, flush=True)
        except Exception:
            failed = True
            say(f"part ({key}) failed:\n{traceback.format_exc()}")
        say(f"  ({key}) took {time.perf_counter() - start:.1f} s")
    if options.json:
        print(json.dumps(FOUND, indent=1))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
