"""Which runs a study needs next, from results made up by a rule instead of trained."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from bncli.errors import BncliError, ConfigError
from bncli.plan import Run, runs_of
from bncli.records import Record, RunInfo, RunResult
from bncli.session.search import next_stage

Rule = Callable[[Run], float]
GRID = [0.03, 0.1, 0.3, 1, 3]


def made(run: Run, accuracy: float) -> RunResult:
    """A run that ended at an accuracy; below 0 it diverged."""
    records = [
        Record("accuracy", 30, accuracy, "fraction"),
        Record("loss", 0, 2.3, "nats"),
        Record("loss", 30, 1.0, "nats"),
    ]
    status = "diverged" if accuracy < 0 else "done"
    return RunResult(run.spec(), RunInfo(run.id, status, 30), tuple(records[: 3 if accuracy >= 0 else 2]))  # type: ignore[arg-type]


def peak(at: float) -> Rule:
    return lambda run: 0.9 - 0.2 * abs(math.log10(run.training.lr / at)) + 0.001 * (run.seed % 7)


def played(study: Any, rule: Rule) -> list[Any]:
    """Every stage of a study whose runs end as the rule says."""
    results: dict[str, RunResult] = {}
    stages = []
    while stage := next_stage(study, results, "cpu"):
        stages.append(stage)
        results |= {run.id: made(run, rule(run)) for run in stage.runs}
        assert len(stages) < 40
    return stages


def rates(stage: Any) -> list[float]:
    return sorted({run.training.lr for run in stage.runs})


def test_a_plain_study_has_one_stage(tiny: Any) -> None:
    (stage,) = played(tiny(), peak(0.5))
    assert list(stage.runs) == runs_of(tiny(), "cpu")


def test_tuning_tries_the_same_grid_and_seeds_for_all_on_the_validation_examples(tiny: Any) -> None:
    search, _ = played(tiny(tune={"over": {"training.lr": GRID}}, evaluation={"every": 10, "split": "test"}), peak(0.3))
    found = {(run.variant, run.training.lr, run.seed) for run in search.runs}
    assert found == {(v, lr, s) for v in ("none", "batch") for lr in GRID for s in (1000, 1001, 1002)}
    assert {run.evaluation.split for run in search.runs} == {"validation"}
    assert search.searches == "training.lr"


def test_the_report_has_each_variants_own_value_and_fresh_seeds(tiny: Any) -> None:
    study = tiny(tune={"over": {"training.lr": GRID}}, evaluation={"every": 10, "split": "test"})
    report = played(study, lambda run: peak(1.0 if run.norm.name == "batch" else 0.1)(run))[-1]
    assert {(run.variant, run.training.lr) for run in report.runs} == {("none", 0.1), ("batch", 1.0)}
    assert [run.variant for run in report.runs] == ["none"] * 3 + ["batch"] * 3
    assert sorted(run.seed for run in report.runs) == [0, 0, 1, 1, 2, 2]
    assert {run.evaluation.split for run in report.runs} == {"test"}
    assert all(run.setting == {} for run in report.runs)
    assert report.searches == ""


def test_the_report_keeps_the_order_of_the_study_whatever_is_chosen(tiny: Any) -> None:
    study = tiny(tune={"over": {"training.lr": GRID}})
    report = played(study, lambda run: peak(0.1 if run.norm.name == "batch" else 1.0)(run))[-1]
    assert [run.variant for run in report.runs] == ["none"] * 3 + ["batch"] * 3


def test_every_setting_of_a_sweep_is_tuned_for_itself(tiny: Any) -> None:
    study = tiny(tune={"over": {"training.lr": GRID}}, sweep={"training.batch_size": [20, 40]})
    report = played(study, lambda run: peak(1.0 if run.training.batch_size == 40 else 0.1)(run))[-1]
    assert {(run.setting["training.batch_size"], run.training.lr) for run in report.runs} == {(20, 0.1), (40, 1.0)}


def test_a_grid_grows_for_all_towards_the_edge_on_which_one_has_its_best(tiny: Any) -> None:
    study = tiny(tune={"over": {"training.lr": GRID}, "extend": True})
    stages = played(study, lambda run: peak(20.0 if run.norm.name == "batch" else 0.3)(run))
    assert [rates(stage) for stage in stages] == [GRID, [10], [30], [100], [0.3, 30]]
    assert {run.variant for run in stages[1].runs} == {"none", "batch"}


def test_a_grid_grows_in_its_own_rhythm_and_not_for_ever(tiny: Any) -> None:
    study = tiny(tune={"over": {"training.lr": GRID}, "extend": True})
    stages = played(study, peak(1e-30))
    assert [rates(stage)[0] for stage in stages[1:4]] == [0.01, 0.003, 0.001]
    assert len(stages) == 10


def test_without_extend_the_grid_stays(tiny: Any) -> None:
    assert len(played(tiny(tune={"over": {"training.lr": GRID}}), peak(1e-30))) == 2


def test_a_value_that_is_surely_worse_gets_no_more_seeds(tiny: Any) -> None:
    study = tiny(tune={"over": {"training.lr": GRID}, "race": True, "seeds": 5})
    first, second, third, _ = played(study, peak(0.3))
    assert {run.seed for run in first.runs} == {1000, 1001}
    assert rates(first) == GRID
    assert {run.seed for run in second.runs} == {1002, 1003}
    assert rates(second) == rates(third) == [0.3]


def test_racing_chooses_what_the_whole_grid_would(tiny: Any) -> None:
    reports = [
        played(tiny(tune={"over": {"training.lr": GRID}, "race": race}), peak(0.4))[-1] for race in (False, True)
    ]
    assert rates(reports[0]) == rates(reports[1])


def test_an_interrupted_study_asks_for_the_same_stage_again(tiny: Any) -> None:
    study = tiny(tune={"over": {"training.lr": GRID}})
    whole = next_stage(study, {}, "cpu")
    assert whole is not None
    half = {run.id: made(run, 0.5) for run in whole.runs[:7]}
    assert next_stage(study, half, "cpu") == whole


def test_an_arm_without_any_result_ends_the_study(tiny: Any) -> None:
    study = tiny(tune={"over": {"training.lr": GRID}})
    stage = next_stage(study, {}, "cpu")
    assert stage is not None
    failed = {run.id: RunResult(run.spec(), RunInfo(run.id, "failed", 0, "out of memory")) for run in stage.runs}
    with pytest.raises(BncliError, match="nothing to choose by for none"):
        next_stage(study, failed, "cpu")


def test_bisection_closes_in_on_the_largest_stable_value_of_each_run(tiny: Any) -> None:
    study = tiny(bisect={"low": 0.01, "high": 100, "within": 1.2})
    limits = {"none": 0.5, "batch": 7.0}
    stages = played(study, lambda run: 0.5 if run.training.lr <= limits[run.norm.name] else -1)
    assert rates(stages[0]) == [0.01, 100]
    for name, limit in limits.items():
        tried = sorted({run.training.lr for stage in stages for run in stage.runs if run.norm.name == name})
        low, high = max(lr for lr in tried if lr <= limit), min(lr for lr in tried if lr > limit)
        assert high / low <= 1.2
    assert len(stages) <= 1 + math.ceil(math.log2(math.log(1e4) / math.log(1.2)))
    assert all(stage.searches == "training.lr" for stage in stages)


def test_bisection_ends_where_an_end_is_not_as_expected(tiny: Any) -> None:
    assert len(played(tiny(bisect={}), lambda run: 0.5)) == 1
    assert len(played(tiny(bisect={}), lambda run: -1)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tune": {"over": {"training.lr": [1, 0.1]}}}, "tune.over: values must ascend, got [1.0, 0.1]"),
        ({"tune": {"over": {"training.rate": [1, 2]}}}, "sweep.training.rate: "),
        ({"tune": {"over": {"training.lr": GRID}}, "bisect": {}}, "bisect: a study tunes or bisects, not both"),
        ({"tune": {"over": {"training.lr": GRID}}, "seeds": [1000]}, "seeds: seeds from 1000 on are for tuning"),
        ({"tune": {"over": {"training.weight_decay": [1, 2]}, "extend": True}}, "tune.extend: only training.lr"),
        ({"bisect": {"low": 3, "high": 1}}, "bisect: low must be below high, got 3 and 1"),
        ({"claims": [{"measure": "steps", "of": "none", "level": {"below": 1}, "source": "x"}]}, "claims.0.measure: no measure is called 'steps'"),
        ({"claims": [{"measure": "reached", "of": "bacth", "level": {"below": 1}, "source": "x"}]}, "claims.0.of: no variant is called 'bacth'; did you mean 'batch'?"),
        ({"claims": [{"measure": "reached", "of": "batch", "ratio": {"below": 1}, "source": "x"}]}, "claims.0: level is of one variant alone"),
        ({"claims": [{"measure": "reached", "of": "batch", "level": {}, "source": "x"}]}, "claims.0.level: give {below: NUMBER}"),
        ({"claims": [{"measure": "reached", "of": "batch", "source": "x"}]}, "claims.0: give exactly one of ratio, difference, level"),
        ({"claims": [{"measure": "reached", "of": "batch", "level": {"above": 0}}]}, "claims.0.source: is required"),
        ({"claims": [{"measure": "largest_stable", "of": "batch", "level": {"above": 0}, "source": "x"}]}, "claims.0.measure: 'largest_stable' is measured by tune: or bisect: only"),
        ({"measures": ["usable_range"]}, "measures.0: 'usable_range' is measured by tune: or bisect: only"),
        ({"measures": ["effective-rank"]}, "measures.0: 'effective-rank' is not probed; add it to probes.metrics"),
        ({"claims": [{"measure": "reached", "of": "batch", "at": {"training.lr": 1}, "level": {"above": 0}, "source": "x"}]}, "claims.0.at: 'training.lr' is not swept"),
        ({"sweep": {"training.lr": [1, 2]}, "claims": [{"measure": "reached", "of": "batch", "at": {"training.lr": 3}, "level": {"above": 0}, "source": "x"}]}, "claims.0.at: 3 is no value that training.lr is swept over (1, 2)"),
        ({"claims": [{"measure": "reached", "of": "batch", "versus": "batch", "difference": {"above": 0}, "source": "x"}]}, "claims.0.versus: must be another variant than `of`, got 'batch' for both"),
        ({"claims": [{"measure": "perplexity", "of": "batch", "level": {"below": 9}, "source": "x"}]}, "claims.0.measure: perplexity is of text, and data"),
        ({"claims": [{"measure": "largest_stable", "of": "batch", "versus": "none", "ratio": {"above": -1}, "source": "x"}]}, "claims.0.ratio: always holds: it lies between 0 and inf"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said_with_its_place(tiny: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        tiny(**changes)
    assert message in str(error.value)
