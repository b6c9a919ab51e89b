"""Stages of many runs: stored in packs while they are trained, by any number of commands."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bncli.config import Study
from bncli.executors.loop import Finished, Progress, WorkerDied
from bncli.plan import seconds_of
from bncli.session.events import Warned
from bncli.session.status import StatusNotes
from bncli.session.study import Session, open_session
from bncli.session.training import train
from bncli.store.folder import Store
from bncli.store.status import CommandStatus, StudyStatus, read_notes, summarise_studies
from tests.executors.elsewhere import NoWork, make_up, open_thread

Tiny = Callable[..., Study]


@pytest.fixture
def opened(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    """Opens a study of 12 runs in 6 jobs, which is many here."""
    monkeypatch.setattr("bncli.session.training.PACKED_FROM", 4)

    def open_one(executor: Any, store: str = "store") -> Session:
        study = tiny(variants={"none": "none", "batch": "batch"}, seeds=2, sweep={"training.lr": [0.1, 0.2, 0.3]})
        return open_session(study, device="cpu", engine="plain", executor=executor, store=tmp_path / store)

    return open_one


def folders(store: Store) -> list[str]:
    return [path.name for path in (store.folder / "runs").iterdir()]


def test_many_runs_are_stored_in_one_pack_and_read_as_they_were(opened: Callable[..., Session]) -> None:
    session, results = train(opened(NoWork()))
    assert (len(results), len([*session.store.packs.folder.iterdir()]), folders(session.store)) == (12, 1, [])
    again, read = train(opened(executor := NoWork()))
    assert executor.trained == []
    for run in session.runs:
        expected = make_up(run)
        for found in (results[run.id], read[run.id]):
            assert (found.info, found.curve("loss"), found.curve("accuracy")) == (
                expected.info, expected.curve("loss"), expected.curve("accuracy"),
            )  # fmt: skip
    assert Store(again.store.folder).run_ids() == sorted(run.id for run in session.runs)


def test_what_is_trained_and_packed_is_what_is_trained_and_stored_in_folders(
    opened: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, packed = train(opened(open_thread))
    monkeypatch.setattr("bncli.session.training.PACKED_FROM", 500)
    session, stored = train(opened(open_thread, "other"))
    assert len(folders(session.store)) == 12
    assert {key: sorted(map(repr, run.records)) for key, run in packed.items()} == {
        key: sorted(map(repr, run.records)) for key, run in stored.items()
    }


def test_an_interrupted_study_trains_only_what_its_packs_lack(
    opened: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    def interrupt(event: Any) -> None:
        ended.extend([event] if isinstance(event, Finished) else [])
        if len(ended) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(opened(NoWork()), interrupt)
    session, results = train(opened(executor := NoWork()))
    assert (len(executor.trained), len(results)) == (7, 12)
    assert len([*session.store.packs.folder.iterdir()]) == 2
    train(opened(executor := NoWork()))
    assert executor.trained == []


def test_two_commands_that_train_the_same_runs_at_once_both_succeed(opened: Callable[..., Session]) -> None:
    others: list[int] = []

    def meanwhile(event: Any) -> None:
        if isinstance(event, Finished) and not others:
            others.append(0)
            others[0] = len(train(opened(NoWork()))[1])

    session, results = train(opened(NoWork()), meanwhile)
    assert (others, len(results)) == ([12], 12)
    assert Store(session.store.folder).run_ids() == sorted(run.id for run in session.runs)


def test_failed_runs_are_in_no_pack_and_are_trained_again(opened: Callable[..., Session]) -> None:
    def fails(job: Any) -> bool:
        return bool(job.runs[0].variant == "batch")

    session, results = train(opened(NoWork(fails)))
    assert sorted(run.info.status for run in results.values()) == ["done"] * 6 + ["failed"] * 6
    assert len(session.store.run_ids()) == 6
    train(opened(executor := NoWork()))
    assert len(executor.trained) == 6


def test_what_is_damaged_in_a_pack_is_said_moved_aside_and_trained_again(opened: Callable[..., Session]) -> None:
    session, _ = train(opened(NoWork()))
    (file,) = session.store.packs.folder.iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3]) + lines[3][:-9] + b"\n" + b"".join(lines[4:]))
    said: list[Any] = []
    session, results = train(opened(executor := NoWork()), said.append)
    assert [event.text for event in said if isinstance(event, Warned)] == [
        f"{file}:4: cannot be read (it is not what was written); the run is trained again, and what is there moves to"
        f" {session.store.aside}"
    ]
    assert (len(executor.trained), len(results)) == (1, 12)
    assert len(Store(session.store.folder).run_ids()) == 12
    said.clear()
    train(opened(executor), said.append)
    assert [event for event in said if isinstance(event, Warned)] == []


def test_a_stage_notes_in_the_store_how_far_it_is_until_it_ends(
    opened: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bncli.session.status.EVERY_SECONDS", 0)
    seen: list[StudyStatus] = []

    def look(event: Any) -> None:
        if isinstance(event, Finished):
            ((study,), _) = summarise_studies(session.store.folder, time.time())
            seen.append(study)

    session = opened(NoWork(lambda job: bool(job.runs[0].seed == 1)))
    train(session, look)
    assert [(s.runs, s.done + s.failed + s.in_flight + s.waiting) for s in seen] == [(12, 12)] * 12
    assert [s.done for s in seen] == sorted(s.done for s in seen)
    assert (seen[-1].done, max(s.failed for s in seen) > 0, max(s.in_flight for s in seen) > 0) == (6, True, True)
    assert all(len(s.commands) == 1 and not s.commands[0].silent(time.time()) for s in seen)
    assert "failed (made to fail)" in "".join(s.said for s in seen)
    assert [*(session.store.folder / "status").iterdir()] == []


def test_an_interrupted_stage_leaves_no_note(opened: Callable[..., Session]) -> None:
    def interrupt(event: Any) -> None:
        if isinstance(event, Finished):
            raise KeyboardInterrupt

    session = opened(NoWork())
    with pytest.raises(KeyboardInterrupt):
        train(session, interrupt)
    assert [*(session.store.folder / "status").iterdir()] == []


def test_a_store_that_takes_no_notes_loses_no_runs(opened: Callable[..., Session]) -> None:
    session = opened(NoWork())
    session.store.folder.mkdir()
    (session.store.folder / "status").touch()
    assert len(train(session)[1]) == 12


def test_notes_are_taken_every_few_seconds_with_the_time_left_by_what_is_done(opened: Callable[..., Session]) -> None:
    session, now = opened(NoWork()), [1000.0]
    session.store.prepare()
    expected = session.expected_seconds(session.jobs)

    def noted() -> CommandStatus:
        (status,) = read_notes(session.store.folder, now[0])
        return status

    with StatusNotes(session, session.jobs, lambda: now[0]) as notes:
        notes.note()
        assert (noted().time, noted().seconds_left, noted().runs) == (1000.0, expected, 12)
        first, *_ = session.jobs
        notes.hand_over(first)
        now[0] += 4
        notes.note()
        assert (noted().time, noted().in_flight) == (1000.0, 0)
        now[0] += 2
        notes.take(Progress(first, first.runs[0].steps // 2, {"accuracy": 0.5}))
        notes.note()
        assert (noted().time, noted().in_flight) == (1006.0, 1)
        share = seconds_of(first) / 2 / sum(map(seconds_of, session.jobs))
        assert noted().seconds_left == pytest.approx(6 * (1 - share) / share)
        notes.take(WorkerDied((first,)))
        now[0] += 5
        notes.note()
        assert (noted().in_flight, noted().said) == (0, "a worker process died; what it trained is trained again")
