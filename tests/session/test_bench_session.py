"""The bench session below the command line: a record, events, and what is kept whatever ends it."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bncli.config.bench import Bench, bench_of
from bncli.errors import BncliError, ConfigError, UndecidedError
from bncli.session import bench
from bncli.session.bench import BenchError, BenchInterrupted, measure_plan
from bncli.session.bench_plan import plan_bench
from bncli.session.events import BaselineSaved, Event, Measured, Measuring, OnEvent, Warned, ignore
from bncli.timing.cases import Case
from bncli.timing.process.client import CaseError, Worker
from bncli.timing.results import BenchRecord
from bncli.timing.workloads import TimerSettings
from tests.timing.made_worker import MadeWorker, measures, start_made_worker

PRESET = bench_of({
    "question": "does it work?", "budget": 1, "warm": True,
    "cases": [{"norms": ["batch", "layer"], "shapes": ["N8C16"], "passes": ["train-forward"]}],
})  # fmt: skip
NAMES = ("batch/train-forward/N8C16/f32/nc/cpu", "layer/train-forward/N8C16/f32/nc/cpu")


def run_bench(preset: Bench, name: str, *, on_event: OnEvent = ignore, **asked: Any) -> BenchRecord:
    return measure_plan(plan_bench(preset, name, **asked), on_event)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured: times are as `tests/timing/made_worker.py` says."""
    monkeypatch.setattr(bench, "start_worker", start_made_worker)
    monkeypatch.setattr(bench, "watch", lambda: ({}, 0.0))


@pytest.mark.usefixtures("made")
def test_it_returns_a_record_and_tells_every_measurement(capfd: pytest.CaptureFixture[str]) -> None:
    events: list[Event] = []
    record = run_bench(PRESET, "mine", device="cpu", on_event=events.append)
    assert (record.name, record.complete, [row.case.name for row in record.rows]) == ("mine", True, list(NAMES))
    said = "2 cases, each checked and then timed in 3 processes: about 17 s, longer on a busy machine"
    assert events[:2] == [Warned(said), Measuring(6, NAMES)]
    assert [(e.done, e.total) for e in events[2:] if isinstance(e, Measured)] == [(n, 6) for n in range(1, 7)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("made")
def test_a_profile_changes_nothing_that_is_timed_or_judged() -> None:
    def run(**asked: Any) -> BenchRecord:
        return run_bench(PRESET, "mine", device="cpu", aa=True, **asked)

    plain, profiled = run(), run(profile=True)
    assert [list(row.profiles) for row in profiled.rows] == [["case", "native", "copy"]] * 2
    assert profiled.gate == plain.gate
    assert [row.results for row in profiled.rows] == [row.results for row in plain.rows]


@pytest.mark.usefixtures("made")
def test_what_cannot_be_profiled_is_a_warning_and_stays_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(worker: MadeWorker, case: Case, settings: TimerSettings) -> None:
        raise CaseError(case.name, "it raised RuntimeError: no", "raised")

    monkeypatch.setattr(MadeWorker, "profile", fails)
    record = run_bench(PRESET, "mine", device="cpu", profile=True)
    assert record.failures == ()
    assert f"2 cases were not profiled, the first: {NAMES[0]}: it raised RuntimeError: no" in record.warnings
    assert [row.profiles for row in record.rows] == [{}, {}]


@pytest.mark.usefixtures("made")
def test_a_gate_tells_what_it_measures_again_and_why_no_baseline_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_norms_of_a_session.py").write_text("from torch import nn\n\nclass Slow(nn.BatchNorm1d): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(**asked: object) -> list[Event]:
        events: list[Event] = []
        kernels = ("slow_norms_of_a_session:Slow",)
        run_bench(PRESET, "mine", kernels=kernels, only=("Slow",), store=tmp_path, on_event=events.append, **asked)  # type: ignore[arg-type]
        return [event for event in events[1:] if not isinstance(event, Measured)]  # the first says how long

    (name,) = run(save_baseline="main")[0].cases  # type: ignore[union-attr]
    place = str(tmp_path / "baselines" / "main.json")
    assert run(save_baseline="main")[1:] == [BaselineSaved(place)]
    monkeypatch.setenv("TIMES", "1.1")
    assert run(save_baseline="main", baseline="main") == [
        Measuring(20, (name,)),
        Measuring(20, (name,), remeasurement=True),
        Warned("no baseline is saved: the gate found a regression; to accept it, save without a gate"),
    ]


@pytest.mark.usefixtures("made")
def test_an_error_in_the_middle_carries_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    error = BncliError("layer: the process that measured it was ended by SIGKILL")
    monkeypatch.setattr(MadeWorker, "measure", measures(3, then=error))
    with pytest.raises(BenchError) as caught:
        run_bench(PRESET, "mine", device="cpu")
    assert (str(caught.value), caught.value.error) == (str(error), error)
    assert (sum(len(row.results) for row in caught.value.record.rows), caught.value.record.complete) == (3, False)


@pytest.mark.usefixtures("made")
def test_an_error_before_the_first_measurement_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeWorker, "measure", measures(0, then=UndecidedError("nothing")))
    with pytest.raises(UndecidedError, match=r"^nothing$"):
        run_bench(PRESET, "mine", device="cpu")


def test_an_interruption_carries_what_was_measured_and_ends_only_its_own_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a listener, between two measurements of a real process, beside another child of ours."""
    workers: list[Worker] = []
    hello = Worker.__init__
    monkeypatch.setattr(Worker, "__init__", lambda self, *given: (workers.append(self), hello(self, *given))[-1])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def interrupt(event: Event) -> None:
        if isinstance(event, Measured):
            raise KeyboardInterrupt

    environment = dict(os.environ)
    try:
        with pytest.raises(BenchInterrupted, match=r"^interrupted after 1 measurements$") as caught:
            run_bench(PRESET, "mine", device="cpu", on_event=interrupt)
        assert [len(row.results) for row in caught.value.record.rows] == [1]
        assert len(workers) == 2  # one looked at the cases, one timed them
        assert all(worker._process.poll() is not None for worker in workers)
        assert child.poll() is None
        assert dict(os.environ) == environment
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        *(
            ({name: seconds}, f"--{flag}: must be > 0 and at most 604800 seconds (a week), got {seconds!r}")
            for name, flag in (("budget", "budget"), ("time_limit", "time-limit"))
            for seconds in (-1.0, 0.0, math.nan, math.inf, 1e300)
        ),
        (
            {"fail_if": ["ratio:+5%"]},
            "--fail-if ratio:+5%: compared with what? Add --baseline NAME, --against PYTHON, --vs KERNEL or --aa",
        ),
        ({"only": ["bacth"]}, "--only bacth: no case matches; nearest: batch"),
        (
            {"truth": "layer"},
            "--truth: is about kernels and plug-ins' norms, and none is timed; add --kernel FILE.py:NAME",
        ),
        ({"truth": "layr", "kernels": ["a:B"]}, "--truth: no norm is called 'layr'; did you mean 'layer'?"),
        (
            {"truth": "instance", "kernels": ["a:B"]},
            "--truth instance: norm 'instance' takes its statistics over locations, and N8C16 has none",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(asked: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_bench(PRESET, "mine", **asked)  # type: ignore[arg-type]
    assert str(caught.value).partition(" (known: ")[0] == said
