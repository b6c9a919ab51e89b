"""A case as something to time: its module, its pass with arguments, and what it is timed against."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bncli.errors import BncliError, ConfigError
from bncli.norms import norm
from bncli.plugins.code import resolve_code
from bncli.timing.cases import Case, count_tensors, is_foreign
from bncli.timing.clock import Arguments
from bncli.timing.workloads import Entry, Workload

Norm = Callable[[Tensor], Tensor]


class WrongError(BncliError):
    """A kernel gives something that nothing can be timed or compared with."""


def build_norm(case: Case, flag: str = "--kernel") -> Norm:
    """The norm that a case times, in training or evaluation as its pass says.

    In half precision the parameters stay float32, as mixed precision has it; in float64 they are float64.

    Raises:
        ConfigError: for a kernel or a truth that cannot be found, or a truth that cannot be made; `flag` is what named
            it.
        BncliError: for a kernel that cannot be made.
    """
    channels = case.shape[1]
    made = (
        _build_kernel(case.norm, channels, flag) if case.is_kernel else norm(case.norm, channels, **dict(case.options))
    )
    return _place(made, case)


def build_native(case: Case) -> nn.Module:
    """Torch's own batch norm for the input of a case, uncompiled."""
    kind = nn.BatchNorm2d if len(case.shape) == 4 else nn.BatchNorm1d
    placed = _place(kind(case.shape[1]), case)
    assert isinstance(placed, nn.Module)
    return placed


def _place(made: Norm, case: Case) -> Norm:
    if isinstance(made, nn.Module):
        made = made.to(case.device, torch.float64 if case.dtype == "f64" else torch.float32)
        if any(map(is_lazy, (*made.parameters(), *made.buffers()))):  # it learns its channels from the first input
            made.eval()
            with torch.no_grad():
                made(draw_inputs(case)[0])
        return made.train(case.pass_ != "eval-forward")
    return made


def _build_kernel(place: str, channels: int, flag: str) -> Norm:
    keep_graphs()
    make, kind = find_kernel(place, flag), ConfigError if flag == "--truth" else BncliError
    try:
        made = make(channels)
    except Exception as error:  # anybody's code
        raise kind(f"{flag} {place}: {place}({channels}) raised {quote_error(error)}") from None
    if not callable(made):
        raise kind(f"{flag} {place}: {place}({channels}) must give a norm to call, got {type(made).__name__}")
    return made  # type: ignore[no-any-return]


@cache
def find_kernel(place: str, flag: str = "--kernel") -> Callable[[int], Any]:
    """What `FILE.py:NAME` or `MODULE:NAME` names, a function of the number of channels.

    Raises:
        ConfigError: if there is no such thing, or it cannot be called.
    """
    made = resolve_code(place, flag)
    if not callable(made):
        raise ConfigError(f"{flag} {place}: must be a function of the number of channels, got {made!r}")
    return made  # type: ignore[no-any-return]


def check_output(case: Case, y: object) -> None:
    """Refuse an output that is not of the input's form, or that has no gradient in training.

    Raises:
        WrongError: that says what came instead.
    """
    if not isinstance(y, Tensor):
        raise WrongError(f"{case.name}: expected an output that is a tensor, got {type(y).__name__}")
    check_plain(case, "output", y)
    kinds = {
        "shape": (case.shape, tuple(y.shape)),
        "dtype": (DTYPES[case.dtype], y.dtype),
        "device": (case.device, y.device.type),
    }
    for kind, (wanted, came) in kinds.items():
        if came != wanted:
            raise WrongError(f"{case.name}: expected an output of the input's {kind} {wanted}, got {came}")
    if case.pass_ != "eval-forward" and not y.requires_grad:
        raise WrongError(f"{case.name}: expected an output with a gradient, as a norm in training has it, got none")


def check_plain(case: Case, what: str, value: Tensor) -> None:
    """Refuse a tensor of a class of its own, which may compute when somebody looks.

    Raises:
        WrongError: that says which.
    """
    if type(value) not in (Tensor, nn.Parameter):
        kind = type(value).__name__
        raise WrongError(
            f"{case.name}: expected an {what} that is a plain tensor, got one of a class of its own, {kind}"
        )


def quote_error(error: BaseException) -> str:
    """`RuntimeError: what it says first`, and of a compiler's report the lines that name an error, and the last."""
    try:
        lines = [line for text in str(error).splitlines() if (line := text.strip()) and not line.startswith("frame #")]
    except Exception:  # an exception of anybody's, which has no text
        lines = []
    named = [line for line in lines[1:] if "error" in line.lower()]
    said = " | ".join(line[:_QUOTED] for line in dict.fromkeys([*lines[:1], *named[:3], *lines[-1:]]))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


_QUOTED = 300  # characters of a line
DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
_MEAN, _STD = 1.0, 2.0  # of the inputs: off zero and one, so that a norm has something to do


def prepare(case: Case) -> Entry:
    """A case with its rivals: that of --vs by its label, "native", "copy"; sets this process's threads to the case's.

    Raises:
        BncliError: see build_workload.
    """
    x, g = draw_inputs(case)
    plain = replace(case, norm="batch", options=())
    rivals = {} if case.rival is None else {case.rival.label: build_workload(case.rival, "--vs")}
    rivals["native"] = _make_workload(build_native(plain), plain, x, g)
    candidate, *paired = pair_arguments(build_workload(case), *rivals.values())
    return Entry(case.name, candidate, (*zip(rivals, paired, strict=True), ("copy", _build_copy(case))))


def build_workload(case: Case, flag: str = "--kernel") -> Workload:
    """A case by itself, tried once; sets this process's threads to the case's.

    Raises:
        BncliError: if the norm cannot take the input, in the words of what it raised.
    """
    torch.set_num_threads(case.threads)
    norm = compile_norm(build_norm(case, flag)) if case.compiled else build_norm(case, flag)
    with describe_errors(case):
        workload = _make_workload(norm, case, *draw_inputs(case))
        workload.call(*workload.make_arguments())
    return workload


@contextmanager
def describe_errors(case: Case) -> Iterator[None]:
    """What torch raises of an input that a norm cannot take is a line; of a kernel, whatever is raised.

    Raises:
        BncliError: in the words of what was raised.
    """
    try:
        yield
    except BncliError:
        raise
    except Exception as error:
        if case.is_kernel or isinstance(error, RuntimeError | ValueError | TypeError | NotImplementedError):
            raise BncliError(f"{case.name}: {quote_error(error)}") from error
        raise


def pair_arguments(*workloads: Workload) -> tuple[Workload, ...]:
    """The same ones, their argument sets made side by side, so that none has the better place in memory.

    All sets of one made before those of the other cost the other up to 6 %: torch's batch norm of (32, 64, 28, 28)
    against itself had a ratio of 0.943 (standard deviation of a process 0.036) backward and 0.985 (0.022) in
    evaluation, means of 6 processes; made in pairs 0.997 (0.010) and 1.001 (0.013).
    """
    waiting = [deque[Arguments]() for _ in workloads]
    order = cycle((range(len(workloads)), range(len(workloads))[::-1]))

    def make(which: int) -> Arguments:
        if not waiting[which]:
            for each in next(order):
                waiting[each].append(workloads[each].make_arguments())
        return waiting[which].popleft()

    return tuple(replace(each, make_arguments=partial(make, which)) for which, each in enumerate(workloads))


def compile_norm(norm: Norm) -> Norm:
    """`norm` by torch.compile."""
    keep_graphs()
    made: Norm = torch.compile(norm, dynamic=False)
    return made


def keep_graphs() -> None:
    """Let the graph of what torch.compile makes, also within a kernel, run backward any number of times."""
    import_module("torch._functorch.config").donated_buffer = False  # type: ignore[attr-defined]


def draw_inputs(case: Case) -> tuple[Tensor, Tensor]:
    """x and the gradient of y, the same in every process; x requires grad in training."""
    generator = torch.Generator(case.device).manual_seed(0)
    x, g = (
        torch.randn(case.shape, generator=generator, device=case.device).mul_(std).add_(mean).to(DTYPES[case.dtype])
        for mean, std in ((_MEAN, _STD), (0.0, 1.0))
    )
    x, g = (_lay_out(case, each) for each in (x, g))
    return x.requires_grad_(case.pass_ != "eval-forward"), g


def draw_fresh_inputs(case: Case, number: int) -> tuple[Tensor, Tensor]:
    """x and the gradient of y of the call of this number.

    Channels and examples differ in mean and scale, and neighbouring channels are correlated, so that norms that take
    their statistics over other axes, or that decorrelate, give other results. A few values are the same in every call:
    who remembers results by them is found out.
    """
    n, channels, *locations = case.shape
    chance = torch.Generator(case.device).manual_seed(1 + number)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=chance, device=case.device)

    of_channel, of_example = (1, channels, *(1 for _ in locations)), (n, 1, *(1 for _ in locations))
    scale = (0.3 * (draw(*of_channel) + draw(*of_example))).exp()
    values = draw(*case.shape)
    x = (values + 0.7 * values.roll(1, 1)) * scale + draw(*of_channel) + 0.5 * draw(*of_example)
    g = draw(*case.shape)
    for each in (x, g):
        each.view(-1)[[0, each.numel() // 2, -1]] = 0.5
    return _lay_out(case, x.to(DTYPES[case.dtype])), _lay_out(case, g.to(DTYPES[case.dtype]))


def _lay_out(case: Case, tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if case.layout == "channels_last" else tensor


def list_parameters(norm: Norm) -> list[Tensor]:
    """What a backward pass gives gradients of, beside x."""
    return [p for p in norm.parameters() if p.requires_grad] if isinstance(norm, nn.Module) else []


def _make_workload(norm: Norm, case: Case, x: Tensor, g: Tensor) -> Workload:
    parameters = list_parameters(norm)

    def forward(x: Tensor) -> Tensor:
        return norm(x)

    def evaluate(x: Tensor) -> Tensor:
        with torch.no_grad():
            return norm(x)

    def backward(y: Tensor, x: Tensor, g: Tensor) -> object:
        return torch.autograd.grad(y, (x, *parameters), g, retain_graph=True, allow_unused=True)

    def both(x: Tensor, g: Tensor) -> object:
        return torch.autograd.grad(norm(x), (x, *parameters), g, allow_unused=True)

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
    return Workload(call, make_arguments, tensors * case.size_byte, norm if is_foreign(case.norm) else None)


def _build_copy(case: Case) -> Workload:
    """A plain copy that moves as many bytes as the pass must: half of them read, half written, into old memory."""
    values = count_tensors(case.pass_) * case.size_byte // (2 * torch.finfo(DTYPES[case.dtype]).bits // 8)
    source = torch.zeros(values, dtype=DTYPES[case.dtype], device=case.device)

    def copy(target: Tensor, source: Tensor) -> object:
        return target.copy_(source)

    return Workload(copy, lambda: (torch.empty_like(source).zero_(), source.clone()), 2 * source.nbytes)
