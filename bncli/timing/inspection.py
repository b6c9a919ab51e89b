"""What a case is beside its time: whether it is right, its memory, and the implementation that really ran."""

import os
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import saved_tensors_hooks
from torch.autograd.profiler import profile

from bncli.kernels import batch_norm, newton_schulz, triton_group_norm, triton_norms, triton_whitening, whitening
from bncli.timing.build import build_workload, describe_errors
from bncli.timing.cases import Case, TimedNorm
from bncli.timing.correctness import check_results
from bncli.timing.results import Facts
from bncli.timing.workloads import Workload

# Functions of bncli's own kernels, as the profiler writes them.
_OURS = {
    name + backward
    for module in (batch_norm, newton_schulz, triton_group_norm, triton_norms, triton_whitening, whitening)
    for name, found in vars(module).items()
    if isinstance(found, type) and issubclass(found, Function) and found is not Function
    for backward in ("", "Backward")
}
_COMPILED = ("Torch-Compiled Region", "## Call CompiledFxGraph", "CompiledFunction")
# what an operation's name begins with -> the library behind it; the first that is found says what ran
_LIBRARIES = {
    "aten::cudnn_batch_norm": "cuDNN",
    "aten::miopen_batch_norm": "MIOpen",
    "aten::mkldnn": "oneDNN",
    "triton_": "triton",
    "aten::native_": "native",
    "aten::_native_": "native",
    "aten::_fused_rms_norm": "native",
}


def inspect(case: Case, told: TimedNorm | None = None, flag: str = "--kernel") -> Facts:
    """Run a case's pass a few times, untimed, and say what it is.

    Args:
        case: what is inspected.
        told: what its results are held against, where it is anybody's code; see `find_truth`.
        flag: what named it.

    Raises:
        BncliError: for a norm that cannot take its input, or a kernel that cannot be had.
        WrongError: for results of a form that nothing can be timed with.
    """
    with describe_errors(case):
        correctness, reasons = check_results(case, told, flag)
    workload = build_workload(case, flag)
    names, peak = _profile(workload, case.device)
    if peak is None:
        reasons["peak_byte"] = "torch's profiler saw no allocation"
    return Facts(name_implementation(case, names), _measure_saved(workload), peak, correctness, reasons)


def name_implementation(case: Case, names: Set[str]) -> str:
    """Which implementation the profiler saw, by the names of its operations and kernels."""
    library = next((lib for start, lib in _LIBRARIES.items() if any(n.startswith(start) for n in names)), "composed")
    ours = bool(names & _OURS)
    if any(name.startswith(_COMPILED) for name in names):  # as the case says, or by a kernel's author
        return "triton" if library == "triton" else "inductor"
    if case.compiled:
        return f"fallback: {'bncli' if ours else library}"
    if ours:
        return "bncli"
    asked = ("impl", "fast") in case.options and case.pass_ != "eval-forward"  # evaluation has no fast version
    return f"fallback: {library}" if asked else library


def _measure_saved(workload: Workload) -> int:
    """Bytes of the distinct memory that autograd saves, but for leaves other than the input."""
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        arguments = workload.make_arguments()
        kept = workload.call(*arguments)
    del kept, arguments
    return sum(found.values())


def _profile(workload: Workload, device: str) -> tuple[set[str], int | None]:
    """The names of what ran, and the peak of what it allocated."""
    workload.call(*workload.make_arguments())
    arguments = workload.make_arguments()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    with silence_profiler(), profile(use_device=device if device == "cuda" else None, profile_memory=True) as profiler:
        kept = workload.call(*arguments)
        if device == "cuda":
            torch.cuda.synchronize()
    del kept
    events = profiler.kineto_results.events()
    names = {event.name() for event in events}
    if device == "cuda":
        return names, torch.cuda.max_memory_allocated() - before
    return names, _find_peak([(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"])


def _find_peak(allocations: list[tuple[int, int]]) -> int | None:
    """The greatest running sum of (time, bytes; negative when freed)."""
    held = peak = 0
    for _, size in sorted(allocations):
        held += size
        peak = max(peak, held)
    return peak if allocations else None


@contextmanager
def silence_profiler() -> Iterator[None]:
    """Without what the profiler's library writes to file descriptor 2."""
    sys.stderr.flush()
    while (kept := os.dup(2)) < 3:  # a kernel that has closed stdout would close this one as well
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
