"""Transformers trained as studies train them: in lanes, traced and plain alike, and compared in every respect."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bncli
from bncli.config import Study
from bncli.config.study import study_of
from bncli.engine.train import train
from bncli.errors import ConfigError
from bncli.plan import Job, jobs_of, runs_of
from bncli.plan.words import describe, network_warnings, warnings_of

STEPS = 50  # from here on a step is traced
TREE: dict[str, Any] = {
    "model": {"name": "transformer", "width": 8, "depth": 1, "heads": 2},
    "training": {"steps": STEPS, "batch_size": 4, "lr": 0.003, "optimizer": "adamw"},
    "evaluation": {"every": STEPS, "split": "validation"},
    "reference": "pre", "seeds": 3, "measures": ["final_loss"], "target": None,
}  # fmt: skip


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Study]:
    """A tiny study of text; keywords replace its parts."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{i} times {i} is {i * i}\n" for i in range(70)))

    def make(variants: dict[str, Any], predict: str = "masked", **changes: Any) -> Study:
        data = {"name": "text", "file": str(text), "length": 12, "predict": predict}
        tree = {**TREE, "data": data, "variants": variants, "reference": next(iter(variants)), **changes}
        if predict == "next":
            tree["model"] = {**tree["model"], "causal": True}
        return study_of(tree)

    return make


def losses(study: Study, engine: Any, *, lanes: bool) -> tuple[list[float], set[str]]:
    runs = tuple(runs_of(study, "cpu", engine))
    results = train(Job(runs)) if lanes else [train(Job((run,)))[0] for run in runs]
    found = [record.value for r in results for record in r.records if record.metric in ("loss", "train_loss")]
    return found, {result.info.engine for result in results}


@pytest.mark.parametrize("predict", ["masked", pytest.param("next", marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    ("norm", "model"),
    [
        ("layer", {"placement": "post"}), ("power", {"placement": "sandwich"}),
        *(
            pytest.param(*case, marks=pytest.mark.nightly)
            for case in (
                ("rms", {"qk_norm": True}), ("batch", {}), ("none", {"positions": "rotary"}), ("fixup", {}),
                ("scale", {"activation": "swiglu"}), ("dyt", {}), ("batch", {"statistics": "position"}),
            )
        ),
    ],
)  # fmt: skip
def test_lanes_tracing_and_plain_runs_give_the_same_losses(
    build: Callable[..., Study], norm: str, model: dict[str, Any], predict: str
) -> None:
    study = build({"it": {"norm": norm, "model": model}}, predict)
    plain, how = losses(study, "plain", lanes=False)
    assert how == {"plain"}
    for engine, lanes, called in (
        ("auto", False, "plain, traced, in TorchScript"),
        ("auto", True, "3 lanes (vmap), traced, in TorchScript"),
    ):
        found, how = losses(study, engine, lanes=lanes)
        assert how == {called}
        assert found == pytest.approx(plain, rel=5e-3)


def test_seeds_of_a_transformer_train_in_lanes(build: Callable[..., Study]) -> None:
    assert [len(job.runs) for job in jobs_of(runs_of(build({"pre": "layer"}), "cpu"))] == [3]


def test_a_study_compares_norms_and_their_places(build: Callable[..., Study], tmp_path: Path) -> None:
    variants = {
        "post": {"norm": "layer", "model": {"placement": "post"}},
        "pre": "layer", "rms": "rms", "batch": "batch", "none": "none",
    }  # fmt: skip
    short = {"steps": 10, "batch_size": 4, "lr": 0.01, "optimizer": "adamw"}
    study = build(
        variants,
        training=short,
        evaluation={"every": 10},
        measures=["final_loss", "bits_per_character", "perplexity", "final_accuracy"],
        seeds=2,
    )
    result = bncli.compare(study, store=tmp_path / "store", jobs=1, device="cpu")
    arms = {
        arm.variant: {s.measure: [v.value for v in s.values] for s in arm.summaries} for arm in result.findings.arms
    }
    assert list(arms) == list(variants)
    for values in arms.values():
        nats = values["final_loss"]
        assert all(0 < value < 4 for value in nats)
        assert values["bits_per_character"] == pytest.approx([value / math.log(2) for value in nats])
        assert values["perplexity"] == pytest.approx([math.exp(value) for value in nats])
    assert len({str(values["final_loss"]) for values in arms.values()}) == 5
    assert not any("all positions" in warning for warning in result.findings.warnings)


def test_a_variants_own_network_is_part_of_its_runs_alone(build: Callable[..., Study]) -> None:
    own = {"norm": "layer", "model": {"placement": "post"}}
    study = build({"pre": "layer", "post": own})
    placements = {run.variant: run.model.options["placement"] for run in runs_of(study, "cpu")}
    assert placements == {"pre": "pre", "post": "post"}
    alone = build({"pre": "layer"})
    assert {run.id for run in runs_of(alone, "cpu")} < {run.id for run in runs_of(study, "cpu")}
    line = describe(build({"post": own, "pre": "layer"}), "cpu")
    assert "masked characters · transformer 1x8, 2 heads, norms pre, gelu (post: placement post) · " in line
    assert "model" not in study.model_dump(mode="json")["variants"]["pre"]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"placment": "post"}, "variants.b.model.placment: no such key; did you mean 'placement'?"),
        (
            {"statistics": "position"},
            "variants.b.norm: norm 'zca' takes statistics of several channels together, and would of several positions;",
        ),
        ({"heads": 3}, "model: model 'transformer' cannot share 8 channels among 3 heads; change width or heads"),
    ],
)
def test_a_network_of_a_variant_that_cannot_be_is_said(
    build: Callable[..., Study], own: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        build({"a": "layer", "b": {"norm": "zca" if "statistics" in own else "layer", "model": own}})
    assert str(error.value).startswith(said)


def test_what_is_swept_is_not_set_by_a_variant_too(build: Callable[..., Study]) -> None:
    with pytest.raises(ConfigError, match="variant 'b' sets it too; sweep it or set it, not both"):
        build({"a": "layer", "b": {"norm": "layer", "model": {"depth": 2}}}, sweep={"model.depth": [1, 2]})


@pytest.mark.parametrize(
    ("norm", "model", "said"),
    [
        ("batch", {}, "in training, and not in use"), ("power", {}, "in training, and not in use"),
        ("instance", {}, "in training and in use"), ("layer", {}, ""), ("dyt", {}, ""), ("scale", {}, ""),
        ("batch", {"statistics": "position"}, ""),
    ],
)  # fmt: skip
def test_statistics_over_positions_are_warned_of_where_the_network_is_causal(
    build: Callable[..., Study], norm: str, model: dict[str, Any], said: str
) -> None:
    study = build({"it": {"norm": norm, "model": model}}, "next")
    (found,) = network_warnings(runs_of(study, "cpu")) or [""]
    expected = (
        f"it: norm {norm!r} takes its statistics over all positions, so {said} a causal network sees later tokens by"
        " them; use model.statistics: position, or data.predict: masked"
    )
    assert found == (expected if said else "")
    assert network_warnings(runs_of(build({"it": {"norm": norm, "model": model}}), "cpu")) == []
    assert warnings_of(study) == []


def test_measures_of_text_are_refused_for_images() -> None:
    with pytest.raises(ConfigError, match="perplexity is of text, and data 'digits' are none; ask for final_loss"):
        study_of({**TREE, "data": "digits", "variants": {"pre": "layer"}, "measures": ["perplexity"]})


def test_a_vision_transformer_learns_digits() -> None:
    tree = {**TREE, "data": "digits", "model": {"name": "transformer", "patch": 2, "depth": 2}, "seeds": 1}
    training = {"steps": 150, "batch_size": 64, "lr": 0.01, "optimizer": "adamw"}
    (run,) = runs_of(study_of({**tree, "training": training, "variants": {"pre": "layer"}}), "cpu")
    (result,) = train(Job((run,)))
    accuracies = [record.value for record in result.records if record.metric == "accuracy"]
    assert accuracies[-1] > 0.5 > accuracies[0]
