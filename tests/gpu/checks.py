"""What has to hold on a device, as functions that raise: for `smoke`, which prints, and for the tests beside it.

Everything is held against the same on the processor in float64, by |found - expected| / |expected| over all of a tensor.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from bncli.config.study import study_of
from bncli.engine import captured
from bncli.engine.train import _Loop, train
from bncli.kernels import fallbacks_noted
from bncli.models.unit import initialise
from bncli.norms import NORMS, norm, normalise
from bncli.plan import Job, runs_of
from bncli.records import RunResult

# The largest relative error by the number format of the input; TF32 is what torch takes for convolutions on a GPU.
TOLERANCES = {"f32": 2e-4, "bf16": 1.5e-2, "tf32": 3e-3}
# Where rounding grows: eigenvectors by 1 / (difference of eigenvalues), and what they are multiplied by.
LOOSER = {"pca": 20.0, "zca-cor": 5.0, "deconv": 5.0, "online": 10.0, "switchable-whitening": 5.0}
CHANNELS = 24
SMALL = {
    "group_size": 8,
    "groups": 4,
    **{"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0},  # an output that can be had twice
}
SHAPES = {
    "NC": (64, CHANNELS),
    "NCHW": (8, CHANNELS, 7, 5),
    "long": (16, CHANNELS, 24, 20),
    "last": (8, CHANNELS, 6, 5),
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
OF_ACTIVATIONS = [name for name, row in NORMS.items() if row.side == "activation"]
OF_WEIGHTS = [name for name, row in NORMS.items() if row.side == "weight"]
OF_NETWORKS = [name for name, row in NORMS.items() if row.side == "network"]
# Norms that have Triton kernels, which `impl: fast` forces, and shapes of which they refuse none.
FORCED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "batch": ({}, tuple(SHAPES)),
    "layer": ({}, tuple(SHAPES)),
    "rms": ({}, tuple(SHAPES)),
    "group": ({}, tuple(SHAPES)),
    "layer, channels": ({"over": "channels"}, tuple(SHAPES)),
    "iternorm": ({}, tuple(SHAPES)),
    "zca": ({}, ("NCHW", "long", "last")),  # of few values roots and products are in double precision
    "cholesky": ({}, ("NCHW", "long", "last")),
}
IN_LANES = [name for name in OF_ACTIVATIONS if NORMS[name].lanes]


def shapes(name: str) -> list[str]:
    """The names of the shapes that a norm takes."""
    return [shape for shape, size in SHAPES.items() if len(size) > 2 or not NORMS[name].needs_locations]


def build(name: str, **more: Any) -> nn.Module:
    """A norm of 24 channels with parameters that are not the initial ones."""
    torch.manual_seed(1)
    small = {key: value for key, value in SMALL.items() if key in NORMS[name].options}
    return stirred(norm(name, CHANNELS, **small, **more))


def stirred(module: nn.Module) -> nn.Module:
    """The module with every parameter moved a little."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return module


def data(*shape: int) -> Tensor:
    """Correlated channels, away from mean 0 and variance 1, all of different scale."""
    x = torch.randn(*shape) * torch.linspace(0.5, 2, shape[1]).view(-1, *[1] * (len(shape) - 2))
    return x + 0.4 * x.roll(1, 1) + torch.arange(shape[1]).view(-1, *[1] * (len(shape) - 2)) / shape[1]


def norm_is_right(name: str, shape: str, dtype: str, device: str, **more: Any) -> float:
    """A norm's training and evaluation, forward and backward; returns the largest relative error."""
    module, size = build(name, **more), SHAPES[shape]
    x, weights = data(*size).to(DTYPES[dtype]), torch.randn(size).to(DTYPES[dtype])
    there = copy.deepcopy(module).to(device)
    tolerance = TOLERANCES[dtype] * LOOSER.get(name, 1.0)
    worst = 0.0
    for training in (True, False):
        expected = passed(module.double().train(training), x.double(), weights.double())
        x_there, weights_there = x.to(device), weights.to(device)
        if shape == "last":
            x_there, weights_there = (t.contiguous(memory_format=torch.channels_last) for t in (x_there, weights_there))
        found = passed(there.train(training), x_there, weights_there)
        assert found["y"].dtype == found["gradient of x"].dtype == DTYPES[dtype], f"gives {found['y'].dtype}"
        worst = max(worst, compared(found, expected, tolerance, "training" if training else "evaluation"))
    return worst


def autocast_changes_nothing(name: str, dtype: str, device: str) -> float:
    """Within autocast a norm gives what it gives without, in the input's own number format."""
    module = build(name).to(device)
    x = data(*SHAPES["NCHW"]).to(device, DTYPES[dtype])
    plain = copy.deepcopy(module)(x)
    with torch.autocast(device, torch.bfloat16):
        y = module(x)
    assert y.dtype == x.dtype, f"gives {y.dtype} for {x.dtype}"
    return compared({"y": y}, {"y": plain.double().cpu()}, TOLERANCES["f32"] if dtype == "f32" else 1e-2, "autocast")


def weight_norm_is_right(name: str, of: str, device: str) -> float:
    """A norm of weights on a linear layer or a convolution."""
    torch.manual_seed(1)
    layer = nn.Linear(CHANNELS, 12) if of == "linear" else nn.Conv2d(CHANNELS, 12, 3)
    module = stirred(normalise(layer, name))
    size = SHAPES["NC" if of == "linear" else "NCHW"]
    x = data(*size)
    there, exact = copy.deepcopy(module).to(device), module.double()
    weights = torch.randn_like(exact(x.double()))
    expected = passed(exact, x.double(), weights)
    found = passed(there, x.to(device), weights.float().to(device))
    return compared(found, expected, TOLERANCES["f32" if of == "linear" else "tf32"], "training")


def kernel_is_right(name: str, shape: str, dtype: str, device: str, **more: Any) -> float:
    """A norm by its Triton kernel; that another way was taken in its place is an error."""
    found: list[str] = []
    with fallbacks_noted(found):
        worst = norm_is_right(name, shape, dtype, device, impl="fast", **more)
    assert device == "cpu" or not [line for line in found if "not cpu" not in line], found
    return worst


def batch_norm_ends_a_block(device: str, dtype: str, last: bool) -> float:
    """Batch norm with the sum and the ReLU that end a residual block, in its own kernels."""
    from bncli.kernels import triton_norms

    kernel = triton_norms.batch_norm if device == "cuda" else triton_norms.plain
    layout = torch.channels_last if last else torch.contiguous_format
    drawn = [data(8, CHANNELS, 20, 20).to(DTYPES[dtype]) for _ in range(2)]
    weights, pair = torch.randn(drawn[0].shape).to(DTYPES[dtype]), [torch.randn(CHANNELS) for _ in range(2)]
    found = []
    for run, where, wide in ((triton_norms.plain, "cpu", True), (kernel, device, False)):
        x, residual = (t.to(where).contiguous(memory_format=layout) for t in drawn)
        inputs = [t.to(where, torch.float64 if wide else t.dtype).requires_grad_() for t in (x, residual, *pair)]
        y = run(inputs[0], None, None, inputs[2], inputs[3], 0.1, 1e-5, inputs[1], True)
        gradients = torch.autograd.grad((y * weights.to(where)).sum(), inputs)
        found.append({"y": y, **{f"gradient {k}": g for k, g in enumerate(gradients)}})
    # what rounding moves across 0 before the ReLU has another gradient: of 2^16 values one, or one in some 2^8
    return compared(found[1], found[0], 1e-2 if dtype == "f32" else 0.15, "training")


def lanes_are_right(name: str, device: str, spoilt: bool = False, **more: Any) -> float:
    """Lanes of a norm under vmap, differentiated from outside, are what each alone is; also beside one of NaN."""
    shape = SHAPES["NCHW" if NORMS[name].needs_locations else "NC"]
    modules = [stirred(build(name, **more)).to(device) for _ in range(3)]
    x = torch.stack([data(*shape) for _ in modules]).to(device)
    if spoilt:
        x[1, 3, 2] = torch.nan
    weights = torch.randn(shape, device=device)
    parameters, buffers = stack_module_state(copy.deepcopy(modules))
    leaf = x.clone().requires_grad_()
    call = torch.vmap(lambda p, b, x: functional_call(modules[0], ({**p}, {**b}), (x,)), in_dims=(0, 0, 0))
    y = call(parameters, buffers, leaf)
    (y * weights).sum().backward()
    worst = 0.0
    for lane in (0, 2) if spoilt else range(3):
        found = {"y": y[lane], "gradient of x": leaf.grad[lane]}
        found |= {f"gradient of {key}": p.grad[lane] for key, p in parameters.items() if p.grad is not None}
        found |= {key: buffer[lane] for key, buffer in buffers.items()}
        expected = passed(modules[lane].double().cpu(), x[lane].double().cpu(), weights.double().cpu())
        tolerance = TOLERANCES["f32"] * LOOSER.get(name, 1.0)
        worst = max(worst, compared(found, expected, tolerance, f"lane {lane}"))
    return worst


def passed(module: nn.Module, x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Output, gradients and buffers of one forward and backward pass."""
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    module.zero_grad()
    y = module(leaf)
    (y * weights).sum().backward()
    gradients = {f"gradient of {key}": p.grad for key, p in module.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "gradient of x": leaf.grad, **gradients, **dict(module.named_buffers())}


def compared(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float, where: str) -> float:
    """The largest relative error; an AssertionError names the tensor that passes the tolerance."""
    worst = 0.0
    for key, wanted in expected.items():
        wanted, got = wanted.detach().double().cpu(), found[key].detach().double().cpu()
        scale = max(wanted.norm().item(), 1e-3 * wanted.numel() ** 0.5)
        error = (got - wanted).norm().item() / scale
        assert error <= tolerance, f"{where}: {key}: relative error {error:.1e} > {tolerance:.1e}"
        worst = max(worst, error)
    return worst


TINY: dict[str, Any] = {
    "data": {"name": "mnist", "binarize": 127},
    "model": {"name": "mlp", "hidden": [32, 32], "init": {"normal": 0.1}},
    "training": {"steps": 60, "batch_size": 64, "lr": 0.1},
    "evaluation": {"every": 30, "split": "validation"},
    "seeds": 3,
}
RESIDUAL = {"model": {"name": "residual-mlp", "width": 32, "blocks": 2}}
IMAGES = {"model": {"name": "convnet", "channels": [8, 16]}}
STUDIES: dict[str, dict[str, Any]] = {
    "momentum": {"training": {"optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True}, "weight_decay": 1e-3}},
    "adam": {"training": {"optimizer": "adam", "lr": 0.003}},
    "adamw": {"training": {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.01}},
    "clipped": {"training": {"clip": 1.0, "label_smoothing": 0.1}},
    "scheduled": {"training": {"schedule": {"name": "cosine"}}},
    "precise": {"evaluation": {"statistics": "precise"}},
    "batch statistics": {"evaluation": {"statistics": "batch"}},
    "tf32": {"training": {"precision": "tf32"}},
    "mixed precision": {"training": {"precision": "mixed"}},
    "convnet": IMAGES,
    "convnet, mixed": {**IMAGES, "training": {"precision": "mixed"}},
    "residual": RESIDUAL,
    "resnet": {"model": {"name": "resnet", "depth": 8, "channels": [8, 8, 16]}},
    "transformer": {
        "data": "python-docs", "model": {"name": "transformer", "width": 16, "depth": 1, "positions": "rotary"},
        "training": {"optimizer": "adamw", "lr": 0.003},
    },
    "vision transformer": {
        "model": {"name": "transformer", "width": 16, "depth": 1, "patch": 7, "placement": "post"},
        "training": {"optimizer": "adamw", "lr": 0.003},
    },
}  # fmt: skip


def job(device: str, engine: Any, lanes: int, part: Any = "batch", **changes: Any) -> Job:
    """Runs of a tiny network, as lanes of one job."""
    parts = {**TINY, **{key: value for key, value in changes.items() if key not in TINY or key in ("data", "model")}}
    for key in ("training", "evaluation"):
        parts[key] = {**TINY[key], **changes.get(key, {})}
    study = study_of({**parts, "variants": {"it": {"norm": part}}, "reference": "it"})
    return Job(tuple(runs_of(study, device, engine))[:lanes])


def part_of(name: str) -> tuple[Any, dict[str, Any]]:
    """A norm as a study names it, and the model that it fits."""
    row = NORMS[name]
    model = RESIDUAL if row.needs_residual else IMAGES if row.needs_locations else {}
    return ({"name": name, "groups": 4} if row.equal_groups else name), model


def trains_alike(device: str, lanes: int, part: Any, tolerance: float = 0.02, **changes: Any) -> str:
    """A job by the path that the plan takes ends where the plainest path ends; says which path it was."""
    found = train(job(device, "auto", lanes, part, **changes))
    runs = job(device, "plain", lanes, part, **changes).runs
    for lane in {0, lanes - 1}:
        one, (other,) = found[lane], train(Job((runs[lane],)))
        assert one.info.status == other.info.status == "done", f"{one.info.status} {one.info.reason}"
        error = abs(last(one) - last(other)) / abs(last(other))
        assert error <= tolerance, f"{one.info.engine}: loss {last(one):.4f}, plainly {last(other):.4f}"
    return found[0].info.engine


def last(result: RunResult) -> float:
    """The last evaluation's loss."""
    return result.curve("loss")[1][-1]


def trains_as_on_the_processor(device: str) -> str:
    """The same batches, the same initial weights and about the same loss as on the processor."""
    here, there = (train(job(where, "auto", 3)) for where in ("cpu", device))
    for one, other in zip(here, there, strict=True):
        assert abs(last(one) - last(other)) <= 0.01 * last(one), f"{last(one):.5f} {last(other):.5f}"
    return f"{last(here[0]):.5f} and {last(there[0]):.5f}"


def goes_on_from_a_checkpoint(device: str, name: str = "batch", lanes: int = 3) -> str:
    """A job that is begun anew from its last checkpoint ends with the same records, bit for bit."""
    asked = job(device, "auto", lanes, name)
    with tempfile.TemporaryDirectory() as folder:
        whole = train(asked, checkpoints=Path(folder), save_every=20)
        kept = sorted(Path(folder).glob("*.pt"))
        assert kept, "no checkpoint was written"
        again = train(asked, checkpoints=Path(folder), save_every=20)
    for one, other in zip(whole, again, strict=True):
        assert [r.value for r in one.records] == [r.value for r in other.records], "other numbers after a resume"
    return f"{len(kept)} checkpoints"


def equal_bits_each_time(device: str) -> str:
    """With `deterministic` two trainings of convolutions, their probes too, leave equal records."""
    changes = {"training": {"deterministic": True}, **IMAGES}
    one, other = (train(job(device, "auto", 1, "batch", **changes))[0] for _ in range(2))
    assert [r.value for r in one.records] == [r.value for r in other.records], "other numbers"
    return one.info.engine


def a_divergence_is_blamed(device: str) -> str:
    """A run that blows up says at which step and in which layer; its neighbour trains on."""
    asked = job(device, "auto", 3, "none", model={"name": "mlp", "hidden": [32, 32], "activation": "relu"})
    runs = [replace(r, training=r.training.model_copy(update={"lr": lr}))
            for r, lr in zip(asked.runs, (0.1, 1e30, 0.1), strict=True)]  # fmt: skip
    found = train(Job(tuple(runs)))
    assert [r.info.status for r in found] == ["done", "diverged", "done"], [r.info.status for r in found]
    assert found[1].info.layer, "no layer is blamed"
    return f"step {found[1].info.step}, {found[1].info.layer}"


def probes_change_nothing(device: str, **changes: Any) -> str:
    """A run with every metric of shift ends with the same weights as one without, and each metric is found."""
    from bncli.shift import METRICS

    probes = {"metrics": list(METRICS), "every": 20, "examples": 100}
    one = train(job(device, "auto", 2, "batch", probes=probes, **changes))
    other = train(job(device, "auto", 2, "batch", **changes))
    for probed, plain in zip(one, other, strict=True):
        assert last(probed) == last(plain), f"loss {last(probed)} and {last(plain)}"
    found = {record.metric for record in one[0].records}
    missing = {name for name in METRICS if name != "percentiles" and name not in found}
    assert not missing, f"not found: {missing}"
    return f"{len(one[0].records)} records"


def a_capture_that_fails_leaves_the_device_fit(device: str) -> str:
    """A step that no CUDA graph takes is trained without one; the next job gets its graph, and its noise."""
    kept = set(captured.UNCAPTURABLE)
    captured.UNCAPTURABLE.clear()  # so that nobody cuts the step where it cannot be captured
    try:
        first = train(job(device, "auto", 3, "zca"))[0].info
    finally:
        captured.UNCAPTURABLE.update(kept)
    torch.randn(3, device=device)
    second = train(job(device, "auto", 1, "noisy-batch"))[0].info
    assert first.status == second.status == "done", f"{first.reason} {second.reason}"
    assert device == "cpu" or "not in a CUDA graph" in first.engine, first.engine
    assert device == "cpu" or second.engine.endswith("in a CUDA graph"), second.engine
    return f"{first.engine}; {second.engine}"


def other_work_between_steps_changes_nothing(device: str, name: str) -> str:
    """What is computed between two steps, into memory that the step does not hold, does not reach its numbers."""
    losses = []
    for spoilt in (False, True):
        loop = _Loop(job(device, "auto", 3, name), None)
        loop.advance(5)
        if spoilt:  # whatever has been freed is taken, and filled with what would show
            _ = [torch.full((2**i,), torch.nan, device=device) for i in range(4, 22) for _ in range(20)]
        loop.advance(10)
        losses.append(loop.losses.clone())
    assert torch.equal(*losses), f"{losses[0][-1].tolist()} and {losses[1][-1].tolist()}"
    return "equal"


def metrics_of_a_users_model(device: str) -> str:
    """`probe` and `drift` of a model that is not ours."""
    from bncli.shift.probing import drift, probe

    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)).to(device)
    x = torch.randn(64, 8, device=device)
    before = probe(model, x)
    with torch.no_grad():
        model[0].weight += 0.1
    rows = drift(before, probe(model, x))
    assert rows
    assert all(row.mean == row.mean for row in rows)
    return f"{len(rows)} rows"


def a_model_initialises_alike(device: str) -> str:
    """Weights are drawn on the processor, so a GPU starts from the same."""
    weights = []
    for where in ("cpu", device):
        model = nn.Sequential(nn.Linear(8, 8))
        initialise(model, {"normal": 0.1}, 3)
        weights.append(model.to(where)[0].weight.detach().cpu())
    assert torch.equal(*weights)
    return "equal"


Check = tuple[str, Callable[[], object]]


def norm_checks(device: str) -> Iterator[Check]:
    """Every norm, by shape and number format."""
    for name in OF_ACTIVATIONS:
        for dtype in DTYPES:
            for shape in shapes(name):
                yield f"{name} {shape} {dtype}", lambda n=name, s=shape, d=dtype: norm_is_right(n, s, d, device)
            yield f"{name} autocast {dtype}", lambda n=name, d=dtype: autocast_changes_nothing(n, d, device)
    for name in OF_WEIGHTS:
        for of in ("linear", "convolution"):
            yield f"{name} of a {of}", lambda n=name, o=of: weight_norm_is_right(n, o, device)


def lane_checks(device: str) -> Iterator[Check]:
    """Every norm that runs in lanes."""
    for name in IN_LANES:
        yield f"{name} in lanes", lambda n=name: lanes_are_right(n, device)
        yield f"{name} in lanes beside NaN", lambda n=name: lanes_are_right(n, device, spoilt=True)


def kernel_checks(device: str) -> Iterator[Check]:
    """What `impl: fast` forces on a GPU: Triton's kernels."""
    for key, (options, sizes) in FORCED.items():
        name = key.partition(",")[0]
        for dtype in DTYPES:
            for shape in sizes:
                yield (
                    f"{key} by kernel {shape} {dtype}",
                    lambda n=name, s=shape, d=dtype, o=options: kernel_is_right(n, s, d, device, **o),
                )
        part = {"name": name, "impl": "fast", **options}
        part |= {"groups": 4} if NORMS[name].equal_groups else {"group_size": 4} if NORMS[name].whitens else {}
        for spoilt in (False, True):
            yield (
                f"{key} by kernel in lanes{' beside NaN' if spoilt else ''}",
                lambda n=name, s=spoilt, o=options: lanes_are_right(n, device, s, impl="fast", **o),
            )
        for lanes in (3, 1):
            yield f"{key} by kernel, {lanes} lanes", lambda p=part, n=lanes: trains_alike(device, n, p)
    for dtype in DTYPES:
        for last in (False, True):
            yield f"end of a block {dtype} {last}", lambda d=dtype, c=last: batch_norm_ends_a_block(device, d, c)


def path_checks(device: str) -> Iterator[Check]:
    """The engine's paths, over every norm."""
    for name in NORMS:
        part, model = part_of(name)
        # sensitive to rounding: axes swap, and noise is drawn in another order where it is traced
        loose = 0.25 if name in ("pca", "noisy-batch") else 0.02
        if NORMS[name].lanes and not NORMS[name].needs_locations:
            yield f"{name}, lanes", lambda p=part, m=model, t=loose: trains_alike(device, 3, p, t, **m)
        yield f"{name}, alone", lambda p=part, m=model, t=loose: trains_alike(device, 1, p, t, **m)


def engine_checks(device: str) -> Iterator[Check]:
    """What else the engine promises, over recipes."""
    yield "the same as on the processor", lambda: trains_as_on_the_processor(device)
    yield "initial weights", lambda: a_model_initialises_alike(device)
    yield "a failing capture", lambda: a_capture_that_fails_leaves_the_device_fit(device)
    for name in ("batch", "cholesky", "zca", "iternorm", "layer"):
        yield f"other work, {name}", lambda n=name: other_work_between_steps_changes_nothing(device, n)
    for name, changes in STUDIES.items():
        tolerance = 0.05 if "mixed" in name or name in ("convnet", "resnet") else 0.02
        for lanes in (3, 1):
            yield (
                f"{name}, {lanes} lanes",
                lambda c=changes, n=lanes, t=tolerance: trains_alike(device, n, "batch", t, **c),
            )
    yield "checkpoints", lambda: goes_on_from_a_checkpoint(device)
    yield "checkpoints, noise", lambda: goes_on_from_a_checkpoint(device, "noisy-batch", 1)
    yield "deterministic", lambda: equal_bits_each_time(device)
    yield "divergence", lambda: a_divergence_is_blamed(device)
    yield "probes", lambda: probes_change_nothing(device)
    yield "probes of images", lambda: probes_change_nothing(device, **IMAGES)
    yield "a user's model", lambda: metrics_of_a_users_model(device)


GROUPS: dict[str, Callable[[str], Iterator[Check]]] = {
    "norms": norm_checks,
    "lanes": lane_checks,
    "kernels": kernel_checks,
    "paths": path_checks,
    "engine": engine_checks,
}
