"""Stages of many runs: stored in packs while they are trained, by any number of commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bncli.config import Study
from bncli.executors.loop import Finished
from bncli.session.events import Warned
from bncli.session.study import Session, open_session
from bncli.session.training import train
from bncli.store.folder import Store
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
