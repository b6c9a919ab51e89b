"""A run that a search stops at a rung is the beginning of the longer one, and what is kept there is its way on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bncli.config import Study
from bncli.engine.train import Sign, train
from bncli.plan import Job, Run, checkpoint_steps, jobs_of, runs_of, seconds_of
from bncli.store.pack import check_run

Tiny = Callable[..., Study]
COSINE = {"steps": 30, "batch_size": 40, "lr": 0.1, "schedule": "cosine", "optimizer": {"name": "sgd", "momentum": 0.9}}


def runs_until(tiny: Tiny, *rungs: int, norm: str = "batch", count: int = 3, **changes: Any) -> list[Run]:
    study = tiny(variants={"it": norm}, reference="it", training=COSINE, seeds=count, **changes)
    return [replace(run, rungs=rungs) for run in runs_of(study, "cpu")]


def job_until(tiny: Tiny, *rungs: int, **changes: Any) -> Job:
    return Job(tuple(runs_until(tiny, *rungs, **changes)))


def numbers(job: Job, folder: Path | None = None, signs: list[Sign] | None = None) -> list[Any]:
    found = train(job, (signs if signs is not None else []).append, folder)
    for result in found:
        check_run(result)
    return [(r.info.status, r.info.step, r.records) for r in found]


@pytest.mark.parametrize(("norm", "count"), [("batch", 3), ("zca", 1), ("noisy-batch", 1)])
def test_a_rung_goes_on_from_the_one_before_to_the_numbers_of_a_run_in_one_go(
    tiny: Tiny, tmp_path: Path, norm: str, count: int
) -> None:
    ladder = [job_until(tiny, *rungs, norm=norm, count=count) for rungs in ((10,), (10, 17), (10, 17, 30))]
    expected = [numbers(job) for job in ladder]  # each from its start
    steps = []
    for job, numbers_of_one_go in zip(ladder, expected, strict=True):
        torch.manual_seed(123)
        signs: list[Sign] = []
        assert numbers(job, tmp_path, signs) == numbers_of_one_go
        steps.append([sign.step for sign in signs])
    assert steps == [[0, 10], [17], [20, 30]]
    assert expected[2] == numbers(job_until(tiny, norm=norm, count=count))


def test_a_rung_is_trained_by_the_schedule_of_the_whole_recipe(tiny: Tiny) -> None:
    signs: list[Sign] = []
    train(job_until(tiny, 10), signs.append)
    whole: list[Sign] = []
    train(job_until(tiny), whole.append)
    assert [(s.step, s.lr) for s in signs] == [(s.step, s.lr) for s in whole][:2]
    assert signs[-1].lr is not None
    assert signs[-1].lr > 0.05


def test_a_rung_that_was_killed_behind_its_last_step_measures_once_more_and_ends(tiny: Tiny, tmp_path: Path) -> None:
    job = job_until(tiny, 17)
    expected = numbers(job)
    numbers(job, tmp_path)
    signs: list[Sign] = []
    assert numbers(job, tmp_path, signs) == expected
    assert [sign.step for sign in signs] == [17]


def test_a_run_that_stops_at_a_rung_is_another_run_and_one_that_does_not_is_the_same(tiny: Tiny) -> None:
    (plain,) = runs_until(tiny, count=1)
    (short,) = runs_until(tiny, 10, count=1)
    (last,) = runs_until(tiny, 10, 30, count=1)
    assert short.id not in (plain.id, runs_until(tiny, 11, count=1)[0].id)
    assert short.spec() == {**plain.spec(), "stop": 10}
    assert last.id == plain.id
    assert [run.steps for run in (plain, short, last)] == [30, 10, 30]
    assert [run.pauses for run in (plain, short, last)] == [False, True, False]


def test_a_stored_rung_that_says_it_went_on_is_damaged(tiny: Tiny) -> None:
    (result,) = train(job_until(tiny, 10, count=1))
    assert result.budget == 10
    with pytest.raises(ValueError, match="it is done at step 30 of 10"):
        check_run(replace(result, info=replace(result.info, step=30)))


def test_jobs_that_differ_in_where_they_stop_share_the_folder_of_their_checkpoints(tiny: Tiny) -> None:
    plain, short, longer = (job_until(tiny, *rungs) for rungs in ((), (10,), (10, 17)))
    assert short.course == longer.course == plain.course == plain.id
    assert len({plain.id, short.id, longer.id}) == 3


def test_the_seeds_of_a_trial_are_all_the_company_it_has_at_any_rung(tiny: Tiny) -> None:
    sweep = {"training.lr": [0.1, 0.2, 0.3, 0.4]}
    first = jobs_of(runs_until(tiny, 10, sweep=sweep))
    assert sorted(len(job.runs) for job in first) == [3, 3, 3, 3]
    assert all(len({run.training.lr for run in job.runs}) == 1 for job in first)
    (job,) = jobs_of(run for run in runs_until(tiny, 10, 30, sweep=sweep) if run.training.lr == 0.3)
    assert job.course in [other.course for other in first]
    assert sorted(len(job.runs) for job in jobs_of(runs_until(tiny, sweep=sweep))) == [6, 6]


def test_a_rung_is_expected_to_take_its_own_steps(tiny: Tiny) -> None:
    whole, third = job_until(tiny), job_until(tiny, 10)
    assert seconds_of(third) < seconds_of(whole)
    assert checkpoint_steps(third) >= 10
