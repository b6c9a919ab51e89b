"""Runs made elsewhere are compared as ours are; what they lack is said, and what only a training has is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import bncli
from bncli.analysis.regression import regressions
from bncli.errors import BncliError, UndecidedError
from bncli.report.study.tidy import write_tidy

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a table of bleu over steps, by variant and seed, and return its path."""

    def write(levels: dict[str, Sequence[float]], name: str = "runs.csv", metric: str = "bleu") -> Path:
        rows = [f"variant,seed,step,{metric}"]
        for variant, finals in levels.items():
            for seed, final in enumerate(finals):
                rows += [f"{variant},{seed},{step},{final * step / 200}" for step in (0, 100, 200)]
        path = tmp_path / name
        path.write_text("\n".join(rows) + "\n")
        return path

    return write


NONE, BATCH = [20.0, 21, 19, 20.5, 19.5, 20.2], [30.0, 31.5, 28.5, 30.1, 29, 30.4]


def test_exported_runs_have_the_verdicts_that_they_have_in_the_store(tmp_path: Path) -> None:
    study = {
        "model": {"name": "mlp", "hidden": [8], "activation": "relu"}, "training": {"steps": 60, "lr": 0.5, "optimizer": {"name": "sgd", "momentum": 0.9}}, "evaluation": {"every": 20},
        "target": {"accuracy": 0.6}, "variants": {"none": "none", "batch": "batch", "wild": {"norm": "none", "training": {"lr": 1e30}}},
        "reference": "none", "seeds": 4, "measures": ["steps_to_target", "final_accuracy", "accuracy_area", "diverged"],
    }  # fmt: skip
    ours = bncli.compare(study, store=tmp_path, jobs=1)
    assert any(run.result and run.result.info.status == "diverged" for run in ours.runs)
    for suffix in (".csv", ".jsonl"):
        table = tmp_path / f"runs{suffix}"
        table.write_text(write_tidy(ours.runs, suffix))
        theirs = bncli.compare_results(table, set={"target": {"accuracy": 0.6}, "measures": study["measures"]})
        assert [_said(arm) for arm in theirs.findings.arms] == [_said(arm) for arm in ours.findings.arms]


def _said(arm: Any) -> Any:
    return arm.variant, [(s.measure, s.mean, s.std) for s in arm.summaries], arm.comparisons, arm.reached


def test_the_first_metric_is_the_measure_at_its_end_and_at_its_best(write: Write) -> None:
    found = bncli.compare_results(write({"none": NONE, "batch": BATCH})).findings
    assert [(m.name, m.label, m.direction) for m in found.measures] == [
        ("final_bleu", "final bleu", "higher"), ("best_bleu", "best bleu", "higher"),
    ]  # fmt: skip
    (headline,) = found.headlines
    assert headline.startswith("batch has a higher final bleu than none: +9.8")


def test_a_target_may_be_of_any_metric_and_on_either_side(write: Write) -> None:
    bleu = write({"none": NONE, "batch": BATCH})
    rising = bncli.compare_results(
        bleu, set={"target": {"bleu": 15}, "metrics": {"bleu": {"better": "higher", "unit": "points"}}}
    )
    assert rising.findings.measures[0].label == "steps to 15 points"
    batch = rising.findings.arms[1].summaries[0]
    assert [value.value for value in batch.values] == [100, 100, 200, 100, 200, 100]
    falling = write({"none": [-1.0] * 6, "batch": [-2.0] * 6}, metric="loss")
    found = bncli.compare_results(falling, set={"target": {"loss": -1.0}}).findings
    assert [value.value for value in found.arms[1].summaries[0].values] == [100] * 6
    assert [value.value for value in found.arms[0].summaries[0].values] == [200] * 6


def test_a_run_that_ends_without_a_number_has_diverged_and_is_no_better_than_it_began(write: Write) -> None:
    path = write({"none": NONE, "batch": [*BATCH[:5], float("nan")]})
    found = bncli.compare_results(path)
    assert [run.result.info.status for run in found.runs if run.result][-1] == "diverged"
    assert found.findings.arms[1].comparisons[0].verdict != "better"


def test_a_metric_of_which_nobody_knows_what_is_better_is_asked_for(write: Write) -> None:
    path = write({"none": NONE, "batch": BATCH}, metric="gloss")
    with pytest.raises(BncliError, match=r"metric 'gloss': nothing says which way it is better; --set metrics\.gloss"):
        bncli.compare_results(path)
    found = bncli.compare_results(path, set=["metrics.gloss.better=lower"]).findings
    assert found.arms[1].comparisons[0].verdict == "worse"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.lr=3"], "training: these runs were made elsewhere, and nothing of how they were trained can be set"),
        (["seeds=3"], "seeds: these runs were made elsewhere"),
        (["reference=nobody"], r"reference: no variant is called 'nobody' \(known: none, batch\)"),
        (["target.blue=3"], "no metric is called 'blue'; did you mean 'bleu'"),
        (["target.final_of=bacth"], "target: no variant is called 'bacth'; did you mean 'batch'"),
        (["measures=final_blue"], "no measure is called 'final_blue'; did you mean 'final_bleu'"),
        (["measures=steps_to_target"], r"measures: 'steps_to_target' needs a target; --set target.bleu=LEVEL"),
        (["measures=seconds_to_target"], "'seconds_to_target' needs what runs made elsewhere do not hold"),
        (["metrics.bleu.better=up"], "metrics.bleu.better: must be one of 'higher' or 'lower', got 'up'"),
        (["metrics.bleu={better: higher, unit: points, margin: -1}"], "metrics.bleu.margin: must be >= 0, got -1"),
        (["refrence=none"], "refrence: no such key; did you mean 'reference'"),
    ],
)  # fmt: skip
def test_what_cannot_be_set_is_one_line(changes: list[str], message: str, write: Write) -> None:
    with pytest.raises(BncliError, match=message) as caught:
        bncli.compare_results(write({"none": NONE, "batch": BATCH}), set=changes)
    assert "\n" not in str(caught.value)


def test_one_variant_is_no_comparison(write: Write) -> None:
    with pytest.raises(BncliError, match="holds one variant, 'none'; a comparison needs two"):
        bncli.compare_results(write({"none": NONE}))


def test_what_is_missing_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("variant,run,step,loss\na,1,0,3\na,1,9,2\na,2,0,3\na,2,5,2\nb,3,0,3\nb,3,9,1\nb,4,0,3\nb,4,9,1\n")
    warnings = " ".join(bncli.compare_results(path).findings.warnings)
    assert "no seeds are given" in warnings
    assert "runs end after 5 to 9 steps and no column says what they were allowed (budget)" in warnings


def test_the_gate_holds_runs_made_elsewhere_against_their_baseline(write: Write, tmp_path: Path) -> None:
    path = write({"none": NONE, "batch": BATCH})
    bncli.compare_results(path, store=tmp_path, save_baseline="before")
    same = bncli.compare_results(path, store=tmp_path, baseline="before", fail_if=["final_bleu:-1"])
    assert {check.outcome for check in same.checks} == {"passed"}
    worse = write({"none": NONE, "batch": [level - 5 for level in BATCH]}, "worse.csv")
    found = bncli.compare_results(worse, store=tmp_path, baseline="before", fail_if=["final_bleu:-1"])
    assert "failed" in {check.outcome for check in found.checks}
    with pytest.raises(UndecidedError, match="there is no such baseline"):
        bncli.compare_results(path, store=tmp_path, baseline="nothing")


def test_a_result_of_runs_made_elsewhere_is_a_document_too(write: Write) -> None:
    found = json.loads(bncli.compare_results(write({"none": NONE, "batch": BATCH})).to_json())
    assert found["study"]["reference"] == "none"
    assert len(found["runs"]) == 12


def test_a_gate_on_another_machine_goes_by_the_margins_of_declared_metrics(write: Write) -> None:
    wide = {"metrics": {"bleu": {"better": "higher", "margin": 2.0}}, "measures": "final_bleu"}
    before = bncli.compare_results(write({"none": NONE, "batch": BATCH}), set=wide).document()
    for run in before["runs"]:
        run["info"]["environment"] = {"processor": "another"}
    lower = write({"none": [level - 1 for level in NONE], "batch": [level - 5 for level in BATCH]}, "lower.csv")
    checks = regressions(bncli.compare_results(lower, set=wide).document(), before, ())
    assert [(check.name, check.outcome) for check in checks] == [
        ("none: final bleu", "passed"), ("batch: final bleu", "failed"),
    ]  # fmt: skip


def test_runs_that_diverge_lose_against_those_that_do_not_whichever_way_is_better(tmp_path: Path) -> None:
    for metric, ends in (("bleu", (20, 30)), ("loss", (2, 1))):
        rows = [f"variant,seed,step,{metric}"]
        for variant in ("none", "batch"):
            for seed in range(6):
                last = "nan" if variant == "none" else ends[1] + seed / 100
                rows += [f"{variant},{seed},0,{ends[0] + seed / 10}", f"{variant},{seed},9,{last}"]
        (tmp_path / "runs.csv").write_text("\n".join(rows))
        found = bncli.compare_results(tmp_path / "runs.csv", set={"measures": f"final_{metric}"}).findings
        assert found.arms[1].comparisons[0].verdict == "better"
        assert (found.arms[1].comparisons[0].low is None) == (metric == "loss")


def test_a_metric_may_be_called_as_a_margin_is(write: Write) -> None:
    path = write({"none": NONE, "batch": BATCH}, metric="ratio")
    parts = {"metrics": {"ratio": {"better": "higher", "margin": 50.0}}, "target": {"ratio": 9.0}}
    found = bncli.compare_results(path, set={**parts, "measures": ["steps_to_target", "final_ratio"]}).findings
    assert [c.verdict for c in found.arms[1].comparisons] == ["inconclusive", "equivalent"]


def test_runs_made_elsewhere_have_curves_over_their_steps(write: Write) -> None:
    found = bncli.compare_results(write({"none": NONE, "batch": BATCH})).findings
    assert [(curve.variant, curve.metric, curve.steps) for curve in found.curves] == [
        ("none", "bleu", (0, 100, 200)), ("batch", "bleu", (0, 100, 200)),
    ]  # fmt: skip
    assert found.curves[0].mean[-1] == pytest.approx(sum(NONE) / len(NONE))
    assert found.curves[0].seconds == (None, None, None)
