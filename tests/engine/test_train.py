"""What the training loop promises: pairs, lanes, divergence, evaluation that leaves no trace."""

import math
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from bncli.config import Evaluation, Study
from bncli.data import DATASETS
from bncli.engine.batches import Batches
from bncli.engine.evaluate import evaluate, losses_of
from bncli.engine.network import Network, build
from bncli.engine.train import train
from bncli.norms import NORMS
from bncli.plan import Job, Run, jobs_of, runs_of
from bncli.records import RunResult

Tiny = Callable[..., Study]


def runs(tiny: Tiny, norm: Any = "batch", **changes: Any) -> list[Run]:
    return runs_of(tiny(variants={"it": {"norm": norm}}, reference="it", **changes), "cpu")


def final(result: RunResult) -> float:
    return result.curve("loss")[1][-1]


RESIDUAL = {  # a rate at which networks without a norm stay alive
    "model": {"name": "residual-mlp", "width": 16, "blocks": 2},
    "training": {"steps": 30, "batch_size": 40, "lr": 0.05},
}


def runs_that_fit(tiny: Tiny, norm: str) -> list[Run]:
    """Runs on the multilayer perceptron, or on a residual one where the norm means nothing without branches."""
    part = {"name": norm, "groups": 4} if NORMS[norm].equal_groups else norm
    few = {"training": {"steps": 10, "batch_size": 40, "lr": 0.5}}  # its axes swap: rounding grows a million-fold in 30
    return runs(tiny, part, **(RESIDUAL if NORMS[norm].needs_residual else few if norm == "pca" else {}))


@pytest.fixture
def double_precision() -> Iterator[None]:
    """Numbers so exact that 30 steps of training cannot blow rounding up to a difference that shows."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_lanes_equal_plain(three: list[Run]) -> None:
    together, alone = train(Job(tuple(three))), [train(Job((run,)))[0] for run in three]
    for lane, plain in zip(together, alone, strict=True):
        assert lane.info.engine == "3 lanes (vmap)"
        assert plain.info.engine == "plain"
        for one, other in zip(lane.records, plain.records, strict=True):
            assert (one.key, one.step) == (other.key, other.step)
            assert one.value == pytest.approx(other.value, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("norm", [name for name, row in NORMS.items() if row.lanes and not row.needs_locations])
@pytest.mark.usefixtures("double_precision")
def test_lanes_equal_runs_one_at_a_time(tiny: Tiny, norm: str) -> None:
    assert_lanes_equal_plain(runs_that_fit(tiny, norm))


@pytest.mark.parametrize("norm", ["none", "batch", "weight"])
@pytest.mark.usefixtures("double_precision")
def test_lanes_of_residual_networks_equal_runs_one_at_a_time(tiny: Tiny, norm: str) -> None:
    assert_lanes_equal_plain(runs(tiny, norm, **RESIDUAL))


@pytest.mark.parametrize("norm", [name for name, row in NORMS.items() if row.side != "activation"])
def test_norms_of_weights_and_networks_learn(tiny: Tiny, norm: str) -> None:
    for result in train(Job(tuple(runs(tiny, norm, **RESIDUAL)))):
        assert result.info.status == "done"
        assert result.curve("loss")[1][-1] < result.curve("loss")[1][0]


def test_the_same_job_gives_the_same_numbers_bit_for_bit(tiny: Tiny) -> None:
    job = Job(tuple(runs(tiny)))
    assert [r.records for r in train(job)] == [r.records for r in train(job)]


def test_noise_follows_from_the_runs_seed_whatever_ran_before(tiny: Tiny) -> None:
    first, second, _ = (Job((run,)) for run in runs(tiny, "noisy-batch"))
    expected = train(first)[0].records
    torch.rand(1)
    assert train(second)[0].records != expected
    assert train(first)[0].records == expected


def test_noise_in_lanes_differs_from_lane_to_lane_and_again_follows_from_the_seed(tiny: Tiny) -> None:
    one = runs(tiny, "noisy-batch")[0]
    job = Job((one, one, one))
    curves = [r.curve("loss") for r in train(job)]
    assert curves[0] != curves[1]
    assert curves == [r.curve("loss") for r in train(job)]


def test_one_seed_means_one_start_and_one_order_in_every_variant(tiny: Tiny) -> None:
    none, batch = (build(runs(tiny, norm)[0]) for norm in ("none", "batch"))
    for name, parameter in batch.named_parameters():
        if name.endswith("0.weight") or name.startswith("readout"):
            torch.testing.assert_close(parameter, none.get_parameter(name), rtol=0, atol=0)
    split = DATASETS.load("mnist")(binarize=None, standardize=False, device="cpu").validation
    first, again = (next(Batches(split, 20, [3], ()).next(1))[1] for _ in range(2))
    assert first.equal(again)
    assert not first.equal(next(Batches(split, 20, [4], ()).next(1))[1])


@pytest.mark.parametrize(
    ("norm", "model"),
    [(norm, "mlp") for norm in ("batch", "weight", "weight-std")]
    + [(norm, "residual-mlp") for norm in ("batch", "weight", "scaled-weight-std", "skipinit")],
)
def test_one_seed_draws_the_same_weights_under_every_kind_of_norm(tiny: Tiny, norm: str, model: str) -> None:
    plain, normed = (build(runs(tiny, name, model=model)[0]) for name in ("none", norm))
    found = dict(normed.named_parameters())
    drawn = {name: weight for name, weight in plain.named_parameters() if name.endswith("weight")}
    assert len(drawn) > 3
    for name, weight in drawn.items():
        computed = name.replace(".weight", ".parametrizations.weight.original")
        assert torch.equal(next(found[n] for n in (name, f"{computed}1", computed) if n in found), weight)


def test_lanes_with_one_seed_see_the_same_batches_and_others_do_not(tiny: Tiny) -> None:
    split = DATASETS.load("mnist")(binarize=None, standardize=False, device="cpu").validation
    x, y = next(Batches(split, 20, [3, 3, 4], (3,)).next(1))
    assert x.shape == (3, 20, 784)
    assert y[0].equal(y[1])
    assert not y[0].equal(y[2])


def test_an_epoch_shows_every_example_at_most_once(tiny: Tiny) -> None:
    split = DATASETS.load("offset")(seed=0, device="cpu").train
    seen = torch.cat([x for x, _ in Batches(split, 300, [0], ()).next(3)])
    assert len(seen.unique()) == 900


def test_a_diverging_lane_leaves_the_others_alone(tiny: Tiny) -> None:
    wild = {"steps": 30, "batch_size": 40, "lr": 0.5, "weight_decay": 0.1}
    model = {"name": "mlp", "hidden": [16, 16], "activation": "relu"}
    calm = runs(tiny, "none", training=wild, model=model)
    broken = [
        replace(run, training=run.training.model_copy(update={"lr": 1e12})) if run.seed == 1 else run for run in calm
    ]
    expected, found = train(Job(tuple(calm))), train(Job(tuple(broken)))
    assert found[1].info.status == "diverged"
    assert found[1].info.reason == "the training loss is not finite"
    assert 1 < found[1].info.step <= 10
    assert [r.info.status for r in found] == ["done", "diverged", "done"]
    assert found[0].records == expected[0].records
    assert found[2].records == expected[2].records
    assert all(math.isfinite(record.value) for record in found[1].records)


def test_a_job_whose_lanes_have_all_diverged_stops(tiny: Tiny) -> None:
    model = {"name": "mlp", "hidden": [16, 16], "activation": "relu"}
    wild = runs(tiny, "none", model=model, training={"steps": 10_000_000, "batch_size": 40, "lr": 1e12})
    assert [r.info.status for r in train(Job(tuple(wild)))] == ["diverged"] * 3


@pytest.mark.parametrize("norm", ["zca", "cholesky", "iternorm", "pca"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_inputs_of_a_whitening_that_stop_being_finite_end_as_divergence(tiny: Tiny, norm: str, lanes: int) -> None:
    model = {"name": "mlp", "hidden": [16, 16], "activation": "relu"}
    wild = runs(tiny, norm, model=model, training={"steps": 100, "batch_size": 40, "lr": 1e30})
    for result in train(Job(tuple(wild[:lanes]))):
        assert result.info.status == "diverged"
        assert result.info.step < 100


@pytest.mark.parametrize("norm", ["batch", "renorm", "noisy-batch"])
@pytest.mark.parametrize("statistics", ["running", "precise", "batch"])
def test_evaluation_leaves_no_trace_in_training(tiny: Tiny, statistics: str, norm: str) -> None:
    rare, often = (
        {"every": every, "split": "validation", "statistics": statistics, "precise_batches": 3} for every in (30, 3)
    )
    (one, *_), (other, *_) = (train(Job(tuple(runs(tiny, norm, evaluation=how)))) for how in (rare, often))
    assert final(one) == final(other)


@pytest.mark.parametrize("momentum", [0.1, "cumulative"])
def test_precise_statistics_are_the_average_over_training_batches(tiny: Tiny, momentum: float | str) -> None:
    variant = {"batch": {"norm": {"name": "batch", "momentum": momentum}}}
    study = tiny(variants=variant, reference="batch", model={"name": "mlp", "hidden": [16]})
    run = runs_of(study, "cpu")[0]
    splits = DATASETS.load("mnist")(binarize=127, standardize=False, device="cpu")
    network, batches = Network([run], "cpu"), Batches(splits.train, 40, [0], ())
    how = Evaluation(split="validation", statistics="precise", precise_batches=4)
    found = evaluate(network, splits.validation, how, "cross_entropy", batches)["loss"]
    model = build(run).eval()
    linear, norm = model.hidden[0][0], model.hidden[0][1]
    with torch.no_grad():
        features = torch.stack([linear(x) for x in batches.fixed(4)])
        norm.running_mean.copy_(features.mean((0, 1)))
        norm.running_var.copy_(features.var(1, correction=1).mean(0))  # m / (m - 1) E[sigma^2], algorithm 2
        x, y = splits.validation.slice(0, len(splits.validation))
        expected = losses_of(model(x), y, "cross_entropy")
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_bias_before_a_centring_norm_is_dropped_and_not_counted(tiny: Tiny) -> None:
    plain, batch = (train(Job((runs(tiny, norm)[0],)))[0].info.parameters for norm in ("none", "batch"))
    weights = 784 * 16 + 16 * 16 + 16 * 10 + 10
    assert plain == weights + 16 + 16
    assert batch == weights + 4 * 16


def test_losses_equal_torchs_lane_by_lane() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(3, 7, 5), torch.randint(5, (3, 7))
    expected = torch.stack([torch.nn.functional.cross_entropy(o, t) for o, t in zip(outputs, targets, strict=True)])
    torch.testing.assert_close(losses_of(outputs, targets, "cross_entropy"), expected)


def test_a_study_trains_its_lanes_to_better_than_chance(tiny: Tiny) -> None:
    (job, *_) = jobs_of(runs(tiny, training={"steps": 60, "batch_size": 40, "lr": 0.5}))
    for result in train(job):
        steps, accuracy = result.curve("accuracy")
        assert steps == [0, 10, 20, 30, 40, 50, 60]
        assert accuracy[-1] > 0.5 > accuracy[0]


def test_lanes_that_need_too_much_memory_are_trained_in_halves(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Network.__init__

    def with_little_memory(self: Network, runs: Any, device: str) -> None:
        if len(runs) > 2:
            raise torch.OutOfMemoryError("out of memory")
        made(self, runs, device)

    monkeypatch.setattr(Network, "__init__", with_little_memory)
    five = runs(tiny, seeds=5)
    found = train(Job(tuple(five)))
    assert [result.info.id for result in found] == [run.id for run in five]
    assert [result.info.engine for result in found] == ["2 lanes (vmap)"] * 2 + ["plain"] + ["2 lanes (vmap)"] * 2


def test_a_single_run_that_needs_too_much_memory_fails(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(self: Network, runs: Any, device: str) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Network, "__init__", without_memory)
    with pytest.raises(torch.OutOfMemoryError):
        train(Job((runs(tiny)[0],)))


def test_batches_of_several_epochs_are_those_drawn_one_by_one(tiny: Tiny) -> None:
    (run, *_) = runs(tiny)
    split = DATASETS.load(run.data.name)(**run.data.options, device="cpu").validation
    size = len(split) * 2 // 5  # two batches an epoch, and a rest
    at_once, one_by_one = (Batches(split, size, [1, 2], (2,)) for _ in range(2))
    for x, y in at_once.next(5):
        x_alone, y_alone = next(iter(one_by_one.next(1)))
        assert x.equal(x_alone)
        assert y.equal(y_alone)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the rules are glibc's")
def test_a_worker_keeps_the_memory_that_it_frees() -> None:
    program = (
        "import resource; from bncli.engine.environment import keep_freed_memory; keep_freed_memory()\n"
        "def use(): held = [bytearray(2**24 - 4096) for _ in range(4)]\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "use(); use(); before = faults(); [use() for _ in range(10)]; assert faults() - before < 1000"
    )  # by glibc's own rules it is 160,000
    subprocess.run([sys.executable, "-c", program], check=True)
