"""From a case to what the scheduler times: the norm's pass, torch's batch norm in the same pass, a copy as large."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from bncli.bench.cases import Case
from bncli.bench.clock import Arguments
from bncli.bench.contenders import Contender, Entry
from bncli.bench.modules import Norm, check_output, module_of, native_of
from bncli.bench.work import least_tensors
from bncli.errors import BncliError

DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
_MEAN, _STD = 1.0, 2.0  # of the inputs: off zero and one, so that a norm has something to do


def prepare(case: Case) -> Entry:
    """A case with its yardsticks, "native" first and "copy" second; sets this process's threads to the case's.

    Raises:
        BncliError: see contender_of.
    """
    x, g = inputs(case)
    timed, native = side_by_side(contender_of(case), _contender(native_of(case), case, x, g))
    return Entry(case.name, timed, (("native", native), ("copy", _copy(case))))


def contender_of(case: Case) -> Contender:
    """A case by itself, tried once; sets this process's threads to the case's.

    Raises:
        BncliError: if the norm cannot take the input, in the words of what it raised.
    """
    torch.set_num_threads(case.threads)
    norm = compiled(module_of(case)) if case.compiled else module_of(case)
    try:
        contender = _contender(norm, case, *inputs(case))
        contender.call(*contender.make_arguments())
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        line = next(iter(str(error).strip().splitlines()), "")
        raise BncliError(f"{case.name}: {type(error).__name__}: {line}") from error
    return contender


def with_reference(case: Case) -> tuple[Contender, Contender]:
    """The pass of a case, and the same in float64, uncompiled, on the same input and from the same state.

    Both are fresh: what a norm remembers of its calls is alike as long as both are called as often.
    """
    exact, norm = replace(case, dtype="f64", compiled=False), module_of(case)
    twin, (x, g) = module_of(exact), inputs(case)
    if isinstance(norm, nn.Module) and isinstance(twin, nn.Module):
        twin.load_state_dict(norm.state_dict())
    own = _contender(compiled(norm) if case.compiled else norm, case, x, g)
    return own, _contender(twin, exact, x.detach().double().requires_grad_(x.requires_grad), g.double())


def side_by_side(case: Contender, yardstick: Contender) -> tuple[Contender, Contender]:
    """The same two, their argument sets made in pairs, so that neither has the better place in memory.

    All sets of one made before those of the other cost the other up to 6 %: torch's batch norm of (32, 64, 28, 28)
    against itself had a ratio of 0.943 (standard deviation of a process 0.036) backward and 0.985 (0.022) in
    evaluation, means of 6 processes; made in pairs 0.997 (0.010) and 1.001 (0.013).
    """
    both = (case, yardstick)
    waiting: tuple[deque[Arguments], deque[Arguments]] = (deque(), deque())
    order = cycle(((0, 1), (1, 0)))

    def make(which: int) -> Arguments:
        if not waiting[which]:
            for each in next(order):
                waiting[each].append(both[each].make_arguments())
        return waiting[which].popleft()

    return replace(case, make_arguments=partial(make, 0)), replace(yardstick, make_arguments=partial(make, 1))


def compiled(norm: Norm) -> Norm:
    """`norm` by torch.compile, such that its graph can be run backward any number of times."""
    import_module("torch._functorch.config").donated_buffer = False  # type: ignore[attr-defined]
    made: Norm = torch.compile(norm, dynamic=False)
    return made


def inputs(case: Case) -> tuple[Tensor, Tensor]:
    """x and the gradient of y, the same in every process; x requires grad in training."""
    generator = torch.Generator(case.device).manual_seed(0)
    x, g = (
        torch.randn(case.shape, generator=generator, device=case.device).mul_(std).add_(mean).to(DTYPES[case.dtype])
        for mean, std in ((_MEAN, _STD), (0.0, 1.0))
    )
    if case.layout == "channels_last":
        x, g = (each.contiguous(memory_format=torch.channels_last) for each in (x, g))
    return x.requires_grad_(case.pass_ != "eval-forward"), g


def parameters_of(norm: Norm) -> list[Tensor]:
    """What a backward pass gives gradients of, beside x."""
    return [p for p in norm.parameters() if p.requires_grad] if isinstance(norm, nn.Module) else []


def _contender(norm: Norm, case: Case, x: Tensor, g: Tensor) -> Contender:
    parameters = parameters_of(norm)

    def forward(x: Tensor) -> Tensor:
        return norm(x)

    def evaluate(x: Tensor) -> Tensor:
        with torch.no_grad():
            return norm(x)

    def backward(y: Tensor, x: Tensor, g: Tensor) -> object:
        return torch.autograd.grad(y, (x, *parameters), g, retain_graph=True)

    def both(x: Tensor, g: Tensor) -> object:
        return torch.autograd.grad(norm(x), (x, *parameters), g)

    def fresh() -> Tensor:
        return x.detach().clone().requires_grad_(x.requires_grad)

    def graph() -> tuple[Tensor, ...]:
        leaf = fresh()
        y = norm(leaf)
        check_output(case, y)
        return y, leaf, g.clone()

    passes: dict[str, tuple[Callable[..., object], Callable[[], tuple[Any, ...]], int]] = {
        "train-forward": (forward, lambda: (fresh(),), 1),
        "train-backward": (backward, graph, 3),
        "train-both": (both, lambda: (fresh(), g.clone()), 2),
        "eval-forward": (evaluate, lambda: (fresh(),), 1),
    }
    call, make_arguments, tensors = passes[case.pass_]
    if case.pass_ != "train-backward":
        check_output(case, norm(fresh()))
    return Contender(call, make_arguments, tensors * case.size_byte)


def _copy(case: Case) -> Contender:
    """A plain copy that moves as many bytes as the pass must: half of them read, half written, into old memory."""
    values = least_tensors(case.pass_) * case.size_byte // (2 * torch.finfo(DTYPES[case.dtype]).bits // 8)
    source = torch.zeros(values, dtype=DTYPES[case.dtype], device=case.device)

    def copy(target: Tensor, source: Tensor) -> object:
        return target.copy_(source)

    return Contender(copy, lambda: (torch.empty_like(source).zero_(), source.clone()), 2 * source.nbytes)
