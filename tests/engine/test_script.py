"""TorchScript runs a traced step as Python does: the same operations on the same numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx

from bncli.config import Study
from bncli.engine import script, trace
from bncli.engine.script import scripted
from bncli.engine.trace import record
from bncli.engine.train import train
from bncli.plan import Job, runs_of


def recorded(step: Callable[..., Tensor], *tensors: Tensor) -> fx.GraphModule:
    return record(step, tensors, {})


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), 1e-300, 2, True])
def test_numbers_arrive_as_they_are(number: float) -> None:
    operations = recorded(lambda x: torch.where(x > 0, x * number, x + number), torch.ones(2))
    x = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert scripted(operations)(x).equal(operations(x)) or number != number
    assert scripted(operations)(x).nan_to_num(7.0).equal(operations(x).nan_to_num(7.0))


def test_all_forms_of_arguments_and_results_arrive() -> None:
    def step(x: Tensor, rows: Tensor) -> Tensor:
        top, at = x.topk(2, dim=-1)
        first, second = torch.split(top.to(torch.float64), 1, -1)
        torch._foreach_mul_([x, rows], 2.0)
        torch._foreach_addcmul_([x, rows], [x, rows], [x, rows], value=0.5)
        roots = torch._foreach_sqrt([x.abs(), rows.abs()])
        torch._foreach_add_([x, rows], roots, alpha=0.25)
        places = torch.arange(3, device=torch.device("cpu"))
        norm = torch.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-5)[0]
        return (first + second).sum() + at.sum() + places.sum() + norm.square().sum() + torch.cat([x, rows]).std()

    x, rows = torch.randn(4, 3), torch.randn(2, 3)
    operations = recorded(step, x.clone(), rows.clone())
    one, other = [x.clone(), rows.clone()], [x.clone(), rows.clone()]
    for _ in range(4):  # TorchScript looks at its first calls, and changes what it runs
        assert scripted(operations)(*one).equal(operations(*other))
        assert all(a.equal(b) for a, b in zip(one, other, strict=True))


def test_a_tensor_from_elsewhere_is_read_anew_at_every_call() -> None:
    outside = torch.ones(3)
    step = scripted(recorded(lambda x: x + outside, torch.zeros(3)))
    for factor in (1.0, 2.0, 4.0, 8.0):
        outside.fill_(factor)
        assert step(torch.zeros(3)).tolist() == [factor] * 3


def test_another_overload_than_was_recorded_is_an_error() -> None:
    operations = recorded(lambda x: x.pow(2.0), torch.ones(3))
    (power,) = (node for node in operations.graph.nodes if node.op == "call_function")
    power.target = torch.ops.aten.pow.Tensor_Tensor  # which takes no number, so that TorchScript takes another
    with pytest.raises(RuntimeError, match=r"would call 'aten::pow\.Tensor_Scalar.*, which was not recorded"):
        scripted(operations)


def test_what_only_writes_to_a_tensor_that_nothing_reads_may_be_left_out() -> None:
    def step(x: Tensor) -> Tensor:
        x.new_zeros(3).add_(x)
        return x * 2

    x = torch.randn(3)
    assert scripted(recorded(step, x))(x).equal(x * 2)


def test_what_changes_a_tensor_that_is_given_may_not_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave_out(node: fx.Node) -> list[str]:
        return written(node) if node.target is not torch.ops.aten.mul_.Tensor else []

    written = script._written
    monkeypatch.setattr(script, "_written", leave_out)
    operations = recorded(lambda x, y: (x.mul_(y), y + 1)[1], torch.ones(3), torch.ones(3))
    with pytest.raises(RuntimeError, match=r"^TorchScript would leave out 'aten::mul_\.Tensor"):
        scripted(operations)


def test_where_torch_has_no_torchscript_python_runs_the_step_and_the_record_says_so(
    tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bncli.plan.TRACED_STEPS", 1)

    def gone(*_: Any) -> None:
        raise AttributeError("module 'torch.jit' has no attribute 'CompilationUnit'")

    study = tiny(
        variants={"it": {"norm": "batch"}}, reference="it", training={"steps": 10, "batch_size": 40, "lr": 0.1}
    )
    job = Job(tuple(runs_of(study, "cpu")[:1]))
    (expected,) = train(job)
    monkeypatch.setattr(trace, "scripted", gone)
    (found,) = train(job)
    assert found.info.engine == (
        "plain, traced, not in TorchScript: AttributeError: module 'torch.jit' has no attribute 'CompilationUnit'"
    )
    assert found.info.fallbacks == expected.info.fallbacks
    assert [record.value for record in found.records] == [record.value for record in expected.records]
