"""Runs, their ids, and the jobs they form."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest

from bncli.catalogue import Option
from bncli.config import Study, read_study
from bncli.config.parts import Before, Frozen
from bncli.errors import ConfigError
from bncli.norms import NORMS
from bncli.plan import MAX_LANES, MAX_LANES_ON_A_GPU, _section, jobs_of, runs_of, seconds_of
from bncli.plan.words import describe, explain_norms, warnings_of
from bncli.presets import preset_path

Tiny = Callable[..., Study]


def test_a_plan_is_settings_times_variants_times_seeds(tiny: Tiny) -> None:
    runs = runs_of(tiny(sweep={"training.lr": [0.1, 0.5]}), "cpu")
    assert len(runs) == 2 * 2 * 3
    assert len({run.id for run in runs}) == len(runs)


def test_an_id_depends_on_the_numbers_and_not_on_labels(tiny: Tiny) -> None:
    plain, renamed = (
        runs_of(tiny(), "cpu"),
        runs_of(tiny(variants={"none": "none", "bn": "batch"}, question="?"), "cpu"),
    )
    assert [run.id for run in plain] == [run.id for run in renamed]
    assert plain[0].id != runs_of(tiny(), "cuda")[0].id
    assert plain[0].id != runs_of(tiny(evaluation={"every": 5, "split": "validation"}), "cpu")[0].id


def test_a_default_written_out_is_the_same_run(tiny: Tiny) -> None:
    written = tiny(variants={"none": "none", "batch": {"norm": {"name": "batch", "momentum": 0.1}}})
    assert [run.id for run in runs_of(written, "cpu")] == [run.id for run in runs_of(tiny(), "cpu")]


def test_runs_of_one_shape_share_a_job_whatever_their_seed_and_rate(tiny: Tiny) -> None:
    jobs = jobs_of(runs_of(tiny(sweep={"training.lr": [0.1, 0.5], "training.optimizer.momentum": [0, 0.9]}), "cpu"))
    assert sorted(len(job.runs) for job in jobs) == [6, 6, 6, 6]
    assert all(len({run.variant for run in job.runs}) == 1 for job in jobs)


def test_runs_of_another_shape_do_not_share_a_job(tiny: Tiny) -> None:
    jobs = jobs_of(runs_of(tiny(sweep={"training.batch_size": [20, 40]}), "cpu"))
    assert sorted(len(job.runs) for job in jobs) == [3, 3, 3, 3]


def test_lanes_are_few_enough_and_evenly_spread(tiny: Tiny) -> None:
    jobs = jobs_of(runs_of(tiny(seeds=2 * MAX_LANES + 1, variants={"none": "none"}), "cpu"))
    assert [len(job.runs) for job in jobs] == [7, 7, 7]


def test_a_gpu_takes_more_lanes_at_once(tiny: Tiny) -> None:
    jobs = jobs_of(runs_of(tiny(seeds=MAX_LANES_ON_A_GPU, variants={"none": "none"}), "cuda"))
    assert [len(job.runs) for job in jobs] == [MAX_LANES_ON_A_GPU]


def test_a_run_that_two_variants_share_is_trained_once(tiny: Tiny) -> None:
    jobs = jobs_of(runs_of(tiny(variants={"none": "none", "also-none": "none"}), "cpu"))
    assert sum(len(job.runs) for job in jobs) == 3


def test_the_dearest_job_comes_first(tiny: Tiny) -> None:
    jobs = jobs_of(runs_of(tiny(variants={"none": "none", "iternorm": "iternorm"}), "cpu"))
    assert [job.runs[0].norm.name for job in jobs] == ["iternorm", "none"]
    assert seconds_of(jobs[0]) > seconds_of(jobs[1])


def test_the_estimate_of_a_transformer_is_near_what_it_took() -> None:
    """The 30 runs of the report of `compare rmsnorm` took 110 s of a core; by its layers' products alone it were 63."""
    jobs = jobs_of(runs_of(read_study(preset_path("rmsnorm")), "cpu"))
    assert 80 < sum(map(seconds_of, jobs)) < 140


def test_a_batch_below_the_whitened_group_is_a_warning(tiny: Tiny) -> None:
    study = tiny(model={"name": "mlp", "hidden": [100]}, variants={"none": "none", "iternorm": "iternorm"})
    assert warnings_of(study) == [
        "iternorm: whitens groups of 64 channels from batches of 40, too few for their covariance (rank-deficient); use "
        "training.batch_size 128 or more, or group_size 20 or less"
    ]


def test_an_activation_on_top_of_a_norm_that_is_one_is_a_warning(tiny: Tiny) -> None:
    variants = {"none": "none", "frn": "frn"}
    assert warnings_of(tiny(variants=variants)) == [
        "frn: norm 'frn' is an activation as well, and the network's sigmoid comes on top; leave it out with --set "
        "model.activation=identity"
    ]
    assert not warnings_of(tiny(model={"name": "mlp", "activation": "identity"}, variants=variants))
    own = {"none": "none", "frn": {"norm": "frn", "model": {"activation": "identity"}}}
    assert not warnings_of(tiny(variants=own))


def test_a_study_is_described_in_one_line(tiny: Tiny) -> None:
    assert describe(tiny(), "cpu") == (
        "mnist · mlp 784-16-16-10 sigmoid · batch 40 · sgd lr 0.5 (constant), momentum 0, no weight decay, no "
        "augmentation · 30 steps · 3 paired seeds · cpu"
    )


def test_the_whole_recipe_is_described(tiny: Tiny) -> None:
    recipe = {
        "steps": 30, "batch_size": 40, "lr": 0.1, "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
        "schedule": {"name": "cosine", "warmup": 10}, "weight_decay": 5e-4, "clip": 1.0,
        "augment": {"crop": 4, "flip": True},
    }  # fmt: skip
    assert (
        " · sgd lr 0.1 (cosine, warmup 10), momentum 0.9, nesterov, weight decay 0.0005, clip 1, crop 4, flip · "
    ) in describe(tiny(training=recipe), "cpu")
    swept = tiny(sweep={"training.optimizer.momentum": [0.0, 0.9]})
    assert " · sgd lr 0.5 (constant), momentum 0.0, 0.9, no weight decay" in describe(swept, "cpu")
    few = tiny(training={"batches": {"classes_per_batch": 2}})
    assert " · batch 60 of 2 classes · " in describe(few, "cpu")


def test_what_the_norms_of_a_study_are_is_said_with_where_it_stands(tiny: Tiny) -> None:
    assert explain_norms(tiny(variants={"none": "none", "batch": "batch"})) == []
    assert explain_norms(tiny(variants={"none": "none", "layer": "layer"}))[0] == (
        "bncli ls norms NAME says what a norm is"
    )
    line, paragraph = explain_norms(tiny(variants={"none": "none", "zca": "zca", "cholesky": "cholesky"}))
    assert line == (
        "zca and cholesky whiten: they decorrelate channels as well as scale them; bncli ls norms NAME says what a "
        "norm is"
    )
    assert paragraph.startswith("zca: decorrelated batch normalisation: whitening by the symmetric root; cholesky: ")


def test_images_train_one_by_one_on_a_cpu_and_as_lanes_elsewhere(tiny: Tiny) -> None:
    study = tiny(model="convnet", variants={"none": "none"})
    assert [job.lanes for job in jobs_of(runs_of(study, "cpu"))] == [False] * 3
    assert [job.lanes for job in jobs_of(runs_of(study, "cuda"))] == [True]


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("convnet", "convnet 1x28x28-16-32-64-10 relu"),
        ("resnet", "resnet depth 20 1x28x28-16-32-64-10 relu"),
        ("inception-bn", "inception-bn 1x28x28-3a3b3c4a/8-10 relu"),
        ("deep-mlp", "deep-mlp 784-8x100-10 sigmoid"),
    ],
)
def test_every_kind_of_network_is_described_in_a_few_signs(tiny: Tiny, model: str, text: str) -> None:
    assert f" · {text} · " in describe(tiny(model=model), "cpu")


def test_a_variant_may_name_its_own_evaluation_statistics(tiny: Tiny) -> None:
    precise = {"norm": "batch", "evaluation": {"statistics": "precise"}}
    runs = runs_of(tiny(variants={"batch": "batch", "precise": precise}, reference="batch", seeds=1), "cpu")
    assert [run.evaluation.statistics for run in runs] == ["running", "precise"]
    assert {run.evaluation.every for run in runs} == {10}


def test_a_variant_may_not_be_evaluated_on_other_examples(tiny: Tiny) -> None:
    with pytest.raises(ConfigError) as error:
        tiny(variants={"none": {"norm": "none", "evaluation": {"split": "test"}}})
    assert "variants.none.evaluation.split" in str(error.value)


def test_a_study_without_probes_has_the_ids_it_always_had(tiny: Tiny) -> None:
    runs = runs_of(tiny(), "cpu")
    assert all("probes" not in run.spec() for run in runs)
    unused = runs_of(tiny(probes={"every": 7, "examples": 20}), "cpu")  # nothing is asked for
    assert [run.id for run in unused] == [run.id for run in runs]


def test_probes_are_part_of_the_id(tiny: Tiny) -> None:
    plain, light, finer = (
        runs_of(tiny(probes=probes), "cpu")[0].id for probes in ({}, "light", {"metrics": "light", "every": 7})
    )
    assert len({plain, light, finer}) == 3


SETTLED = json.loads((Path(__file__).parent / "fixtures" / "ids.json").read_text())


@pytest.mark.parametrize("preset", SETTLED)
def test_runs_have_the_ids_that_they_were_stored_under_before(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made by `runs_of(study, "cpu")` of the code before the second house: number of runs, hash of their ids.

    Nothing but `numerics`, raised where a norm gives other numbers than it did, may part them.
    """
    for name, row in NORMS.own.items():
        monkeypatch.setitem(NORMS.own, name, replace(row, numerics=2))
    study = read_study(preset_path(preset))
    ids = [run.id for run in runs_of(study, "cpu")]
    assert [len(ids), hashlib.sha256(" ".join(ids).encode()).hexdigest()[:20]] == SETTLED[preset]


def test_norms_that_give_other_numbers_than_before_answer_with_no_run_of_before() -> None:
    raised = {name for name, row in NORMS.own.items() if row.numerics == 3}
    assert raised == {
        "zca", "pca", "zca-cor", "cholesky", "iternorm", "group-whitening", "instance-whitening",
        "switchable-whitening", "deconv", "detached",
    }  # fmt: skip


def test_a_younger_option_enters_an_id_only_where_it_changes_something(
    monkeypatch: pytest.MonkeyPatch, tiny: Any
) -> None:
    run = runs_of(tiny(), "cpu")[0]
    row = NORMS["none"]
    younger = replace(row, options={**row.options, "soft": Option(bool, False, "softens", before=False)})
    monkeypatch.setitem(NORMS.own, "none", younger)
    as_before = runs_of(tiny(), "cpu")[0]
    assert as_before.norm.options["soft"] is False
    assert as_before.id == run.id
    changed = runs_of(tiny(variants={"none": {"norm": {"name": "none", "soft": True}}}), "cpu")[0]
    assert changed.id != run.id


def test_a_younger_key_enters_an_id_only_where_it_changes_something() -> None:
    class Recipe(Frozen):
        steps: int = 3
        clip: Annotated[float | None, Before(None)] = None

    assert _section(Recipe()) == {"steps": 3}
    assert _section(Recipe(clip=1.0)) == {"steps": 3, "clip": 1.0}


def test_numerics_are_written_where_a_row_has_raised_them(monkeypatch: pytest.MonkeyPatch, tiny: Any) -> None:
    none, batch = (next(r.id for r in runs_of(tiny(), "cpu") if r.variant == name) for name in ("none", "batch"))
    monkeypatch.setitem(NORMS.own, "batch", replace(NORMS["batch"], numerics=3))
    again = {r.variant: r for r in runs_of(tiny(), "cpu") if r.seed == 0}
    assert again["none"].id == none
    assert again["batch"].id != batch
    assert again["batch"].spec()["numerics_of"] == {"norm": 3}
