"""Which kernels run in a call: counted exactly on cases where the answer is known, shared out to a whole."""

import random
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bncli.timing.build import prepare
from bncli.timing.cases import Case
from bncli.timing.profiling import list_durations, profile_entry, share_out
from bncli.timing.results import KernelShare
from bncli.timing.workloads import TimerSettings

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
WARM = TimerSettings(warm=True)
COLD = TimerSettings(cache_byte=2**20)


class ThreeSines(nn.Module):
    """The sine of the sine of the sine."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.sin().sin().sin()


def profile(norm: str, *, device: str = "cpu", settings: TimerSettings = WARM) -> dict[str, tuple[KernelShare, ...]]:
    case = Case(norm, (), "eval-forward", (8, 16, 16, 64), "f32", "nchw", device)
    return profile_entry(prepare(case), device, settings, random.Random(0))


@pytest.mark.parametrize("settings", [WARM, COLD], ids=["warm", "cold"])
def test_what_runs_in_a_call_is_counted_for_the_case_and_each_rival(settings: TimerSettings) -> None:
    found = profile(f"{__name__}:ThreeSines", settings=settings)
    assert list(found) == ["case", "native", "copy"]
    assert [(each.name, each.count) for each in found["case"]] == [("aten::sin", 3.0)]
    counts = {each.name: each.count for each in found["native"]}
    assert counts["aten::native_batch_norm"] == 1.0
    assert [(each.name, each.count) for each in found["copy"]] == [("aten::copy_", 1.0)]
    for each in found.values():
        assert sum(kernel.share for kernel in each) == pytest.approx(1)


def test_shares_are_of_all_time_and_the_largest_comes_first() -> None:
    assert share_out([("a", 1.0), ("b", 5.0), ("a", 2.0)], calls=2) == (
        KernelShare("b", 0.5, 0.625),
        KernelShare("a", 1.0, 0.375),
    )
    held_up = [("a", 1.0), ("b", 2.0), ("b", 1.0), ("a", 900.0), ("b", 2.0), ("b", 1.0), ("a", 1.0), *[("b", 1.5)] * 2]
    assert share_out(held_up, calls=3) == (KernelShare("b", 2.0, 0.75), KernelShare("a", 1.0, 0.25))
    assert share_out([("a", 0.0)], calls=1) == ()
    assert share_out([], calls=1) == ()


def event(name: str, kind: str, microseconds: float, *, annotation: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        name=name, device_type=SimpleNamespace(name=kind), time_range=SimpleNamespace(elapsed_us=lambda: microseconds),
        self_cpu_time_total=microseconds / 2, is_user_annotation=annotation,
    )  # fmt: skip


def test_on_a_gpu_its_kernels_are_listed_and_on_a_processor_the_time_in_operators_themselves() -> None:
    events = [
        event("aten::mul", "CPU", 8.0), event("kernel", "CUDA", 3.0), event("range", "CUDA", 5.0, annotation=True),
    ]  # fmt: skip
    assert list_durations(events, "cuda") == [("kernel", 3.0)]
    assert list_durations(events, "cpu") == [("aten::mul", 4.0)]


@on_cuda
def test_a_gpus_kernels_have_their_own_names() -> None:
    found = profile(f"{__name__}:ThreeSines", device="cuda")
    assert [each.count for each in found["case"]] == [3.0]
    assert "sin" in found["case"][0].name
    assert sum(each.share for each in found["native"]) == pytest.approx(1)
