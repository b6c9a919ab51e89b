"""A search over several keys: equal trials for every variant, rungs, and the same trials again after a kill."""

import json
import math
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from session.test_search import Rule, made, peak, played

from bncli.config import Study
from bncli.engine.state import Checkpoints
from bncli.errors import BncliError, ConfigError
from bncli.executors.loop import Finished
from bncli.plan import Run, jobs_of, runs_of
from bncli.records import RunInfo, RunResult
from bncli.session.events import Started
from bncli.session.samplers import draw_points
from bncli.session.search import Stage, next_stage
from bncli.session.study import open_session
from bncli.session.tpe import ask_tpe
from bncli.session.training import train

OVER = {
    "training.lr": {"log": [1e-3, 10]},
    "training.optimizer.momentum": {"linear": [0, 0.99]},
    "model.hidden": [[16], [16, 16], [32]],
}


def search(**changes: Any) -> dict[str, Any]:
    return {"over": OVER, "trials": 9, "seeds": 2, **changes}


def trials(stages: list[Any], variant: str = "batch") -> list[str]:
    runs = [run for stage in stages if stage.searches for run in stage.runs if run.variant == variant]
    return list(dict.fromkeys(repr(run.setting) for run in runs))


@pytest.fixture
def optuna() -> Any:
    return pytest.importorskip("optuna")


@pytest.mark.parametrize("sampler", ["halton", "random"])
def test_every_variant_gets_the_same_points_and_seeds_on_the_validation_examples(tiny: Any, sampler: str) -> None:
    study = tiny(search=search(sampler=sampler), evaluation={"every": 10, "split": "test"})
    stage, report = played(study, peak(0.3))
    assert trials([stage], "none") == trials([stage])
    assert len(trials([stage])) == 9
    assert {run.seed for run in stage.runs} == {1000, 1001}
    assert {run.evaluation.split for run in stage.runs} == {"validation"}
    assert len(stage.runs) == 2 * 9 * 2
    assert {run.evaluation.split for run in report.runs} == {"test"}


def test_what_is_drawn_is_the_same_on_every_machine_and_moves_with_the_seed(tiny: Any) -> None:
    drawn = {
        (sampler, seed): [
            list(point.values())
            for point in draw_points(tiny(search=search(sampler=sampler, sampler_seed=seed)).search, 2)
        ]
        for sampler in ("halton", "random")
        for seed in (0, 1)
    }
    assert drawn["halton", 0] == [[6.75488, 0.611644, [16]], [0.0675488, 0.281644, [16]]]
    assert drawn["random", 0] == [[2.38609, 0.750375, [16, 16]], [0.0108559, 0.506162, [16, 16]]]
    assert drawn["halton", 1] != drawn["halton", 0]
    assert drawn["random", 1] != drawn["random", 0]


def test_a_halton_sequence_meets_every_part_of_each_range_alike(tiny: Any) -> None:
    over = {"training.lr": {"linear": [0.5, 1.5]}, "training.optimizer.momentum": {"linear": [0, 0.9]}}
    points = draw_points(tiny(search=search(over=over)).search, 72)
    assert sorted(int((point["training.lr"] - 0.5) * 8) for point in points[:64]) == sorted([*range(8)] * 8)
    assert sorted(int(point["training.optimizer.momentum"] * 10) for point in points[:27]) == sorted([*range(9)] * 3)


def test_a_space_of_so_many_points_as_trials_is_tried_whole(tiny: Any) -> None:
    over = {"training.lr": [0.1, 1], "training.batch_size": [20, 40, 60]}
    stage, _ = played(tiny(search=search(over=over, trials=6)), peak(0.3))
    assert {(run.training.lr, run.training.batch_size) for run in stage.runs} == {
        (lr, size) for lr in (0.1, 1) for size in (20, 40, 60)
    }


def test_the_report_has_each_arms_own_best_trial_with_fresh_seeds(tiny: Any) -> None:
    study = tiny(search=search(trials=40), sweep={"training.batch_size": [20, 40]})

    def rule(run: Run) -> float:
        best = {("none", 20): 0.01, ("none", 40): 0.1, ("batch", 20): 1.0, ("batch", 40): 5.0}
        return peak(best[run.norm.name, run.training.batch_size])(run)

    stage, report = played(study, rule)
    for run in report.runs:
        same = [r for r in stage.runs if (r.norm, r.training.batch_size) == (run.norm, run.training.batch_size)]
        best = max(same, key=lambda r: (rule(r), -stage.runs.index(r)))
        assert (run.training.lr, run.model) == (best.training.lr, best.model)
    assert sorted({run.seed for run in report.runs}) == [0, 1, 2]
    assert {tuple(run.setting) for run in report.runs} == {("training.batch_size",)}
    plain = [
        (run.variant, run.setting, run.seed) for run in runs_of(tiny(sweep={"training.batch_size": [20, 40]}), "cpu")
    ]
    assert sorted(map(repr, plain)) == sorted(repr((r.variant, r.setting, r.seed)) for r in report.runs)


def test_after_each_rung_the_better_third_of_each_variants_trials_goes_on(tiny: Any) -> None:
    study = tiny(search=search(trials=20, prune="halving"), training={"steps": 90, "batch_size": 40})

    def rule(run: Run) -> float:  # what is best after a ninth is not what is best at the end
        return peak(0.01 if run.steps < 30 else 1.0)(run)

    first, second, third, report = played(study, rule)
    assert [{run.steps for run in stage.runs} for stage in (first, second, third, report)] == [{10}, {30}, {90}, {90}]
    assert {run.training.steps for stage in (first, second, third) for run in stage.runs} == {90}
    for variant in ("none", "batch"):
        assert [len(trials([stage], variant)) for stage in (first, second, third)] == [20, 7, 3]
        for stage, after in ((first, second), (second, third)):
            went_on = set(trials([after], variant))
            scores = {
                setting: min(rule(run) for run in stage.runs if repr(run.setting) == setting)
                for setting in trials([stage], variant)
            }
            assert min(scores[each] for each in went_on) > max(scores[each] for each in scores if each not in went_on)
    (lr,) = {run.training.lr for run in report.runs}
    assert lr == min({run.training.lr for run in third.runs}, key=lambda lr: abs(math.log10(lr)))


def test_a_trial_of_which_a_seed_gave_nothing_does_not_outrank_a_whole_one(tiny: Any) -> None:
    study = tiny(search=search(trials=5, seeds=3))
    stage = next_stage(study, {}, "cpu")
    assert stage is not None
    best = stage.runs[0].training.lr
    results = {
        run.id: failed(run) if run.training.lr == best and run.seed == 1000 else made(run, peak(best)(run))
        for run in stage.runs
    }
    report = next_stage(study, results, "cpu")
    assert report is not None
    assert best not in {run.training.lr for run in report.runs}


def failed(run: Run) -> RunResult:
    return RunResult(run.spec(), RunInfo(run.id, "failed", 0, "out of memory"))


@pytest.mark.parametrize("prune", [None, "halving"])
def test_a_variant_of_which_no_run_gave_a_number_ends_the_study(tiny: Any, prune: str | None) -> None:
    study = tiny(search=search(prune=prune))
    stage = next_stage(study, {}, "cpu")
    assert stage is not None
    with pytest.raises(BncliError, match="nothing to choose by for none: no run of its search ended with validation"):
        next_stage(study, {run.id: failed(run) for run in stage.runs}, "cpu")


def test_tpe_asks_each_variant_for_as_many_and_learns_from_its_own_trials(tiny: Any, optuna: Any) -> None:
    study = tiny(search=search(trials=32, sampler="tpe"))
    rule: Rule = lambda run: peak(3.0 if run.norm.name == "batch" else 0.003)(run)  # noqa: E731
    stages = played(study, rule)
    assert [len(trials([stage])) for stage in stages[:-1]] == [10, 5, 5, 5, 5, 2]
    assert trials(stages[:1], "none") == trials(stages[:1])
    assert trials(stages[2:], "none") != trials(stages[2:])
    for variant, best in (("none", 0.003), ("batch", 3.0)):
        later = [run.training.lr for stage in stages[3:-1] for run in stage.runs if run.variant == variant]
        near = [lr for lr in later if abs(math.log10(lr / best)) < 1]
        assert len(near) > len(later) / 2  # of four decades


def test_tpe_tries_no_point_twice(tiny: Any, optuna: Any) -> None:
    over = {"training.lr": [0.1, 0.3, 1], "model.hidden": [[16], [16, 16], [32], [64], [16, 32]]}
    stages = played(tiny(search=search(over=over, trials=15, sampler="tpe")), peak(0.3))
    ids = [run.id for stage in stages[:-1] for run in stage.runs]
    assert len(ids) == len(set(ids))


def test_tpe_follows_from_what_it_is_told_alone_and_says_nothing(tiny: Any, optuna: Any, capfd: Any) -> None:
    wanted = tiny(search=search(sampler="tpe", sampler_seed=3)).search
    told = [(point, score) for point, score in zip(draw_points(wanted, 4), (0.1, None, -math.inf, 0.9), strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = ask_tpe(wanted, told, 4, 5)
        assert ask_tpe(wanted, told, 4, 5) == first
    assert ask_tpe(wanted, told, 5, 5) != first
    assert len({repr(point) for point in first}) == 5
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr() == ("", "")


def test_without_optuna_tpe_is_one_line_that_says_what_to_install(tiny: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError) as error:
        next_stage(tiny(search=search(sampler="tpe")), {}, "cpu")
    assert str(error.value) == (
        "search.sampler: tpe needs Optuna, which is not installed: pip install 'bncli[search]', or take halton or"
        " random, which need nothing"
    )
    assert next_stage(tiny(search=search()), {}, "cpu") is not None


class Killed(BaseException):
    """Stands for a signal."""


def trained(study: Study, store: Path, kill_after: int | None = None) -> tuple[Any, Mapping[str, RunResult]]:
    """The session and its results; killed once so many jobs have ended."""
    ended = 0

    def on_event(event: object) -> None:
        nonlocal ended
        ended += isinstance(event, Finished)
        if ended == kill_after:
            raise Killed

    session = open_session(study, store=store, executor="thread", device="cpu")
    return train(session, on_event)


Tiny = Callable[..., Study]
ONE: dict[str, Any] = {
    "variants": {"batch": "batch"}, "reference": "batch", "training": {"steps": 18, "batch_size": 40},
    "evaluation": {"every": 4},
}  # fmt: skip
SMALL: dict[str, Any] = {"over": {k: v for k, v in OVER.items() if k != "model.hidden"}, "seeds": 1}


@pytest.mark.parametrize(
    ("asked", "kills"),
    [
        ({"sampler": "tpe", "trials": 12, "prune": "halving"}, (3, 11, 14, 17)),
        ({"sampler": "halton", "trials": 4, "prune": "halving"}, (1, 4, 6)),
    ],
)
def test_a_search_that_is_killed_goes_on_to_the_same_trials_and_numbers_bit_for_bit(
    tiny: Tiny, tmp_path: Path, asked: dict[str, Any], kills: tuple[int, ...]
) -> None:
    if asked["sampler"] == "tpe":
        pytest.importorskip("optuna")
    study = tiny(**ONE, search={**SMALL, **asked}, seeds=1)
    whole, expected = trained(study, tmp_path / "whole")
    done = 0
    for kill in kills:
        with pytest.raises(Killed):
            trained(study, tmp_path / "killed", kill - done)
        done = kill
    session, found = trained(study, tmp_path / "killed")
    assert [run.id for run in session.searched] == [run.id for run in whole.searched]
    assert [run.id for run in session.runs] == [run.id for run in whole.runs]
    assert found.keys() == expected.keys()
    for key in expected:
        assert (found[key].info.status, [*found[key].records]) == (expected[key].info.status, [*expected[key].records])
    assert not [*(tmp_path / "killed" / "checkpoints").glob("*")]
    assert not [*(tmp_path / "whole" / "checkpoints").glob("*")]


def test_rungs_go_on_from_checkpoints_which_stay_as_long_as_they_are_needed(
    tiny: Tiny, tmp_path: Path, monkeypatch: Any
) -> None:
    study = tiny(**ONE, search={**SMALL, "trials": 6, "prune": "halving"}, seeds=1)
    resumed: list[bool] = []
    resume = Checkpoints.resume
    monkeypatch.setattr(Checkpoints, "resume", lambda *a: resumed.append(resume(*a)) or resumed[-1])
    left: list[set[str]] = []
    courses: list[set[str]] = []

    def train_in(store: Path, *, forget: bool) -> Mapping[str, RunResult]:
        def on_event(event: object) -> None:
            if isinstance(event, Started):
                left.append({folder.name for folder in (store / "checkpoints").glob("*")})
                courses.append({job.course for job in event.jobs})
                for folder in (store / "checkpoints").glob("*") if forget else ():
                    shutil.rmtree(folder)

        return train(open_session(study, store=store, executor="thread", device="cpu"), on_event)[1]

    kept = train_in(tmp_path / "kept", forget=False)
    assert [len(each) for each in courses] == [6, 2, 1, 1]
    assert left == [set(), courses[1], courses[2], set()]
    assert courses[0] > courses[1] > courses[2]
    assert resumed == [False] * 6 + [True] * 3 + [False]
    assert not [*(tmp_path / "kept" / "checkpoints").glob("*")]
    lost = train_in(tmp_path / "lost", forget=True)
    assert resumed[10:] == [False] * 10
    assert {key: [*result.records] for key, result in kept.items()} == {
        key: [*result.records] for key, result in lost.items()
    }


def test_a_stage_of_which_every_run_was_raced_off_is_at_no_rung() -> None:
    assert Stage(()).rung == 0


def test_jobs_of_a_search_without_rungs_keep_their_lanes(tiny: Any) -> None:
    stage, _ = played(tiny(search=search(trials=9)), peak(0.3))
    assert max(len(job.runs) for job in jobs_of(stage.runs)) > 2


@pytest.mark.nightly
def test_a_command_killed_by_sigkill_again_and_again_ends_with_the_runs_of_one_that_was_not(
    tiny: Tiny, tmp_path: Path, optuna: Any
) -> None:
    study = tiny(search={**SMALL, "trials": 14, "sampler": "tpe", "prune": "halving"}, seeds=1)
    preset = tmp_path / "study.yaml"
    preset.write_text(json.dumps(study.model_dump(mode="json")))

    def command(store: str, jobs: int) -> list[str]:
        plain = ["--device", "cpu", "--jobs", str(jobs), "--store", str(tmp_path / store), "--json", f"{store}.json"]
        return [sys.executable, "-m", "bncli", "compare", str(preset), *plain]

    subprocess.run(command("whole", 2), cwd=tmp_path, check=True, capture_output=True)
    for kill in (5, 19, 26, 37):
        process = subprocess.Popen(
            command("killed", 1 + kill % 2), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len([*(tmp_path / "killed" / "runs").glob("[0-9a-f]*")]) < kill:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
    subprocess.run(command("killed", 2), cwd=tmp_path, check=True, capture_output=True)
    whole, killed = (json.loads((tmp_path / f"{store}.json").read_text()) for store in ("whole", "killed"))
    assert [run["id"] for run in killed["runs"]] == [run["id"] for run in whole["runs"]]
    assert [run["curves"] for run in killed["runs"]] == [run["curves"] for run in whole["runs"]]
    assert killed["searches"] == whole["searches"]
    assert not [*(tmp_path / "killed" / "checkpoints").glob("*")]
