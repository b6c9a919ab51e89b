"""The study loop: whatever happens to workers, every job ends and nothing else is lost."""

import json
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bncli.config import Study
from bncli.engine.executors.local import local
from bncli.engine.study import Finished, Progress, WorkerDied, run_jobs, work
from bncli.errors import BncliError, DataError
from bncli.plan import Job, jobs_of, runs_of
from bncli.records import RunInfo, RunResult

Tiny = Callable[..., Study]
Act = Callable[[Job], list[RunResult]]


def results_of(job: Job) -> list[RunResult]:
    return [RunResult(run.spec(), RunInfo(run.id, "done", 30)) for run in job.runs]


class Scripted(Executor):
    """Runs a job when it is submitted, as `act` says; a BrokenProcessPool breaks it for good, as the standard pool."""

    def __init__(self, act: Act, begins: bool = True) -> None:
        self.act, self.begins, self.broken = act, begins, False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.broken:
            raise BrokenProcessPool
        job, heartbeat, _ = args
        future: Future[Any] = Future()
        if self.begins:
            heartbeat.write_text("[1, 0.5]")
        try:
            future.set_result(self.act(job))
        except BaseException as error:
            self.broken = isinstance(error, BrokenProcessPool)
            future.set_exception(error)
        return future


@pytest.fixture
def jobs(tiny: Tiny) -> list[Job]:
    return jobs_of(runs_of(tiny(variants={"none": "none", "batch": "batch", "zca": "zca"}), "cpu"))


def ends(events: list[Any]) -> dict[int, str]:
    return {e.job: e.results[0].info.status for e in events if isinstance(e, Finished)}


def test_every_job_ends_and_reports_how_far_it_is(jobs: list[Job]) -> None:
    events = list(run_jobs(jobs, lambda: Scripted(results_of), slots=1))
    assert ends(events) == {0: "done", 1: "done", 2: "done"}
    assert Progress(0, 1, 0.5) in events


def test_a_job_that_kills_its_worker_is_tried_once_more_and_the_rest_is_done(jobs: list[Job]) -> None:
    tries = []

    def act(job: Job) -> list[RunResult]:
        if job.runs[0].norm.name == "batch":
            tries.append(job)
            raise BrokenProcessPool
        return results_of(job)

    events = list(run_jobs(jobs, lambda: Scripted(act), slots=2))
    guilty = next(i for i, job in enumerate(jobs) if job.runs[0].norm.name == "batch")
    assert ends(events) == {0: "done", 1: "done", 2: "done"} | {guilty: "failed"}
    assert len(tries) == 2
    assert [e for e in events if isinstance(e, WorkerDied)] == [WorkerDied((guilty,))] * 2
    (reason,) = {r.info.reason for e in events if isinstance(e, Finished) and e.job == guilty for r in e.results}
    assert reason == "its worker process died 2 times"


def test_a_worker_that_dies_by_accident_costs_nothing_but_time(jobs: list[Job]) -> None:
    accidents = [BrokenProcessPool()]

    def act(job: Job) -> list[RunResult]:
        if accidents:
            raise accidents.pop()
        return results_of(job)

    assert set(ends(list(run_jobs(jobs, lambda: Scripted(act), slots=2))).values()) == {"done"}


def test_workers_that_never_start_end_the_study_with_advice(jobs: list[Job]) -> None:
    def act(job: Job) -> list[RunResult]:
        raise BrokenProcessPool

    with pytest.raises(BncliError, match=r"die before they start a job; is there enough memory\? try --jobs 1"):
        list(run_jobs(jobs, lambda: Scripted(act, begins=False), slots=1))


def test_a_job_that_raises_has_failed_and_says_why(jobs: list[Job]) -> None:
    def act(job: Job) -> list[RunResult]:
        raise ZeroDivisionError("division by zero")

    events = list(run_jobs(jobs[:1], lambda: Scripted(act), slots=1))
    assert [r.info.reason for r in events[-1].results] == ["ZeroDivisionError: division by zero"] * 3  # type: ignore[union-attr]


def test_a_users_mistake_ends_the_study(jobs: list[Job]) -> None:
    def act(job: Job) -> list[RunResult]:
        raise DataError("no such file")

    with pytest.raises(DataError, match="no such file"):
        list(run_jobs(jobs, lambda: Scripted(act), slots=1))


def test_work_leaves_a_sign_of_life(jobs: list[Job], tmp_path: Path) -> None:
    results = work(jobs[-1], tmp_path / "0.json")
    step, level, loss, lr, notes = json.loads((tmp_path / "0.json").read_text())
    assert step == 30
    assert level == pytest.approx(sum(r.curve("accuracy")[1][-1] for r in results) / 3)
    assert loss == pytest.approx(sum(r.curve("loss")[1][-1] for r in results) / 3)
    assert (lr, notes) == (0.5, [])


def test_more_workers_than_gpus_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncli.engine.executors.local.device_count", lambda device: 2)
    given: list[int] = []
    context = SimpleNamespace(SimpleQueue=lambda: SimpleNamespace(put=given.append))
    monkeypatch.setattr("multiprocessing.get_context", lambda method: context)
    monkeypatch.setattr("bncli.engine.executors.local.ProcessPoolExecutor", lambda *args, **options: None)
    local(5, "cuda")
    assert given == [0, 1, 0, 1, 0]
