"""Clipping, what decays, label smoothing, mixed precision: each equals torch's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bncli.config import Study
from bncli.engine.evaluate import losses_of
from bncli.engine.network import Network, build
from bncli.engine.state import computing_alike
from bncli.engine.train import train
from bncli.errors import ConfigError
from bncli.optim.optimizers import clipped
from bncli.plan import Job, Run, runs_of

Tiny = Callable[..., Study]


def runs(tiny: Tiny, norm: str = "batch", count: int = 3, model: Any = None, **training: Any) -> list[Run]:
    recipe = {"steps": 20, "batch_size": 40, "lr": 0.1, **training}
    more = {"model": model} if model else {}
    return runs_of(tiny(variants={"it": norm}, reference="it", training=recipe, **more), "cpu")[:count]


@pytest.mark.parametrize("limit", [0.5, 5.0, 500.0])
def test_clipping_equals_torchs_lane_by_lane(limit: float) -> None:
    torch.manual_seed(0)
    grads = [torch.randn(3, *shape, dtype=torch.float64) * 3 for shape in ((4, 5), (6,), ())]
    found = clipped(grads, limit, 1)
    for lane in range(3):
        parameters = [torch.zeros_like(g[lane]).requires_grad_() for g in grads]
        for p, g in zip(parameters, grads, strict=True):
            p.grad = g[lane].clone()
        torch.nn.utils.clip_grad_norm_(parameters, limit)
        for p, mine in zip(parameters, found, strict=True):
            torch.testing.assert_close(mine[lane], p.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_label_smoothing_equals_torchs(smoothing: float) -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(3, 7, 5, dtype=torch.float64), torch.randint(5, (3, 7))
    expected = [F.cross_entropy(o, t, label_smoothing=smoothing) for o, t in zip(outputs, targets, strict=True)]
    found = losses_of(outputs, targets, "cross_entropy", smoothing)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["none", "batch", "weight", "weight-std"])
def test_weights_are_the_matrices_of_layers_and_no_parameter_of_a_norm(tiny: Tiny, norm: str) -> None:
    (run,) = runs(tiny, norm, count=1)
    names = Network([run], "cpu").weights
    found = dict(build(run).named_parameters())
    assert sorted(tuple(found[name].shape) for name in names) == [(10, 16), (16, 16), (16, 784)]


def torchs(run: Run, steps: int) -> dict[str, torch.Tensor]:
    """The loop that people write, with torch's own everything."""
    from bncli.data import DATASETS
    from bncli.engine.batches import Batches

    t, model = run.training, build(run)
    if t.memory_format == "channels_last":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": weights, "weight_decay": t.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=t.lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, t.steps)
    splits = DATASETS.load("mnist")(binarize=127, standardize=False, device="cpu")
    for x, y in Batches(splits.train, t.batch_size, [run.seed], ()).next(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y, label_smoothing=t.label_smoothing).backward()
        assert t.clip is not None
        torch.nn.utils.clip_grad_norm_(model.parameters(), t.clip)
        optimizer.step()
        scheduler.step()
    return dict(model.named_parameters())


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_whole_recipe_equals_the_loop_that_people_write(tiny: Tiny, lanes: int) -> None:
    momentum = {"name": "sgd", "momentum": 0.9}
    chosen = runs(
        tiny, count=lanes, optimizer=momentum, schedule="cosine", clip=0.5, label_smoothing=0.1, weight_decay=0.1,
        decay="weights",
    )  # fmt: skip
    for run, result in zip(chosen, train(Job(tuple(chosen))), strict=True):
        for name, parameter in torchs(run, 20).items():
            assert result.curve("parameter_norm", name)[1][-1] == pytest.approx(parameter.norm().item(), rel=1e-4)


@pytest.mark.parametrize("lanes", [1, 3])
def test_mixed_precision_trains_close_to_float32_and_is_not_float32(tiny: Tiny, lanes: int) -> None:
    plain, mixed = (
        train(Job(tuple(runs(tiny, count=lanes, precision=precision)))) for precision in ("float32", "mixed")
    )
    for one, other in zip(plain, mixed, strict=True):
        assert one.records != other.records
        assert other.curve("loss")[1][-1] == pytest.approx(one.curve("loss")[1][-1], rel=0.02)


def test_smoothed_labels_where_there_are_no_classes_are_a_mistake(tiny: Tiny) -> None:
    training = {"steps": 5, "batch_size": 10, "label_smoothing": 0.1}
    norm = {"it": {"norm": {"name": "detached", "by": "centring"}}}
    with pytest.raises(ConfigError, match="data 'offset' has no classes; must be 0"):
        tiny(data="offset", model="shift", variants=norm, reference="it", training=training)


def test_the_seconds_say_what_they_were_spent_on(tiny: Tiny) -> None:
    (result,) = train(Job(tuple(runs(tiny, count=1))))
    info = result.info
    kinds = {"start", "training", "evaluation", "data", "checkpointing", "compilation", "probing"}
    assert set(info.seconds) == kinds
    spent = info.seconds["training"] + info.seconds["data"]
    assert info.samples_per_second == pytest.approx(20 * 40 / spent)
    assert info.peak_memory > 50e6


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_images_lie_as_the_recipe_says(tiny: Tiny, memory_format: str) -> None:
    (run,) = runs(tiny, count=1, model={"name": "convnet", "channels": [4, 8]}, memory_format=memory_format)
    network, seen = Network([run], "cpu"), list[torch.Tensor]()
    hook = network._model.stages[1][0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    network.forward(torch.rand(6, 784))
    hook.remove()
    assert seen[0].is_contiguous(memory_format=torch.channels_last) == (memory_format == "channels_last")
    assert seen[0].is_contiguous() == (memory_format == "contiguous")


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_images_train_to_torchs_own_numbers_however_they_lie(tiny: Tiny, memory_format: str) -> None:
    (run,) = runs(
        tiny, count=1, model={"name": "convnet", "channels": [4, 8]}, memory_format=memory_format, clip=1e9,
        optimizer={"name": "sgd", "momentum": 0.9}, schedule="cosine",
    )  # fmt: skip
    (result,) = train(Job((run,)))
    for name, parameter in torchs(run, 20).items():
        assert result.curve("parameter_norm", name)[1][-1] == pytest.approx(parameter.norm().item(), rel=1e-4)


@pytest.mark.parametrize("asked", [True, False])
def test_deterministic_is_asked_of_torch_on_a_gpu_and_taken_back(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with computing_alike(asked):
        assert torch.are_deterministic_algorithms_enabled() == asked
        assert torch.is_deterministic_algorithms_warn_only_enabled() == asked
        assert torch.utils.deterministic.fill_uninitialized_memory != asked
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_runs_that_are_not_deterministic_are_those_from_before_there_was_the_key(tiny: Tiny) -> None:
    (plain,), (told,), (other,) = (
        runs(tiny, count=1, **more) for more in ({}, {"deterministic": False}, {"deterministic": True})
    )
    assert plain.id == told.id != other.id
    assert "deterministic" not in plain.training.model_dump()
    assert other.training.model_dump()["deterministic"]
