"""The loop over jobs, through real executors: whatever happens to workers, every job ends and nothing else is lost."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bncli.config import Study
from bncli.engine.train import train
from bncli.engine.work import Surroundings, work
from bncli.errors import BncliError, ConfigError, DataError, HandedBack
from bncli.executors import Placement, WorkerLostError, Workers, open_workers
from bncli.executors.loop import Finished, Progress, WorkerDied, run_jobs
from bncli.plan import Job, jobs_of, runs_of
from bncli.plugins import ship, using
from tests.executors.elsewhere import breaking, open_elsewhere, open_thread, open_threads

Tiny = Callable[..., Study]


@pytest.fixture
def jobs(tiny: Tiny) -> list[Job]:
    return jobs_of(runs_of(tiny(variants={"none": "none", "batch": "batch", "zca": "zca"}), "cpu"))


def ends(events: list[Any]) -> dict[str, str]:
    return {e.job.runs[0].variant: e.results[0].info.status for e in events if isinstance(e, Finished)}


def opened(factory: Any) -> Callable[[], Workers]:
    return partial(open_workers, factory, 2, "cpu")


DONE = {"none": "done", "batch": "done", "zca": "done"}


@pytest.mark.parametrize("factory", ["local", open_thread, open_elsewhere])
def test_every_executor_gives_the_numbers_of_a_job_trained_here(jobs: list[Job], factory: Any) -> None:
    events = list(run_jobs(jobs, opened(factory)))
    assert ends(events) == DONE
    for event in events:
        if isinstance(event, Finished):
            assert [r.records for r in event.results] == [r.records for r in train(event.job)]


def test_workers_that_share_files_say_how_far_they_are(jobs: list[Job]) -> None:
    events = list(run_jobs(jobs[:1], opened("local")))
    assert any(isinstance(event, Progress) and event.job == jobs[0] for event in events)


def test_signs_of_life_of_jobs_that_have_ended_are_looked_at_no_more(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    for event in run_jobs(jobs, lambda: Workers(open_thread(1, "cpu"), 1, shares_files=True)):
        ended = len(seen) + isinstance(event, Finished)
        seen += [len([*tmp_path.rglob("*.json")]) <= len(jobs) - ended] if isinstance(event, Finished) else []
    assert seen == [True, True, True]


@pytest.mark.parametrize("what", ["missing", "tidied up meanwhile"])
def test_training_goes_on_without_a_folder_for_temporary_files(
    what: str, jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "temporary"
    monkeypatch.setattr("tempfile.tempdir", str(place))
    if what != "missing":
        place.mkdir()

    def open_one() -> Workers:
        shutil.rmtree(place, ignore_errors=True)
        return Workers(open_thread(1, "cpu"), 1, shares_files=True)

    assert ends(list(run_jobs(jobs, open_one))) == DONE


def test_a_job_that_kills_its_worker_is_tried_once_more_and_the_rest_is_done(jobs: list[Job]) -> None:
    tries = []

    def breaks(job: Job, at: Surroundings) -> bool:
        if guilty := job.runs[0].variant == "batch":
            tries.append(job)
        return guilty

    events = list(run_jobs(jobs, breaking(breaks)))
    assert ends(events) == {**DONE, "batch": "failed"}
    (batch,) = [job for job in jobs if job.runs[0].variant == "batch"]
    assert events.count(WorkerDied((batch,))) >= 1
    (reason,) = {r.info.reason for e in events if isinstance(e, Finished) and e.job == batch for r in e.results}
    assert reason == f"its worker process died {len(tries)} times"


def test_a_worker_that_dies_by_accident_costs_nothing_but_time(jobs: list[Job]) -> None:
    accidents = [True]
    events = list(run_jobs(jobs, breaking(lambda *_: bool(accidents and accidents.pop()))))
    assert ends(events) == DONE


def test_workers_that_never_start_end_the_study_with_advice(jobs: list[Job]) -> None:
    def open_broken() -> Workers:
        inner = breaking(lambda *_: True)()
        return Workers(inner.executor, 1, shares_files=True, stop=inner.stop)

    with pytest.raises(BncliError, match=r"die before they start a job.*is there enough memory\? try --jobs 1"):
        list(run_jobs(jobs, open_broken))


def test_a_job_that_raises_has_failed_and_says_why(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_(*_: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("bncli.engine.train.train", raise_)
    *_, last = run_jobs(jobs[:1], opened(open_thread))
    assert isinstance(last, Finished)
    assert [r.info.reason for r in last.results] == ["ZeroDivisionError: division by zero"] * 3


@pytest.mark.parametrize("factory", ["local", open_thread, open_elsewhere])
def test_a_users_mistake_ends_the_study(jobs: list[Job], tmp_path: Path, factory: Any) -> None:
    with pytest.raises(DataError, match="no train-images"):
        list(run_jobs(jobs, opened(factory), lambda job: Surroundings(data=tmp_path)))


def test_two_threads_are_refused(jobs: list[Job]) -> None:
    with pytest.raises(ConfigError, match="a pool of 2 threads would train several jobs in one process"):
        open_workers(ThreadPoolExecutor(2), 2, "cpu")


def test_two_jobs_in_one_process_are_refused_whatever_the_executor_is_called(jobs: list[Job]) -> None:
    with pytest.raises(BncliError, match="it runs two jobs in one process at once"):
        list(run_jobs(jobs, opened(open_threads)))


def test_an_executor_of_the_callers_is_left_open(jobs: list[Job]) -> None:
    with ThreadPoolExecutor(1) as pool:
        list(run_jobs(jobs[:1], opened(pool)))
        assert pool.submit(int).result() == 0


def test_what_is_no_executor_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"expected a concurrent.futures.Executor or bncli.executors.Workers, got int"
    ):
        open_workers(lambda workers, device: 3, 1, "cpu")  # type: ignore[arg-type, return-value]


def test_an_unknown_executor_is_named() -> None:
    with pytest.raises(ConfigError, match="no executor is called 'locl'; did you mean 'local'"):
        open_workers("locl", 1, "cpu")


def test_the_local_pool_ends_no_other_child_of_this_process(jobs: list[Job]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        stopped = run_jobs(jobs, opened("local"))
        next(stopped)
        stopped.close()
        assert other.poll() is None
        other.communicate(b"\n")


def test_a_stopped_pool_leaves_no_worker_behind(jobs: list[Job]) -> None:
    workers = opened("local")()
    pids = [workers.executor.submit(os.getpid).result() for _ in range(4)]
    workers.stop()
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_a_worker_killed_by_the_system_is_replaced(tiny: Tiny) -> None:
    slow = jobs_of(runs_of(tiny(training={"steps": 3000, "batch_size": 40, "lr": 0.1}, seeds=1), "cpu"))
    victims: list[int] = []

    def open_marked() -> Workers:
        workers = open_workers("local", 1, "cpu")
        if not victims:
            victims.append(workers.executor.submit(os.getpid).result())
        return workers

    died = []
    for event in run_jobs(slow, open_marked):
        if isinstance(event, Progress) and not died:
            os.kill(victims[0], signal.SIGKILL)
            died.append(event)
        if isinstance(event, Finished):
            assert event.results[0].info.status == "done"
    assert died


def test_a_job_leaves_the_process_as_it_was(jobs: list[Job]) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    work(jobs[0], Surroundings())
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_num_threads(1)


def test_a_job_that_takes_too_long_is_ended_and_timed_out(tiny: Tiny) -> None:
    endless = jobs_of(runs_of(tiny(training={"steps": 10_000_000, "batch_size": 40, "lr": 0.1}), "cpu"))[0]
    results = work(endless, Surroundings(seconds=6))
    assert {(r.info.status, r.info.reason) for r in results} == {("timed out", "not done within 6 s")}


def test_a_job_within_its_limit_has_the_numbers_that_it_has_without(jobs: list[Job]) -> None:
    limited = work(jobs[0], Surroundings(seconds=120))
    assert [r.records for r in limited] == [r.records for r in train(jobs[0])]


def test_a_mistake_in_a_job_with_a_limit_is_said(jobs: list[Job], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train-images"):
        work(jobs[0], Surroundings(seconds=120, data=tmp_path))


def test_a_job_with_a_limit_imports_what_this_process_can(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("SCALE = 2.0\n")
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import sys\n\ndef mine(channels):\n    import only_here, torch\n    return torch.nn.Identity()\n\nNORMS = {'mine': mine}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with using([plugin]) as plugins:
        (job,) = jobs_of(runs_of(tiny(variants={"mine": "mine"}, reference="mine", seeds=1), "cpu"))
        (result,) = work(job, Surroundings(seconds=120, plugins=ship(plugins)))
    assert (result.info.status, result.info.reason) == ("done", "")


@pytest.mark.parametrize("seconds", [None, 120.0])
def test_an_exception_that_cannot_travel_is_the_reason_of_a_failed_run(
    tmp_path: Path, tiny: Tiny, seconds: float | None
) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "class Mine(Exception):\n"
        "    def __init__(self, a, b):\n        super().__init__('no luck')\n\n"
        "def mine(channels):\n    raise Mine(1, 2)\n\nNORMS = {'mine': mine}\n"
    )
    with using([plugin]) as plugins:
        (job,) = jobs_of(runs_of(tiny(variants={"mine": "mine"}, reference="mine", seeds=1), "cpu"))
        at = Surroundings(seconds=seconds, plugins=ship(plugins))
        (finished,) = [e for e in run_jobs([job], opened("local"), lambda job: at) if isinstance(e, Finished)]
    assert [(r.info.status, r.info.reason) for r in finished.results] == [("failed", "Mine: no luck")]


@pytest.mark.parametrize("seconds", [None, 120.0])
def test_a_thread_leaves_a_job_that_nobody_waits_for(tiny: Tiny, jobs: list[Job], seconds: float | None) -> None:
    endless = jobs_of(runs_of(tiny(training={"steps": 10_000_000, "batch_size": 40, "lr": 0.1}, seeds=1), "cpu"))
    events = run_jobs(endless[:1], opened("thread"), lambda job: Surroundings(seconds=seconds))
    next(events)
    events.close()
    assert ends(list(run_jobs(jobs[:1], opened("thread")))) == {jobs[0].runs[0].variant: "done"}


def test_a_pool_that_a_factory_opened_ends_with_the_study(tiny: Tiny) -> None:
    endless = jobs_of(runs_of(tiny(training={"steps": 10_000_000, "batch_size": 40, "lr": 0.1}, seeds=1), "cpu"))
    pools: list[Any] = []

    def open_kept(workers: int | None, device: str) -> Executor:
        pools.append(open_elsewhere(workers, device))
        return pools[0]  # type: ignore[no-any-return]

    workers = opened(open_kept)()
    workers.executor.submit(work, endless[0], Surroundings())
    (process,) = list(pools[0]._processes.values())
    workers.stop()
    deadline = time.monotonic() + 20
    while process.is_alive():  # joined, a process that a thread of the pool has waited for is alive for a moment
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)


def test_workers_of_a_killed_command_end_whoever_opened_them(tmp_path: Path) -> None:
    script = tmp_path / "study.py"
    script.write_text(
        "import os, time\n"
        "from bncli.engine.work import work\n"
        "from tests.executors.elsewhere import open_elsewhere\n"
        "def at_work():\n"
        "    try:\n        work(None, None)\n    except AttributeError:\n        pass\n    return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    pool = open_elsewhere(1, 'cpu')\n"
        "    print(pool.submit(at_work).result(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    with command:
        assert command.stdout is not None
        worker = int(command.stdout.readline())
        command.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)


def _raising(workers: int | None, device: str) -> Executor:
    raise OSError("no cluster at 10.0.0.1")


class _Odd(Executor):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def _came(back: object) -> "Future[object]":
    future: Future[object] = Future()
    future.set_result(back)
    return future


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (_raising, r"and raised OSError: no cluster at 10.0.0.1"),
        (lambda: None, r"called with the number of workers and the device, as in \(2, 'cpu'\), and raised TypeError"),
        (lambda *_: Workers(ThreadPoolExecutor(1), 0), "slots above 0, got ThreadPoolExecutor and 0"),
        (lambda *_: Workers(ThreadPoolExecutor(1), None), "slots above 0, got ThreadPoolExecutor and None"),
        (lambda *_: Workers(3, 1), "slots above 0, got int and 1"),
        (lambda *_: _Odd(RuntimeError("shut")), r"it took no job \(RuntimeError: shut\)"),
        (lambda *_: _Odd(3), "expected a concurrent.futures.Future of its submit, got int"),
        (lambda *_: _Odd(_came("rubbish")), "its submit must call the function that it is given, got 'rubbish'"),
        (lambda *_: _Odd(_came([])), r"its submit must call the function that it is given, got \[\]"),
    ],
)
def test_an_executor_that_is_none_is_one_line(jobs: list[Job], factory: Any, message: str) -> None:
    with pytest.raises(BncliError, match=message):
        list(run_jobs(jobs[:1], opened(factory)))


def test_a_pool_of_the_callers_that_broke_is_said_to_be_his(jobs: list[Job]) -> None:
    with ProcessPoolExecutor(1) as pool:
        with pytest.raises(BrokenExecutor):
            pool.submit(os._exit, 1).result()
        with pytest.raises(BncliError, match=r"the pool that you have opened died.*with a new pool"):
            list(run_jobs(jobs[:1], opened(pool)))


def test_the_double_runs_what_it_is_given() -> None:
    workers: Executor = breaking(lambda *_: False)().executor
    assert workers.submit(max, 1, 2).result() == 2


class _Losing(ThreadPoolExecutor):
    """One thread; the first calls end as if the worker of each were gone, or had to leave."""

    def __init__(self, *ends: Exception) -> None:
        super().__init__(1)
        self.ends, self.calls = list(ends), 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.calls += 1
        if not self.ends:
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        future.set_exception(self.ends.pop(0))
        return future


def test_a_job_whose_worker_is_lost_or_must_leave_is_done_by_another(jobs: list[Job]) -> None:
    with _Losing(WorkerLostError("node 7 is gone"), HandedBack(), HandedBack(), *[WorkerLostError("gone")] * 2) as pool:
        events = list(run_jobs(jobs[:1], opened(pool)))
    died = [event for event in events if isinstance(event, WorkerDied)]
    assert [event.why for event in died] == ["node 7 is gone", *["a worker had to leave"] * 2, *["gone"] * 2]
    assert list(ends(events).values()) == ["done"]


def test_a_job_that_has_lost_four_workers_is_given_up(jobs: list[Job]) -> None:
    with _Losing(WorkerLostError("gone"), WorkerLostError("gone for good", 3)) as pool:
        (died, finished) = run_jobs(jobs[:1], opened(pool))
    assert isinstance(died, WorkerDied)
    assert isinstance(finished, Finished)
    assert finished.results[0].info.status == "failed"
    assert finished.results[0].info.reason == "its workers were lost, time after time (gone for good)"


def test_no_more_jobs_are_in_flight_than_was_asked(jobs: list[Job]) -> None:
    waiting = list[Future[Any]]()

    class Slow(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
            waiting.append(Future())
            return waiting[-1]

    counts = list[int]()

    def look() -> None:
        counts.append(len(waiting))
        if len(counts) == 4:
            raise BncliError("seen enough")

    with pytest.raises(BncliError, match="seen enough"):
        list(run_jobs(jobs * 3, lambda: Workers(Slow(), 2), max_in_flight=3, on_poll=look))
    assert counts == [3] * 4


@pytest.mark.parametrize(
    ("executor", "placement", "said"),
    [
        (
            "local",
            Placement(gpus_per_job=0.5),
            r"^--gpus-per-job 0\.5: the executor local does not place jobs by that$",
        ),
        (ThreadPoolExecutor(1), Placement(cpus_per_job=2), "^--cpus-per-job 2: the executor an open executor does not"),
        ("local:here", Placement(), "^--executor local:here: it has no address, got 'here'$"),
    ],
)
def test_what_an_executor_cannot_be_asked_is_one_line(executor: Any, placement: Placement, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_workers(executor, 1, "cpu", placement)


def test_a_factory_is_told_what_jobs_are_to_have() -> None:
    told = dict[str, Any]()

    def factory(workers: int | None, device: str, *, cpus_per_job: float, gpus_per_job: float = 0) -> Executor:
        told.update(cpus=cpus_per_job, gpus=gpus_per_job)
        return ThreadPoolExecutor(1)

    open_workers(factory, 1, "cuda", Placement(cpus_per_job=3, ranks=2)).stop()
    assert told == {"cpus": 3, "gpus": 2}


def test_a_job_that_is_handed_back_goes_on_from_what_it_has_kept(tiny: Tiny, tmp_path: Path) -> None:
    (job,) = jobs_of(runs_of(tiny(variants={"none": "none"}, seeds=1), "cpu"))
    whole, said = train(job), list[int]()

    def leave(sign: Any) -> None:
        said.append(sign.step)
        if len(said) == 2:
            raise HandedBack

    with pytest.raises(HandedBack):
        train(job, leave, tmp_path)
    half = said[-1]
    (run,) = train(job, lambda sign: said.append(sign.step), tmp_path)
    assert 0 < half < said[2]
    assert run.records == whole[0].records


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cpus_per_job": 0.0}, r"^--cpus-per-job: must be 0\.001 or more, got 0$"),
        ({"gpus_per_job": -1.0}, r"^--gpus-per-job: must be 0, or 0\.001 or more, got -1$"),
        ({"max_in_flight": 0}, "^--max-in-flight: must be 1 or more, got 0$"),
        ({"shared": Path("nowhere")}, "^--shared nowhere: expected a folder that is there, and that all machines see$"),
    ],
)
def test_what_no_worker_can_have_is_one_line(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Placement(**asked)
