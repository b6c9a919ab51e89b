"""A traced step does what the step does, at every step."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bncli.config import Study
from bncli.engine.captured import captured
from bncli.engine.graph import call_directly
from bncli.engine.trace import _in_words, trace
from bncli.engine.train import train
from bncli.kernels.linear import linear
from bncli.norms import NORMS
from bncli.plan import TRACED_STEPS, Job, Run, runs_of

Tiny = Callable[..., Study]


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def trace_short_runs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncli.plan.TRACED_STEPS", 1)


def runs(tiny: Tiny, norm: str, engine: Any, **changes: Any) -> tuple[Run, ...]:
    row = NORMS[norm]
    if row.needs_residual:
        changes = {"model": {"name": "residual-mlp", "width": 16, "blocks": 2}, **changes}
    part = {"name": norm, "groups": 4} if row.equal_groups else norm
    few = {"steps": 10, "batch_size": 40, "lr": 0.1}
    study = tiny(variants={"it": {"norm": part}}, reference="it", **{"training": few, **changes})
    return tuple(runs_of(study, "cpu", engine))


def assert_same(one: Any, other: Any) -> None:
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a.records, b.records, strict=True):
            assert x.value == pytest.approx(y.value, rel=1e-8, abs=1e-8)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("norm", [name for name, row in NORMS.items() if not row.needs_locations])
def test_a_traced_run_equals_a_plain_one(tiny: Tiny, norm: str) -> None:
    (found, *_), (expected, *_) = (runs(tiny, norm, engine) for engine in ("auto", "plain"))
    traced = train(Job((found,)))
    assert traced[0].info.engine == "plain, traced"
    assert_same(traced, train(Job((expected,))))


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("norm", [name for name, row in NORMS.items() if row.lanes and not row.needs_locations])
def test_traced_lanes_equal_lanes(tiny: Tiny, norm: str) -> None:
    traced = train(Job(runs(tiny, norm, "auto")))
    assert traced[0].info.engine == "3 lanes (vmap), traced"
    assert_same(traced, train(Job(runs(tiny, norm, "untraced"))))


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("optimizer", ["adam", "adamw", {"name": "sgd", "momentum": 0.9, "nesterov": True}])
def test_optimisers_that_change_from_step_to_step_are_traced_right(tiny: Tiny, optimizer: Any) -> None:
    recipe = {"steps": 20, "batch_size": 40, "lr": 0.01, "weight_decay": 0.01, "optimizer": optimizer}
    one, other = (train(Job(runs(tiny, "batch", engine, training=recipe))) for engine in ("auto", "untraced"))
    assert_same(one, other)


def test_a_step_that_cannot_be_traced_is_taken_as_it_is_and_the_record_says_why(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looks_at_values(self: Any, x: Tensor) -> Tensor:
        return x if bool(x.detach().sum() > 0) else x + 0

    monkeypatch.setattr("bncli.norms.batch.NoNorm.forward", looks_at_values)
    (result,) = train(Job(runs(tiny, "none", "auto")[:1]))
    assert result.info.status == "done"
    assert result.info.engine.startswith("plain, not traced: ")


def test_tracing_changes_nothing_it_is_shown() -> None:
    weights, counter = torch.ones(3), torch.zeros(1)

    def step(weights: Tensor, counter: Tensor) -> Tensor:
        counter.add_(1)
        weights.mul_(2 + torch.rand(3))
        return weights.sum()

    before = torch.get_rng_state()
    operations = trace(step, [weights, counter])
    assert weights.equal(torch.ones(3))
    assert counter.item() == 0
    assert torch.get_rng_state().equal(before)
    total = operations(weights, counter)
    assert counter.item() == 1
    assert total == weights.sum()


def test_constants_that_are_changed_are_made_anew_at_every_step() -> None:
    def step(x: Tensor) -> Tensor:
        total = torch.zeros(2)
        total[0] += x.sum()
        return total

    operations = trace(step, [torch.ones(3)])
    assert operations(torch.ones(3)).tolist() == [3.0, 0.0]
    assert operations(torch.ones(3)).tolist() == [3.0, 0.0]


def test_an_update_by_a_product_is_fused_with_it_and_gives_the_same() -> None:
    def step(weight: Tensor, lr: Tensor, g: Tensor, x: Tensor) -> Tensor:
        return weight.addcmul_(g.mT @ x, lr.view(2, 1, 1), value=-1)

    weight, lr, g, x = torch.randn(2, 4, 3), torch.rand(2), torch.randn(2, 5, 4), torch.randn(2, 5, 3)
    operations = trace(step, [weight, lr, g, x])
    names = [str(node.target) for node in operations.graph.nodes if node.op == "call_function"]
    assert "aten.baddbmm_.default" in names
    assert not {"aten.bmm.default", "aten.addcmul_.default"} & set(names)
    expected = step(weight.clone(), lr, g, x)
    torch.testing.assert_close(operations(weight, lr, g, x), expected)


def test_an_update_is_fused_with_a_product_of_what_was_written_before_it() -> None:
    def step(weight: Tensor, lr: Tensor, g: Tensor, x: Tensor) -> Tensor:
        x.mul_(2)
        return weight.addcmul_(g.mT @ x, lr.view(2, 1, 1), value=-1)

    weight, lr, g, x = torch.randn(2, 4, 3), torch.rand(2), torch.randn(2, 5, 4), torch.randn(2, 5, 3)
    operations = trace(step, [weight, lr, g, x])
    assert "aten.baddbmm_.default" in [str(node.target) for node in operations.graph.nodes]
    expected = step(weight.clone(), lr, g, x.clone())
    torch.testing.assert_close(operations(weight, lr, g, x), expected)


def test_what_is_made_of_fixed_numbers_alone_is_made_once() -> None:
    def step(x: Tensor) -> Tensor:
        lower = torch.full((3, 3), 0.5).tril(-1) + torch.eye(3)
        return x @ lower

    operations = trace(step, [torch.ones(3, 3)])
    assert [str(node.target) for node in operations.graph.nodes if node.op == "call_function"] == ["aten.mm.default"]
    x = torch.randn(3, 3)
    assert operations(x).equal(step(x))


def test_operations_called_directly_give_the_same() -> None:
    def step(x: Tensor, y: Tensor) -> Tensor:
        rows = torch.cat([x[:, 1:3], y.mT[:, :2]], -1).view(2, -1)
        x.add_(y, alpha=2).mul_(y)
        total = torch.where(rows > 0, rows, rows.sum(-1, keepdim=True)).unsqueeze(0)
        one = torch.ops.aten._to_copy(1, dtype=torch.float64)
        return (
            one * total.bmm(total.mT)
            + x.mean()
            + x.sigmoid().sum(0, dtype=torch.float64)[0]
            - torch.rsqrt(y.exp()).max()
        )

    tensors = [torch.randn(4, 4), torch.randn(4, 4)]
    operations = trace(step, tensors)
    expected = operations(*(each.clone() for each in tensors))
    call_directly(operations)
    assert {torch.bmm, torch.cat, "mul_"} <= {node.target for node in operations.graph.nodes}
    assert operations(*(each.clone() for each in tensors)).equal(expected)


def test_an_update_is_not_fused_with_a_product_of_what_changes_before_it() -> None:
    def step(weight: Tensor, lr: Tensor, g: Tensor, x: Tensor) -> Tensor:
        gradient = g.mT @ x
        x.mul_(2)
        return weight.addcmul_(gradient, lr.view(2, 1, 1), value=-1)

    weight, lr, g, x = torch.randn(2, 4, 3), torch.rand(2), torch.randn(2, 5, 4), torch.randn(2, 5, 3)
    operations = trace(step, [weight, lr, g, x])
    expected = step(weight.clone(), lr, g, x.clone())
    assert operations(weight, lr, g, x).equal(expected)


def test_a_tensor_from_elsewhere_is_read_anew_at_every_call() -> None:
    outside = torch.ones(3)
    operations = trace(lambda x: x + outside, [torch.zeros(3)])
    outside.mul_(2)
    assert operations(torch.zeros(3)).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "looking", [lambda x: x if x.sum() > 0 else -x, lambda x: x[x > 0].sum(), lambda x: x * x.max().item()]
)
def test_what_depends_on_values_cannot_be_traced(looking: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(RuntimeError, match="depends on a tensor's values"):
        trace(looking, [torch.ones(3)])


def test_log_softmax_in_parts_is_as_exact_as_torchs_own() -> None:
    def step(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        loss = torch.nn.functional.log_softmax(x, -1)
        (gradient,) = torch.autograd.grad(loss[:, 0].sum(), x)
        return torch.stack([loss.detach(), gradient])

    x = torch.tensor([[0.0, 1.0, -2.0], [1e4, 1e4 - 20, 0.0], [-1e4, 30.0, 29.0]])
    torch.testing.assert_close(trace(step, [x])(x), step(x), rtol=1e-6, atol=1e-8)


def test_tracing_does_not_load_torchs_compiler() -> None:
    program = (
        "import sys, torch; from bncli.engine.trace import trace;"
        "trace(lambda x: torch.vmap(torch.nn.functional.log_softmax)(x), [torch.ones(2, 3)]);"
        "assert torch.__version__ < '2.7' or not {'sympy', 'torch._inductor', 'torch._dynamo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_only_runs_long_enough_to_repay_it_are_traced(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncli.plan.TRACED_STEPS", TRACED_STEPS)
    (run, *_) = runs(tiny, "none", "auto")
    long = replace(run, training=run.training.model_copy(update={"steps": TRACED_STEPS}))
    assert [Job((r,)).traced for r in (run, long, replace(long, engine="plain"))] == [False, True, False]


def test_mixed_precision_is_traced_too_and_gives_the_same(tiny: Tiny) -> None:
    recipe = {"steps": 10, "batch_size": 40, "lr": 0.1, "precision": "mixed"}
    one, other = (train(Job(runs(tiny, "batch", engine, training=recipe))) for engine in ("auto", "untraced"))
    assert one[0].info.engine == "3 lanes (vmap), traced"
    for a, b in zip(one, other, strict=True):
        assert a.curve("loss")[1] == pytest.approx(b.curve("loss")[1], rel=1e-3)


@pytest.mark.parametrize("lanes", [(), (2,)])
@pytest.mark.parametrize("biased", [True, False])
def test_the_linear_layer_and_its_gradients_are_right(lanes: tuple[int, ...], biased: bool) -> None:
    x, weight, bias = (
        torch.randn(*lanes, *shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 3), (4, 3), (4,))
    )
    inputs = (x, weight, bias) if biased else (x, weight)
    assert torch.autograd.gradcheck(linear, inputs)
    assert torch.autograd.gradgradcheck(linear, inputs)
    if not lanes:
        torch.testing.assert_close(linear(*inputs), torch.nn.functional.linear(*inputs))
    else:
        torch.testing.assert_close(linear(*inputs), torch.vmap(linear)(*inputs))
        shared = torch.vmap(linear, in_dims=(None, 0, *(0,) * biased))(x[0], *inputs[1:])
        torch.testing.assert_close(shared, linear(x[:1].expand(2, -1, -1), *inputs[1:]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("norm", ["none", "batch", "iternorm", "layer"])
def test_a_step_in_a_cuda_graph_equals_the_step(tiny: Tiny, norm: str) -> None:
    one, other = (
        train(Job(tuple(replace(run, device="cuda") for run in runs(tiny, norm, engine))))
        for engine in ("auto", "untraced")
    )
    assert one[0].info.engine == "3 lanes (vmap), traced, in a CUDA graph"
    for a, b in zip(one, other, strict=True):
        assert a.curve("loss")[1] == pytest.approx(b.curve("loss")[1], rel=1e-3)


class Graph(TorchDispatchMode):
    """A stand-in for a CUDA graph, which does again what was done while it was open: the order of things, no device."""

    def __init__(self) -> None:
        super().__init__()
        self.did: list[Callable[[], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))

        def again() -> None:
            found = func(*args, **(kwargs or {}))
            if found is not args[0]:
                outputs.copy_(found)

        self.did.append(again)
        return outputs

    def replay(self) -> None:
        for again in self.did:
            again()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.Stream", lambda: SimpleNamespace(wait_stream=lambda other: None))
    monkeypatch.setattr("torch.cuda.current_stream", lambda: SimpleNamespace(wait_stream=lambda other: None))
    monkeypatch.setattr("torch.cuda.stream", nullcontext)
    monkeypatch.setattr("torch.cuda.graph_pool_handle", lambda: None)
    monkeypatch.setattr("torch.cuda.CUDAGraph", Graph)
    monkeypatch.setattr("torch.cuda.graph", lambda graph, pool: graph)


@pytest.mark.usefixtures("graphs")
def test_a_capture_leaves_its_tensors_and_then_steps() -> None:
    def step(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
        weights.add_(x)
        return weights * y

    weights, batch = torch.ones(2), (torch.ones(2), torch.ones(2))
    replayed = captured(trace(step, [weights, *batch]), [weights], *batch)
    assert weights.tolist() == [1, 1]
    assert replayed(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 10.0])).tolist() == [20, 30]
    assert replayed(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])).tolist() == [3, 5]


@pytest.mark.usefixtures("graphs")
def test_what_no_graph_takes_is_called_between_two_graphs() -> None:
    def step(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
        weights.add_(1)
        values, vectors = torch.linalg.eigh(x + weights)
        return (vectors @ vectors.mT) * values + y

    weights, y = torch.zeros(1), torch.randn(3, 3)
    pairs = [(m + m.mT, y) for m in torch.randn(2, 3, 3)]
    replayed = captured(trace(step, [weights, *pairs[0]]), [weights], *pairs[0])
    assert len(replayed.parts) == 3
    assert weights.item() == 0
    expected = torch.zeros(1)
    for x, y in pairs:
        torch.testing.assert_close(replayed(x, y), step(expected, x, y))


@pytest.mark.usefixtures("graphs")
def test_what_a_captured_step_reads_lives_as_long_as_it_does() -> None:
    def step(x: Tensor, y: Tensor) -> Tensor:
        return x @ torch.eye(2) + y

    operations = trace(step, [torch.ones(2, 2), torch.ones(2, 2)])
    constants = [weakref.ref(tensor) for tensor in operations.buffers()]
    replayed = captured(operations, [], torch.ones(2, 2), torch.ones(2, 2))
    del operations
    gc.collect()
    assert constants
    assert all(constant() is not None for constant in constants)
    assert replayed(torch.zeros(2, 2), torch.ones(2, 2)).tolist() == [[1, 1], [1, 1]]


def test_of_a_failed_capture_the_first_error_is_reported() -> None:
    def capture() -> None:
        try:
            raise RuntimeError("not permitted while capturing\nin detail")
        finally:
            raise ValueError("a previous error")

    with pytest.raises(ValueError, match="a previous error") as failed:
        capture()
    assert _in_words(failed.value) == "RuntimeError: not permitted while capturing"
