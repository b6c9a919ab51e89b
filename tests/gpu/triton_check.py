"""Checks and times the Triton kernels on a GPU: python tests/gpu/triton_check.py [--seconds 95] [--batch 64].

Correctness against float64 first, then tables: for ResNet-50's shapes, both layouts and two dtypes, the fastest of a
handful of launch parameters beside torch's own, as fractions of the copy bandwidth measured in the same process, by
the least bytes (forward 2 passes over x, backward 3); all candidates go to triton_plans.txt in $OUT or here. Inputs are rotated so that each call finds a cold L2, and
launches are replayed from a CUDA graph. A part that fails prints its traceback and the next one runs.
"""

import argparse
import gc
import itertools
import math
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from bncli.kernels import triton_group_norm, triton_launch, triton_norms, triton_whitening, whitening
from bncli.kernels.triton_launch import LaunchPlan, MemoryLayout, choose_plan, launch_backward, launch_forward, layout
from bncli.kernels.triton_norms import batch_norm
from bncli.norms import roots

RESNET50 = [
    (64, 112), (256, 56), (64, 56), (512, 28), (128, 28), (1024, 14), (256, 14), (2048, 7), (512, 7),
    (128, 56), (256, 28), (512, 14),
]  # fmt: skip
TOLERANCES = {torch.float32: 5e-6, torch.bfloat16: 5e-3, torch.float16: 5e-4}
CACHE = 200e6  # bytes to rotate through: four times an H100's L2
STARTED = time.perf_counter()
DETAILS = Path(os.environ.get("OUT", ".")) / "triton_plans.txt"  # every candidate of every case


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=95.0)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--ordered", action="store_true", help="only equal bits and timing: about a minute")
    given = arguments.parse_args()
    torch.manual_seed(0)
    part("machine", machine)
    part("compilation, in processes", lambda: compile_all(given.batch))
    if given.ordered:
        bandwidth = part("copy bandwidth", copy_bandwidth) or 2.4e12
        part("equal bits", check_bits)
        part("without a graph", time_eager)
        part("timing", lambda: time_all(given.batch, bandwidth, given.seconds, True))
        return
    ordered = part("correctness", check_all)
    part("equal bits", check_bits)
    bandwidth = part("copy bandwidth", copy_bandwidth) or 3e12
    part("without a graph", time_eager)
    part("rows, ends of blocks, whitening", check_others)
    part("timing", lambda: time_all(given.batch, bandwidth, given.seconds, bool(ordered)))
    part("compiler and lanes", check_compiler)
    print(f"done in {time.perf_counter() - STARTED:.0f} s")


def part(name: str, run: Callable[[], object]) -> object:
    print(f"== {name} (at {time.perf_counter() - STARTED:.1f} s)", flush=True)
    try:
        return run()
    except Exception:
        traceback.print_exc(limit=8, file=sys.stdout)
        return None


def machine() -> None:
    import triton

    print(f"torch {torch.__version__}, triton {triton.__version__}, {torch.cuda.get_device_name()}", flush=True)


def drawn(shape: tuple[int, ...], dtype: torch.dtype, last: bool, mean: float = 0.5) -> Tensor:
    x = (torch.randn(shape, device="cuda") * 2 + mean).to(dtype)
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x


def parameters(channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight, bias and running statistics."""
    weight, bias = torch.linspace(0.5, 2, channels, device="cuda"), torch.linspace(-1, 1, channels, device="cuda")
    return weight, bias, torch.zeros(channels, device="cuda"), torch.ones(channels, device="cuda")


def compile_all(batch: int) -> None:
    """Every kernel once in one of many processes, so that this one finds them in Triton's cache on disk."""
    jobs: dict[tuple[object, ...], tuple[object, ...]] = {}
    for shape, dtype, last in CHECKED:
        x = torch.empty(shape, dtype=dtype)
        at = layout(x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x)[1]
        for plan, backward in itertools.product(check_plans(at), [False, True]):
            jobs[shape, dtype, last, plan, backward] = (shape, dtype, last, plan, backward)
    for (channels, side), dtype, last in itertools.product(RESNET50, [torch.bfloat16, torch.float32], [False, True]):
        at = MemoryLayout(batch * side**2, channels, side**2, last, torch.finfo(dtype).bits // 8)
        for backward in (False, True):
            for plan in [choose_plan(at, backward), *plans(at, backward)]:
                key = (0 if last else side, dtype, last, replace(plan, tiles=1, group=1), backward)
                jobs.setdefault(key, ((16, channels, side, side), dtype, last, plan, backward))
    with multiprocessing.get_context("spawn").Pool(max(2, min(14, (os.cpu_count() or 2) - 2))) as pool:
        found, deadline = pool.imap_unordered(compile_one, jobs.values()), time.perf_counter() + 50
        for _ in jobs:
            if (problem := found.next(timeout=max(0.1, deadline - time.perf_counter()))) is not None:
                print(problem)
    print(f"{len(jobs)} jobs", flush=True)


def compile_one(job: tuple) -> str | None:
    shape, dtype, last, plan, backward = job
    try:
        x, (weight, bias, mean, var) = drawn(shape, dtype, last), parameters(shape[1])
        if backward:
            launch_backward(x, x, weight, torch.stack([mean, var]), plan)
        else:
            launch_forward(x, (mean, var), weight, bias, 0.1, 1e-5, (mean, var), plan)
        torch.cuda.synchronize()
    except Exception as problem:
        return f"FAILED to compile or run {job}: {type(problem).__name__}: {str(problem)[:300]}"
    return None


def time_eager() -> None:
    """Microseconds of a call from Python, forward and backward, where the launches are what takes long."""
    x, gy = drawn((64, 64, 7, 7), torch.float32, False), drawn((64, 64, 7, 7), torch.float32, False)
    for name, kernel in (("torch", reference), ("ours", batch_norm)):
        weight, bias, mean, var = parameters(64)
        inputs = [t.detach().requires_grad_() for t in (x, weight, bias)]
        for count in (20, 200):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(count):
                y = kernel(inputs[0], mean, var, inputs[1], inputs[2], 0.1, 1e-5)
                torch.autograd.grad(y, inputs, gy)
            torch.cuda.synchronize()
            took = (time.perf_counter() - begin) / count
        print(f"{name}: {took * 1e6:.0f} us", flush=True)


def reference(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, momentum: float, eps: float
) -> Tensor:
    return F.batch_norm(x, mean, var, weight, bias, True, momentum, eps)


# Correctness.

CHECKED = [
    (shape, dtype, last)
    for shape, dtypes in {
        (16, 64, 28, 28): [torch.float32, torch.bfloat16],
        (8, 256, 56, 56): [torch.bfloat16],
        (16, 33, 13, 11): [torch.float32, torch.float16],
        (4, 1, 50, 50): [torch.float32],
        (300, 257): [torch.float32, torch.bfloat16],
        (5, 3, 9): [torch.float32],
    }.items()
    for dtype in dtypes
    for last in (False, True)
]


def check_all() -> bool:
    """Every way on small, odd and large shapes; whether the ordered way was right everywhere."""
    triton_launch._LOOKS = 2**16  # a wait that never ends ends in a twentieth of a second
    ways = ("single", "staged", "ordered")
    right, worst = dict.fromkeys(ways, True), dict.fromkeys(ways, 0.0)
    for shape, dtype, last in CHECKED:
        x, gy = drawn(shape, dtype, last), drawn(shape, dtype, last)
        expected = true(x, gy)
        for plan in check_plans(layout(x)[1]):
            name = f"{shape} {str(dtype)[6:]} {'last' if last else 'first'} {plan}"
            try:
                error = relative_errors(ours(x, gy, plan), expected)
            except Exception as problem:
                print(f"FAILED {name}: {type(problem).__name__}: {str(problem)[:300]}")
                right[plan.way] = False
                continue
            worst[plan.way] = max(worst[plan.way], max(error) / TOLERANCES[dtype])
            if not max(error) <= TOLERANCES[dtype]:
                print(f"WRONG {name}: {[f'{e:.1e}' for e in error]}")
                right[plan.way] = False
    print("largest error over tolerance:", {k: f"{v:.2f}" for k, v in worst.items()}, "right:", right, flush=True)
    return right["ordered"]


def check_plans(at: MemoryLayout) -> Iterator[LaunchPlan]:
    cols = min(32, 1 << (at.C - 1).bit_length()) if at.last else 1
    yield LaunchPlan("staged", 1024 // cols, cols, 4, 4)
    yield LaunchPlan("ordered", 1024 // cols, cols, 4, 4, 3)
    yield LaunchPlan("ordered", 4096 // cols, cols, 2, 8, 1, hints=False)
    power = 1 << (at.M - 1).bit_length()
    if power <= 2**14:
        yield LaunchPlan("single", power, 1, 1, max(1, power // 1024))


def true(x: Tensor, gy: Tensor) -> list[Tensor]:
    weight, bias, mean, var = (t.double() for t in parameters(x.shape[1]))
    inputs = [t.double().requires_grad_() for t in (x, weight, bias)]
    y = F.batch_norm(inputs[0], mean, var, inputs[1], inputs[2], True, 0.1, 1e-5)
    return [y.detach(), mean, var, *torch.autograd.grad(y, inputs, gy.double())]


def ours(x: Tensor, gy: Tensor, plan: LaunchPlan | None) -> list[Tensor]:
    weight, bias, mean, var = parameters(x.shape[1])
    y, saved = launch_forward(x, (mean, var), weight, bias, 0.1, 1e-5, (mean, var), plan)
    return [y, mean, var, *launch_backward(gy, x, weight, saved, plan)[:3]]


def relative_errors(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    """Nan, which no tolerance passes, as infinity; parameters' gradients, sums that can vanish, over what they sum."""
    least = float(expected[0].numel()) ** 0.5  # of the sums of M C values around 1 in size
    norms = [float(b.norm()) if b.ndim > 1 else max(float(b.norm()), least * (k > 3)) for k, b in enumerate(expected)]
    errors = [float((a.double() - b).norm()) / n for a, b, n in zip(found, expected, norms, strict=True)]
    return [math.inf if math.isnan(e) else e for e in errors]


def check_others() -> None:
    """The kernels that nothing chooses yet, against float64 at sizes past those of the tests; and equal bits."""
    weight, bias, *_ = parameters(256)
    for shape, groups in {(16, 256, 28, 28): 32, (16, 256, 56, 56): 1, (1000, 256): 8, (4, 256, 1): 1}.items():
        for dtype, last, centred in itertools.product(TOLERANCES, [False, True], [False, True]):
            x, gy = drawn(shape, dtype, last), drawn(shape, dtype, last)
            say_errors(
                f"group norm {shape} {groups} {str(dtype)[6:]} {'last' if last else 'first'} {centred}", dtype,
                lambda x, w, b, g=groups, c=centred: triton_group_norm.group_norm(x, g, w, b, 1e-5, c),
                lambda x, w, b, g=groups, c=centred: triton_group_norm.plain(x, g, w, b, 1e-5, c), (x, weight, bias), gy,
            )  # fmt: skip
    for shape, dtype, last in itertools.product([(16, 256, 28, 28), (32, 256, 56, 56)], TOLERANCES, [False, True]):
        x, gy, residual = (drawn(shape, dtype, last) for _ in range(3))
        say_errors(
            f"block's end {shape} {str(dtype)[6:]} {'last' if last else 'first'}", dtype,
            lambda x, w, b, r: triton_norms.batch_norm(x, None, None, w, b, 0.1, 1e-5, r, True),
            lambda x, w, b, r: triton_norms.plain(x, None, None, w, b, 0.1, 1e-5, r, True),
            (x, weight, bias, residual), gy,
        )  # fmt: skip
    steps, sizes = roots.newton_schulz_form(5), [(16, 256, 28, 28), (4096, 256)]
    forms = {
        "iternorm": (partial(roots.newton_schulz, T=5), triton_whitening.newton_schulz_form(5, steps), torch.float32),
        "zca": (roots.inverse_root, roots.INVERSE_ROOT, torch.float64),
    }
    for name, d, shape, last, precision in itertools.product(forms, [16, 64], sizes, [False, True], ["ieee", "tf32x3"]):
        triton_whitening.PRECISION = precision
        root, closed, dtype = forms[name]
        x, gy = drawn(shape, torch.float32, last), drawn(shape, torch.float32, last)
        eye = torch.eye(d, device="cuda").repeat(256 // d, 1, 1)
        say_errors(
            f"{name} {shape} groups of {d} {'last' if last else 'first'} {precision}", torch.float32,
            lambda x, w, b, r=root, c=closed, e=eye, d=dtype: triton_whitening.fast(x, w, b, e.to(d), 1e-3, r, c)[0],
            lambda x, w, b, r=root, e=eye: whitening.plain(x, w, b, e.double(), 1e-3, r)[0], (x, weight, bias), gy,
        )  # fmt: skip
    triton_whitening.PRECISION = "ieee"


def say_errors(
    name: str, dtype: torch.dtype, kernel: Callable[..., Tensor], plain: Callable[..., Tensor],
    inputs: tuple[Tensor, ...], gy: Tensor,
) -> None:  # fmt: skip
    """A line for what is wrong or differs from call to call, and for what fails; nothing for what is right."""

    def both(call: Callable[..., Tensor], wide: bool) -> list[Tensor]:
        leaves = [(t.double() if wide else t).detach().requires_grad_() for t in inputs]
        y = call(*leaves)
        return [y.detach(), *torch.autograd.grad(y, leaves, gy.to(y.dtype))]

    try:
        found, again, expected = both(kernel, False), both(kernel, False), both(plain, True)
        errors = [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]
        if not max(errors) <= 4 * TOLERANCES[dtype]:
            print(f"WRONG {name}: {[f'{e:.1e}' for e in errors]}")
        if not all(torch.equal(a, b) for a, b in zip(found, again, strict=True)):
            print(f"OTHER BITS {name}")
    except Exception as problem:
        print(f"FAILED {name}: {type(problem).__name__}: {str(problem)[:300]}")
    sys.stdout.flush()


def check_bits() -> None:
    """Ten calls of each way on a large input give equal bits: no sum depends on who comes first."""
    for last in (False, True):
        x, gy = drawn((32, 256, 56, 56), torch.bfloat16, last), drawn((32, 256, 56, 56), torch.bfloat16, last)
        for way in ("staged", "ordered"):
            plan = replace(choose_plan(layout(x)[1], False), way=way, group=8)
            first = ours(x, gy, plan)
            same = all(all(torch.equal(a, b) for a, b in zip(first, ours(x, gy, plan), strict=True)) for _ in range(10))
            print(f"{way} {'last' if last else 'first'}: equal bits {same}, errors", end=" ")
            print([f"{e:.1e}" for e in relative_errors(first, true(x, gy))], flush=True)


def check_compiler() -> None:
    """torch.compile keeps the operations; lanes equal one at a time."""
    x, gy = drawn((16, 32, 14, 14), torch.float32, False), drawn((16, 32, 14, 14), torch.float32, False)
    expected = true(x, gy)
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    for name, how in (("graph", backend), ("inductor", "inductor")):
        try:
            weight, bias, mean, var = parameters(32)
            inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]

            def step(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
                return batch_norm(x, mean, var, weight, bias, 0.1, 1e-5) * 1.0

            y = torch.compile(step, backend=how, fullgraph=True)(inputs[0], mean, var, *inputs[1:])
            found = [y.detach(), mean, var, *torch.autograd.grad(y, inputs, gy)]
            print(f"compile, {name}: errors", [f"{e:.1e}" for e in relative_errors(found, expected)], flush=True)
        except Exception:
            traceback.print_exc(limit=4, file=sys.stdout)
    print("kept by the compiler:", any("triton_batch_norm" in name for name in seen))

    def loss(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, gy: Tensor) -> Tensor:
        return (batch_norm(x, mean, var, weight, bias, 0.1, 1e-5) * gy).sum()

    weight, bias, mean, var = (torch.stack([t, t]) for t in parameters(32))
    twice = torch.stack([x, x]), weight, bias, mean, var, torch.stack([gy, gy])
    gradients = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)))(*twice)
    found = [mean[1], var[1], *[g[1] for g in gradients]]
    print("lanes: errors", [f"{e:.1e}" for e in relative_errors(found, expected[1:])], flush=True)


# Timing.


def copy_bandwidth() -> float:
    """Bytes read and written a second by a large device-to-device copy."""
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    seconds = replayed([lambda: target.copy_(source)], 10)
    rate = 2 * source.numel() * 4 / seconds
    print(f"copy {rate / 1e12:.2f} TB/s", flush=True)
    return rate


def replayed(calls: list[Callable[[], object]], least: int = 5) -> float:
    """Median seconds of a call over replays of a CUDA graph of all calls."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    torch.cuda.synchronize()
    times = []
    for _ in range(least):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in "be")
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3 / len(calls))
    return statistics.median(times)


def plans(at: MemoryLayout, backward: bool) -> Iterator[LaunchPlan]:
    """Candidates for one kernel, the likeliest first."""
    values = at.itemsize * (2 if backward else 1)
    power = 1 << (at.M - 1).bit_length()

    def ordered(rows: int, cols: int, tiles: int, warps: int, phase: float, hints: bool = True) -> LaunchPlan:
        tiles = max(tiles, math.ceil(at.M / (rows * 256)))
        return LaunchPlan(
            "ordered", rows, cols, tiles, warps, max(1, round(phase * 2**20 / (at.M * cols * values))), hints
        )

    if not at.last:
        if power <= 2**15:
            yield LaunchPlan("single", power, 1, 1, max(1, min(32, power // 1024)))
            yield LaunchPlan("single", power, 1, 1, max(1, min(32, power // 512)))
        yield ordered(4096, 1, 4, 8, 8)
        yield ordered(2048, 1, 4, 4, 4)
        if power > 2**15:
            yield ordered(4096, 1, 4, 8, 16)
            yield ordered(4096, 1, 2, 8, 8)
            yield ordered(8192, 1, 2, 16, 8)
            yield ordered(4096, 1, 4, 8, 8, hints=False)
        yield LaunchPlan("staged", 4096, 1, max(4, math.ceil(at.M / 2**20)), 8)
        return
    narrow, wide = 32 // at.itemsize, 128 // at.itemsize
    if power * narrow <= 2**16:
        yield LaunchPlan("single", power, narrow // 2, 1, max(1, min(32, power * narrow // 2048)))
    yield ordered(4096 // wide, wide, 4, 8, 8)
    yield ordered(2048 // wide, wide, 4, 4, 4)
    if at.M > 10000:
        yield ordered(4096 // wide, wide, 16, 8, 16)
        yield ordered(8192 // wide, wide // 2, 4, 8, 8)
        yield ordered(4096 // wide, wide, 4, 8, 8, hints=False)
    yield LaunchPlan("staged", 4096 // wide, wide, max(4, math.ceil(at.M * wide / 2**20)), 8)


def time_all(batch: int, bandwidth: float, seconds: float, ordered: bool) -> None:
    """One line a case with the best plans, all candidates under it."""
    ratios: dict[str, list[float]] = {}
    cases = itertools.product(RESNET50, [torch.bfloat16, torch.float32], [False, True])
    for (channels, side), dtype, last in cases:
        if time.perf_counter() - STARTED > seconds:
            print("no time left for the rest")
            break
        try:
            time_case((batch, channels, side, side), dtype, last, bandwidth, ordered, ratios)
        except Exception:
            traceback.print_exc(limit=6, file=sys.stdout)
        gc.collect()
        torch.cuda.empty_cache()
    for name, values in ratios.items():
        print(f"{name}: geometric mean {statistics.geometric_mean(values):.3f}, least {min(values):.3f}, {len(values)}")


def time_case(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    last: bool,
    bandwidth: float,
    ordered: bool,
    ratios: dict[str, list[float]],
) -> None:
    weight, bias, mean, var = parameters(shape[1])
    size = math.prod(shape) * torch.finfo(dtype).bits / 8
    copies = max(1, math.ceil(CACHE / size / 2))
    sets = [(drawn(shape, dtype, last), drawn(shape, dtype, last)) for _ in range(copies)]
    at = layout(sets[0][0])[1]
    name = f"{shape[1]:4d} x {shape[2]:3d} {str(dtype)[6:]:8s} {'last ' if last else 'first'}"

    def torch_forward(x: Tensor) -> Tensor:
        return F.batch_norm(x, mean, var, weight, bias, True, 0.1, 1e-5)

    def both(kernel: Callable[..., Tensor], x: Tensor, gy: Tensor) -> object:
        inputs = [t.detach().requires_grad_() for t in (x, weight, bias)]
        y = kernel(inputs[0], mean, var, inputs[1], inputs[2], 0.1, 1e-5)
        return torch.autograd.grad(y, inputs, gy)

    theirs = replayed([lambda x=x: torch_forward(x) for x, _ in sets])
    theirs_both = replayed([lambda x=x, gy=gy: both(reference, x, gy) for x, gy in sets])
    default = replayed([lambda x=x, gy=gy: both(batch_norm, x, gy) for x, gy in sets])
    _, saved = launch_forward(sets[0][0], (mean, var), weight, bias, 0.1, 1e-5, (mean, var))
    best: list[tuple[float, LaunchPlan]] = []
    lines = []
    for backward in (False, True):
        found = []
        for plan in [choose_plan(at, backward), *plans(at, backward)]:
            if plan.way == "ordered" and not ordered:
                continue
            try:
                if backward:
                    calls = [lambda x=x, gy=gy, p=plan: launch_backward(gy, x, weight, saved, p) for x, gy in sets]
                else:
                    calls = [
                        lambda x=x, p=plan: launch_forward(x, (mean, var), weight, bias, 0.1, 1e-5, (mean, var), p)
                        for x, _ in sets
                    ]
                found.append((replayed(calls), plan))
            except Exception as problem:
                print(f"    {plan}: {type(problem).__name__}: {str(problem)[:200]}")
        found.sort(key=lambda pair: pair[0])
        best.append(found[0])
        passes = 3 if backward else 2
        for took, plan in found:
            way = (
                f"{plan.way} {plan.rows}x{plan.channels} t{plan.tiles} w{plan.warps} g{plan.group}"
                f"{'' if plan.hints else ' nohints'}"
            )
            lines.append(
                f"{'bwd' if backward else 'fwd'} {took * 1e6:.1f} {passes * size / took / bandwidth:.2f} {way}"
            )
    (forward, _), (backward_, _) = best
    total = forward + backward_
    ratios.setdefault("forward", []).append(theirs / forward)
    ratios.setdefault("forward and backward, best plans", []).append(theirs_both / total)
    ratios.setdefault("forward and backward, default plans", []).append(theirs_both / default)
    print(
        f"{name} | fwd us: torch {theirs * 1e6:.1f} ours {forward * 1e6:.1f} x{theirs / forward:.2f}"
        f" copy {2 * size / forward / bandwidth:.2f}"
        f" | both: torch {theirs_both * 1e6:.1f} ours {total * 1e6:.1f} x{theirs_both / total:.2f}"
        f" copy {5 * size / total / bandwidth:.2f} | default {default * 1e6:.1f} x{theirs_both / default:.2f}"
    )
    with DETAILS.open("a") as file:
        file.write("\n    ".join([name, *lines]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
