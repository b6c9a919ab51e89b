"""Probes look at a network in training, and training goes on as if nobody had looked."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bncli.config import Study
from bncli.config.study import study_of
from bncli.data import DATASETS
from bncli.engine.network import build
from bncli.engine.train import Sign, train
from bncli.errors import ConfigError
from bncli.plan import Job, runs_of
from bncli.records import Record, RunResult

Tiny = Callable[..., Study]
FULL = {"metrics": "full", "every": 10, "examples": 80}


def job_of(tiny: Tiny, norm: Any = "batch", lanes: int = 3, probes: Any = FULL, **changes: Any) -> Job:
    study = tiny(variants={"it": {"norm": norm}}, reference="it", probes=probes, **changes)
    return Job(tuple(runs_of(study, "cpu")[:lanes]))


def ordinary(result: RunResult) -> list[Record]:
    kinds = ("accuracy", "loss", "train_loss", "parameter_norm")
    return [record for record in result.records if record.metric in kinds]


def probed(result: RunResult) -> list[Record]:
    return [record for record in result.records if record not in ordinary(result)]


def state_at_25(job: Job, folder: Path) -> dict[str, Any]:
    train(job, checkpoints=folder, save_every=25)
    (path,) = (path for path in folder.iterdir() if path.name.startswith(f"{25:012d}"))
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


@pytest.mark.parametrize(
    ("norm", "lanes", "mode"),
    [("batch", 3, "evaluation"), ("batch", 1, "train"), ("zca", 3, "train"), ("renorm", 1, "evaluation"),
     ("noisy-batch", 1, "train"), ("noisy-batch", 1, "evaluation"), ("weight", 3, "evaluation")],
)  # fmt: skip
def test_with_and_without_probes_the_state_is_the_same_bit_for_bit(
    tiny: Tiny, tmp_path: Path, norm: str, lanes: int, mode: str
) -> None:
    recipe = {"steps": 30, "batch_size": 40, "lr": 0.1, "optimizer": "adam"}
    with_probes, without = (
        state_at_25(job_of(tiny, norm, lanes, probes, training=recipe), tmp_path / name)
        for name, probes in (("with", {**FULL, "mode": mode}), ("without", {}))
    )
    for part in ("parameters", "buffers"):
        for name, tensor in without[part].items():
            assert with_probes[part][name].equal(tensor)
    for moment, tensors in without["optimizer"].items():
        assert all(a.equal(b) for a, b in zip(with_probes["optimizer"][moment], tensors, strict=True))
    assert all(a.equal(b) for a, b in zip(with_probes["noise"], without["noise"], strict=True))
    assert with_probes["probed"]
    assert not without["probed"]


def test_probes_change_no_number_of_a_traced_run(tiny: Tiny) -> None:
    recipe = {"steps": 300, "batch_size": 40, "lr": 0.5}
    with_probes, without = (
        train(job_of(tiny, probes=probes, training=recipe))
        for probes in ({**FULL, "metrics": "standard", "every": 150}, {})
    )
    assert with_probes[0].info.engine == "3 lanes (vmap), traced, in TorchScript"
    assert [ordinary(r) for r in with_probes] == [ordinary(r) for r in without]
    assert all(probed(r) for r in with_probes)


class Killed(BaseException):
    """Stands for a signal: nothing in the engine catches it."""


@pytest.mark.parametrize(("norm", "lanes"), [("batch", 3), ("noisy-batch", 1)])
def test_a_killed_job_goes_on_to_the_same_probes(tiny: Tiny, tmp_path: Path, norm: str, lanes: int) -> None:
    job = job_of(tiny, norm, lanes)
    expected = [r.records for r in train(job)]

    def report(sign: Sign) -> None:
        if sign.step == 20:
            raise Killed

    with pytest.raises(Killed):
        train(job, report, tmp_path, 14)  # its last checkpoint is between two probes
    torch.manual_seed(123)
    assert [r.records for r in train(job, lambda sign: None, tmp_path, 14)] == expected


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_precision")
def test_lanes_are_probed_as_each_run_alone(tiny: Tiny) -> None:
    job = job_of(tiny)
    for lane, run in zip(train(job), job.runs, strict=True):
        (alone,) = train(Job((run,)))
        assert len(probed(lane)) == len(probed(alone)) > 100
        for one, other in zip(probed(lane), probed(alone), strict=True):
            assert (one.key, one.step) == (other.key, other.step)
            assert one.value == pytest.approx(other.value, rel=1e-5, abs=1e-7)


def weights_of(tiny: Tiny, norm: str, lanes: int) -> Job:
    """A deep linear network trained in full batches, whose gradients do not depend on the order of the examples."""
    probes = {"metrics": ["weight-norm", "gradient-norm", "activation-rms"], "every": 10, "mode": "train"}
    return job_of(
        tiny, norm, lanes, {**probes, "examples": 1000, "split": "train", "layers": ["layers.*"]},
        data="linear-map", model={"name": "deep-linear", "depth": 3, "width": 4},
        training={"steps": 10, "batch_size": 1000, "lr": 0.01}, evaluation={"every": 10, "split": "test"},
    )  # fmt: skip


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_norms_of_weights_and_gradients_are_those_of_autograd(tiny: Tiny, norm: str, lanes: int) -> None:
    job = weights_of(tiny, norm, lanes)
    for run, result in zip(job.runs, train(job), strict=True):
        model, data = build(run), DATASETS.load("linear-map")(**run.data.options, device="cpu").train
        x, y = data.slice(0, len(data))
        seen: list[torch.Tensor] = []
        for _, normalised in model.get_submodule("layers").named_children():
            normalised.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output))
        (model(x) - y).square().mean().backward()
        weights = {name: p for name, p in model.named_parameters() if p.ndim == 2}
        assert len(weights) == 3
        for (name, weight), output in zip(weights.items(), seen, strict=True):
            layer = name.removesuffix(".weight")
            assert weight.grad is not None
            assert result.curve("weight-norm", layer)[1][0] == pytest.approx(weight.norm().item(), rel=1e-9)
            assert result.curve("gradient-norm", layer)[1][0] == pytest.approx(weight.grad.norm().item(), rel=1e-9)
            rms = output.square().mean().sqrt().item()
            assert result.curve("activation-rms", layer, "norm")[1][0] == pytest.approx(rms, rel=1e-6)


def test_a_norm_in_the_weight_is_measured_where_its_direction_comes_from(tiny: Tiny) -> None:
    probes = {"metrics": ["weight-norm", "gradient-norm"], "every": 10}
    for result in train(job_of(tiny, "weight", probes=probes)):
        direction = "hidden.1.0.parametrizations.weight.original1"
        assert result.curve("weight-norm", "hidden.1.0")[1] == pytest.approx(
            result.curve("parameter_norm", direction)[1][1:], rel=1e-6
        )
        assert min(result.curve("gradient-norm", "hidden.1.0")[1]) > 0


def test_the_gradient_of_the_first_layer_does_not_shift(tiny: Tiny) -> None:
    for result in train(job_of(tiny, "batch")):
        assert result.curve("gradient-shift", "hidden.0.0") == ([10, 20, 30], [0.0] * 3)
        assert result.curve("gradient-cosine", "hidden.0.0") == ([10, 20, 30], [1.0] * 3)
        assert min(result.curve("gradient-shift", "hidden.1.0")[1]) > 0


def test_at_the_end_of_a_schedule_gradients_shift_by_a_step_like_the_last(tiny: Tiny) -> None:
    recipe = {"steps": 20, "batch_size": 40, "lr": 0.5, "schedule": "cosine"}  # falls to 0 at step 20
    _, values = train(job_of(tiny, training=recipe))[0].curve("gradient-shift", "readout")
    assert values[-1] > 0


def test_in_evaluation_mode_there_is_no_probe_before_running_statistics_know_data(tiny: Tiny) -> None:
    steps = {
        mode: train(job_of(tiny, probes={**FULL, "mode": mode}))[0].curve(
            "percentile_50", "hidden.0.0", "norm", "median"
        )[0]
        for mode in ("evaluation", "train")
    }
    assert steps == {"evaluation": [10, 20, 30], "train": [0, 10, 20, 30]}


def test_a_drift_is_over_one_interval_and_is_measured_at_its_end(tiny: Tiny) -> None:
    result = train(job_of(tiny))[0]
    assert result.curve("percentile-drift", "hidden.1.0", "norm", "mean")[0] == [20, 30]
    assert result.curve("percentile-drift", "hidden.1.0", "norm", "null")[0] == [10]  # of every fourth probe


def test_of_several_null_draws_each_is_kept(tiny: Tiny) -> None:
    alone, several = (train(job_of(tiny, probes={**FULL, "null_draws": n}))[0] for n in (1, 3))
    site = ("percentile-drift", "hidden.1.0", "norm", "null")
    draws = [several.curve(*site, index)[1] for index in range(3)]
    assert several.curve(*site)[1] == []
    assert draws[0] == alone.curve(*site)[1]
    assert len({*draws[0], *draws[1], *draws[2]}) == 3


def test_a_network_that_does_not_move_does_not_drift(tiny: Tiny) -> None:
    still = {"steps": 30, "batch_size": 40, "lr": 1e-30}
    for result in train(job_of(tiny, "none", training=still)):
        for metric in ("percentile-drift", "w1", "ks", "symmetric-kl"):
            assert result.curve(metric, "hidden.1.0", "norm", "p90")[1] == [0.0, 0.0]
        assert min(result.curve("percentile-drift", "hidden.1.0", "norm", "null")[1]) > 0
        assert result.curve("gradient-shift", "readout")[1] == [0.0] * 3


def test_a_lane_that_has_diverged_is_probed_no_more(tiny: Tiny) -> None:
    model = {"name": "mlp", "hidden": [16, 16], "activation": "relu"}
    study = tiny(
        variants={"none": "none"}, model=model, sweep={"training.lr": [0.1, 1e12]}, seeds=1,
        probes={**FULL, "metrics": "standard"},
    )  # fmt: skip
    alive, gone = train(Job(tuple(runs_of(study, "cpu"))))
    assert gone.info.status == "diverged"
    assert probed(alive)
    assert not probed(gone)


def test_layers_are_chosen_by_pattern_and_places_by_name(tiny: Tiny) -> None:
    probes = {"metrics": ["w1"], "every": 10, "examples": 40, "layers": ["*.1.0"], "sites": ["layer", "activation"]}
    result = train(job_of(tiny, probes=probes))[0]
    assert {(r.layer, r.place) for r in probed(result)} == {("hidden.1.0", "layer"), ("hidden.1.0", "activation")}


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [("hidden.-1.0", {"hidden.1.0"}), ("hidden.-2*", {"hidden.0.0"}), ("hidden.1.-1", {"hidden.1.0"}),
     ("hidden.-?.0", {"hidden.0.0", "hidden.1.0"})],
)  # fmt: skip
def test_a_number_in_a_pattern_may_count_from_the_end(tiny: Tiny, pattern: str, chosen: set[str]) -> None:
    probes = {"metrics": ["gradient-norm"], "every": 10, "examples": 40, "layers": [pattern]}
    assert {record.layer for record in probed(train(job_of(tiny, probes=probes))[0])} == chosen


def test_a_pattern_that_no_layer_has_is_said_with_the_layers_there_are(tiny: Tiny) -> None:
    with pytest.raises(ConfigError) as caught:
        train(job_of(tiny, probes={"metrics": "light", "layers": ["conv*"]}))
    assert str(caught.value) == ("probes.layers: no layer is called 'conv*' (known: hidden.0.0, hidden.1.0, readout)")


def test_single_units_are_recorded_on_request(tiny: Tiny) -> None:
    result = train(job_of(tiny, probes={"metrics": ["percentiles"], "every": 10, "examples": 40, "units": 2}))[0]
    assert {(record.metric, record.statistic, record.index) for record in probed(result)} == {
        (f"percentile_{share}", *which) for share in (15, 50, 85) for which in (("median", None), ("", 0), ("", 1))
    }


@pytest.mark.parametrize(
    "model",
    [{"name": "convnet", "channels": [4, 6]}, {"name": "resnet", "depth": 8, "channels": [2, 2, 2]}],
)
def test_convolutions_are_probed_with_locations_as_examples(tiny: Tiny, model: Any) -> None:
    recipe = {"steps": 2, "batch_size": 20, "lr": 0.1}
    probes = {"metrics": "standard", "every": 1, "examples": 20}
    result = train(job_of(tiny, "batch", 1, probes, model=model, training=recipe, evaluation={"every": 2}))[0]
    layers = {key.layer for key in result.keys("percentile-drift")}
    assert len(layers) == len(result.keys("gradient-shift")) - 1


def test_time_spent_probing_is_counted_apart(tiny: Tiny) -> None:
    with_probes, without = (train(job_of(tiny, probes=probes))[0].info.seconds for probes in (FULL, {}))
    assert with_probes["probing"] > 0
    assert without["probing"] == 0


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ("ligth", "probes.metrics: must be one of light, standard, full or a list of metrics, got 'ligth'"),
        (
            {"metrics": ["w2"]},
            "probes.metrics: no metric is called 'w2'",
        ),
        ({"metrics": "light", "every": 0}, "probes.every: must be >= 1, got 0"),
        ({"metric": "light"}, "probes.metric: no such key; did you mean 'metrics'?"),
    ],
)
def test_a_mistake_in_probes_is_said_with_its_place(tiny: Tiny, probes: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        study_of({"variants": {"a": "none"}, "reference": "a", "seeds": 1, "probes": probes})
    assert str(caught.value).startswith(message)
