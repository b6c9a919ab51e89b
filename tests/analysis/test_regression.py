"""The gate for learning, on studies trained here: unchanged, changed on purpose, on another machine."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from analysis.made_runs import ask_of
from bncli.analysis import ArmRuns, analyse
from bncli.analysis.regression import first_difference, regressions
from bncli.engine.train import train
from bncli.errors import ConfigError
from bncli.limits import read_limit
from bncli.norms import batch
from bncli.plan import jobs_of, runs_of
from bncli.records import StudyRun
from bncli.report.study.json import document

MEASURES = ("steps_to_target", "final_accuracy", "final_loss")


def measured(study: Any) -> dict[str, Any]:
    """Train a study and say what it found, as one document."""
    runs = runs_of(study, "cpu", "plain")
    results = {result.info.id: result for job in jobs_of(runs) for result in train(job)}
    arms = [
        ArmRuns(name, {}, {run.seed: results[run.id] for run in runs if run.variant == name}) for name in study.variants
    ]
    findings = analyse(arms, dataclasses.replace(ask_of(*MEASURES, target=0.3)))
    return document(
        findings,
        study.model_dump(mode="json"),
        [StudyRun(run.variant, run.setting, run.seed, run.id, results[run.id]) for run in runs],
    )


@pytest.fixture(scope="module")
def study(tiny: Any) -> Any:
    return tiny(measures=list(MEASURES), training={"steps": 20, "batch_size": 40, "lr": 0.5})


@pytest.fixture(scope="module")
def before(study: Any) -> dict[str, Any]:
    return measured(study)


def outcomes(checks: Any) -> dict[str, str]:
    return {check.name: check.word for check in checks}


def moved(document: dict[str, Any], by: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The document with every run changed."""
    import copy

    changed = copy.deepcopy(document)
    for run in changed["runs"]:
        by(run)
    return changed


def elsewhere(run: dict[str, Any]) -> None:
    run["info"]["environment"]["processor"] = "another"


def test_the_same_code_gives_the_same_numbers(study: Any, before: dict[str, Any]) -> None:
    assert outcomes(regressions(measured(study), before, [])) == {
        "none: numbers": "identical",
        "batch: numbers": "identical",
    }


def test_an_eps_a_hundred_times_too_large_is_caught_in_the_norm_that_has_it(
    study: Any, before: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    init = batch.BatchNorm.__init__
    monkeypatch.setattr(
        batch.BatchNorm,
        "__init__",
        lambda self, channels, *, eps, **named: init(self, channels, eps=100 * eps, **named),
    )
    found = regressions(measured(study), before, [])
    assert outcomes(found) == {"none: numbers": "identical", "batch: numbers": "changed"}
    assert [check.outcome for check in found] == ["passed", "failed"]
    assert found[1].message == "3 of 3 runs differ, first at step 0"


def test_a_biased_running_variance_is_caught_at_the_first_evaluation_that_uses_it(
    study: Any, before: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = batch.batch_norm

    def biased(x: Any, mean: Any, var: Any, weight: Any, bias: Any, momentum: float, *rest: Any) -> Any:
        kept, unbiased = (1 - momentum) * var, var.clone()
        y = kernel(x, mean, unbiased, weight, bias, momentum, *rest)
        var.copy_(kept + (unbiased - kept) * (len(x) - 1) / len(x))
        return y

    monkeypatch.setattr(batch, "batch_norm", biased)
    found = regressions(measured(study), before, [])
    assert outcomes(found) == {"none: numbers": "identical", "batch: numbers": "changed"}
    assert found[1].message == "3 of 3 runs differ, first at step 10"


def test_on_another_machine_numbers_may_differ_and_intervals_judge(before: dict[str, Any]) -> None:
    def nudge(run: dict[str, Any]) -> None:
        elsewhere(run)
        run["values"]["final_accuracy"] = dict.fromkeys(
            ("value", "low", "high"), run["values"]["final_accuracy"]["value"] - 0.1
        ) | {"reason": ""}

    found = {check.name: check for check in regressions(moved(before, nudge), before, [])}
    assert "batch: numbers" not in found
    assert found["batch: final accuracy"].outcome == "failed"
    assert found["batch: final accuracy"].message == "now against the baseline: -10.0 [-10.0, -10.0], 3 pairs"
    assert found["batch: final loss (nats)"].outcome == "passed"


@pytest.mark.parametrize(
    ("limit", "outcome"),
    [("final_accuracy:-0.05", "failed"), ("final_accuracy:-0.2", "passed"),
     ("final_accuracy:-99%", "passed"), ("final_accuracy:-1%", "failed"), ("final_loss:+1%", "passed")],
)  # fmt: skip
def test_a_limit_is_to_one_side(before: dict[str, Any], limit: str, outcome: str) -> None:
    def nudge(run: dict[str, Any]) -> None:
        elsewhere(run)
        run["values"]["final_accuracy"] = dict.fromkeys(
            ("value", "low", "high"), run["values"]["final_accuracy"]["value"] - 0.1
        ) | {"reason": ""}

    found = regressions(moved(before, nudge), before, [read_limit(limit, MEASURES)])
    assert [check.outcome for check in found] == [outcome, outcome]


@pytest.mark.parametrize(
    ("limit", "written"),
    [("final_accuracy:-0.0005", "-0.05 points"), ("final_accuracy:-1%", "-1 %"), ("final_loss:+0.05", "+0.05 nats"),
     ("steps_to_target:+5", "+5 steps")],
)  # fmt: skip
def test_a_limit_is_told_with_its_unit(before: dict[str, Any], limit: str, written: str) -> None:
    found = regressions(before, before, [read_limit(limit, MEASURES)])
    assert {check.name.partition(", limit ")[2] for check in found if "limit" in check.name} == {written}


def test_a_limit_to_the_side_that_is_better_is_refused(before: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        regressions(before, before, [read_limit("final_accuracy:+0.01", MEASURES)])
    said = "higher is better, and a limit says how much worse it may become: final_accuracy:-0.01"
    assert str(raised.value) == f"--fail-if final_accuracy:+0.01: {said}"


def test_a_ratio_has_its_limit_as_a_ratio(before: dict[str, Any]) -> None:
    def slower(run: dict[str, Any]) -> None:
        elsewhere(run)
        for key in ("value", "low", "high"):
            run["values"]["steps_to_target"][key] = 20.0

    def reaching(run: dict[str, Any]) -> None:
        for key in ("value", "low", "high"):
            run["values"]["steps_to_target"][key] = 10.0

    now, then = moved(before, slower), moved(before, reaching)
    for limit, outcome in (
        ("steps_to_target:+10%", "failed"),
        ("steps_to_target:+150%", "passed"),
        ("steps_to_target:+5", "failed"),
    ):
        assert {check.outcome for check in regressions(now, then, [read_limit(limit, MEASURES)])} == {outcome}


def test_with_limits_a_change_within_them_passes_and_is_still_told(before: dict[str, Any]) -> None:
    def nudge(run: dict[str, Any]) -> None:
        run["curves"][0]["values"][-1] += 1e-9

    found = regressions(moved(before, nudge), before, [read_limit("final_loss:+5%", MEASURES)])
    assert [check.outcome for check in found] == ["passed"] * 4
    assert found[0].word == "changed"


def test_another_recipe_is_not_compared(before: dict[str, Any]) -> None:
    def other(run: dict[str, Any]) -> None:
        run["spec"]["training"]["lr"] = 0.1

    found = regressions(moved(before, other), before, [])
    assert [(check.outcome, check.message) for check in found] == [
        ("undecided", "differs from the baseline's in training.lr")
    ] * 2


def test_another_code_of_a_plug_in_is_what_the_gate_judges_and_no_other_recipe(before: dict[str, Any]) -> None:
    def edit(run: dict[str, Any]) -> None:
        run["spec"]["code"] = {"plug.py": "0123"}
        run["curves"][0]["values"][-1] += 1e-9

    assert [check.outcome for check in regressions(moved(before, edit), before, [])] == ["failed"] * 2


def test_nothing_in_common_is_open(before: dict[str, Any]) -> None:
    def other(run: dict[str, Any]) -> None:
        run["seed"] += 100

    assert [check.outcome for check in regressions(moved(before, other), before, [])] == ["undecided"]


def test_the_first_difference_is_the_earliest_of_all_curves(before: dict[str, Any]) -> None:
    run = before["runs"][0]
    assert first_difference(run, run) is None

    def late(run: dict[str, Any]) -> None:
        run["curves"][-1]["values"][-1] += 1
        run["info"]["status"] = "diverged"

    assert first_difference(moved(before, late)["runs"][0], run) == 20


def without(document: dict[str, Any], variant: str) -> dict[str, Any]:
    """The document of a study without one variant."""
    return {**document, **{key: [e for e in document[key] if e["variant"] != variant] for key in ("runs", "arms")}}


def said(checks: Any) -> list[tuple[str, str, str]]:
    return [(check.name, check.outcome, check.word) for check in checks]


def test_a_variant_of_the_baseline_that_is_gone_is_named_and_undecided(before: dict[str, Any]) -> None:
    found = regressions(without(before, "batch"), before, [])
    assert said(found) == [("none: numbers", "passed", "identical"), ("batch: runs", "undecided", "gone")]
    assert found[1].message == "in the baseline, and not in this study"


def test_a_variant_that_was_left_out_on_purpose_is_named_and_passes(before: dict[str, Any]) -> None:
    found = regressions(without(before, "batch"), before, [], chosen=["none"])
    assert said(found)[1] == ("batch: runs", "passed", "left out")


def test_a_new_variant_is_named_and_hides_no_regression(before: dict[str, Any]) -> None:
    def nudge(run: dict[str, Any]) -> None:
        run["curves"][0]["values"][-1] += 1e-9

    found = regressions(moved(before, nudge), without(before, "batch"), [])
    assert said(found) == [("none: numbers", "failed", "changed"), ("batch: runs", "undecided", "new")]


def test_a_run_that_has_no_numbers_any_more_is_named(before: dict[str, Any]) -> None:
    def fail(run: dict[str, Any]) -> None:
        if (run["variant"], run["seed"]) == ("batch", 1):
            run.update(info=None, values={}, curves=[])

    found = regressions(moved(before, fail), before, [])
    assert said(found)[-1] == ("batch: runs", "undecided", "gone")
    assert found[-1].message == "in the baseline, and without numbers here: seeds 1"


def test_a_measure_and_a_curve_that_are_gone_are_named(before: dict[str, Any]) -> None:
    def lose(run: dict[str, Any]) -> None:
        run["curves"] = [curve for curve in run["curves"] if curve["metric"] != "train_loss"]

    now = moved(before, lose)
    now["measures"] = [measure for measure in now["measures"] if measure["name"] != "final_loss"]
    found = regressions(now, before, [])
    assert said(found) == [
        ("none: curves", "undecided", "gone"),
        ("none: numbers", "passed", "identical"),
        ("batch: curves", "undecided", "gone"),
        ("batch: numbers", "passed", "identical"),
        ("final loss (nats)", "undecided", "gone"),
    ]
    assert found[0].message == "in the baseline, and not measured here: train_loss"
    assert "final loss (nats)" not in outcomes(regressions(now, before, [read_limit("final_accuracy:-0.01", MEASURES)]))


def of_seeds(document: dict[str, Any], *seeds: int) -> dict[str, Any]:
    """The document of a study with fewer seeds."""
    return {**document, "runs": [run for run in document["runs"] if run["seed"] in seeds]}


def test_seeds_that_the_baseline_lacks_are_named_and_undecided(before: dict[str, Any]) -> None:
    found = regressions(before, of_seeds(before, 0), [])
    assert [each for each in said(found) if each[2] != "identical"] == [
        ("none: runs", "undecided", "new"),
        ("batch: runs", "undecided", "new"),
    ]
    assert found[-1].message.startswith("not in the baseline: seeds 1, 2")


def test_seeds_that_are_left_out_are_named_and_pass(before: dict[str, Any]) -> None:
    found = regressions(of_seeds(before, 0), before, [])
    assert [each for each in said(found) if each[2] != "identical"] == [
        ("none: runs", "passed", "left out"),
        ("batch: runs", "passed", "left out"),
    ]
    assert found[-1].message.startswith("in the baseline, and not asked for here: seeds 1, 2")


def test_a_curve_that_the_baseline_lacks_is_named_and_undecided(before: dict[str, Any]) -> None:
    def lose(run: dict[str, Any]) -> None:
        run["curves"] = [curve for curve in run["curves"] if curve["metric"] != "train_loss"]

    found = regressions(before, moved(before, lose), [])
    assert found[0].message == "measured here, and not in the baseline: train_loss"
    assert said(found)[0] == ("none: curves", "undecided", "new")
