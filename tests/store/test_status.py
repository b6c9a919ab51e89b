"""How far studies are, from the store alone: what commands have noted, however they ended."""

from dataclasses import asdict
from pathlib import Path

import pytest

from bncli.store.maintenance import verify
from bncli.store.prune import plan_pruning
from bncli.store.status import CommandStatus, StudyStatus, forget_status, note_status, summarise_studies
from bncli.store.studies import Look, Studies
from tests.store.made_store import DAY, NOW, add_run, add_study, content


def note(folder: Path, study: str, pid: int = 7, ago: float = 2, **what: object) -> CommandStatus:
    """Note how far a command of this machine is, some seconds before NOW."""
    fields = {"name": "one", "runs": 8, "started": NOW - 900, "time": NOW - ago, "host": "here", "pid": pid, **what}
    status = CommandStatus(study, **fields)  # type: ignore[arg-type]
    note_status(folder, status)
    return status


def only(folder: Path) -> StudyStatus:
    ((study,), problems) = summarise_studies(folder, NOW)
    assert problems == []
    return study


@pytest.fixture
def study(tmp_path: Path) -> str:
    """A study of ten runs, two of them stored."""
    for run in "ab":
        add_run(tmp_path, run)
    return add_study(tmp_path, "one", "a b c d e f g h i j")


def counts(study: StudyStatus) -> tuple[int, ...]:
    return study.runs, study.done, study.in_flight, study.failed, study.waiting


def test_a_study_that_nobody_trains_has_runs_that_are_stored_and_runs_that_wait(tmp_path: Path, study: str) -> None:
    found = only(tmp_path)
    assert counts(found) == (10, 2, 0, 0, 8)
    assert (found.seconds_left, found.commands, found.said) == (None, [], "")


def test_failed_runs_are_those_of_the_last_look(tmp_path: Path, study: str) -> None:
    Studies(tmp_path).add_look(study, Look("one", (0,), "cpu", 10, 2, failed=3))
    assert counts(only(tmp_path)) == (10, 2, 0, 3, 5)


def test_what_a_command_noted_is_added_to_what_is_stored(tmp_path: Path, study: str) -> None:
    status = note(tmp_path, study, in_flight=3, failed=1, seconds_left=62.0, said="batch seed 1: done")
    found = only(tmp_path)
    assert counts(found) == (10, 2, 3, 1, 4)
    assert (found.seconds_left, found.said, found.commands) == (60.0, "batch seed 1: done", [status])
    forget_status(tmp_path, status)
    assert only(tmp_path).commands == []


def test_several_commands_count_together_and_the_last_to_end_says_when(tmp_path: Path, study: str) -> None:
    note(tmp_path, study, pid=1, in_flight=3, failed=1, seconds_left=60.0, said="older", ago=10)
    note(tmp_path, study, pid=2, in_flight=2, failed=1, seconds_left=600.0, said="newer", ago=0)
    found = only(tmp_path)
    assert counts(found) == (10, 2, 5, 1, 2)
    assert (found.seconds_left, found.said, len(found.commands)) == (600.0, "newer", 2)
    note(tmp_path, study, pid=2, in_flight=20, failed=2)
    assert counts(only(tmp_path)) == (10, 2, 6, 2, 0)


def test_a_killed_command_is_silent_and_nothing_of_it_is_in_flight(tmp_path: Path, study: str) -> None:
    status = note(tmp_path, study, in_flight=3, ago=700)
    found = only(tmp_path)
    assert counts(found) == (10, 2, 0, 0, 8)
    assert (found.commands, status.silent(NOW)) == ([status], True)


def test_a_killed_command_is_forgotten_when_another_has_taken_over_or_after_a_day(tmp_path: Path, study: str) -> None:
    note(tmp_path, study, pid=1, ago=700)
    taking = note(tmp_path, study, pid=2, ago=1, started=NOW - 100)
    assert only(tmp_path).commands == [taking]
    forget_status(tmp_path, taking)
    note(tmp_path, study, pid=1, ago=2 * DAY)
    assert only(tmp_path).commands == []


def test_a_study_that_is_not_yet_planned_in_the_store_is_told_by_its_command(tmp_path: Path) -> None:
    note(tmp_path, "0123", name="young", in_flight=2)
    found = only(tmp_path)
    assert (found.name, counts(found)) == ("young", (8, 0, 2, 0, 6))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "nested"])
def test_a_damaged_note_is_passed_over(tmp_path: Path, study: str, text: str) -> None:
    note(tmp_path, study)
    (place,) = (tmp_path / "status").iterdir()
    place.write_text(place.read_text().replace('"runs": 8', '"runs": 9') if text == "nested" else text)
    assert only(tmp_path).commands == []


def test_a_damaged_study_is_named_and_the_others_are_told(tmp_path: Path, study: str) -> None:
    other = add_study(tmp_path, "two", "x y")
    (tmp_path / "studies" / study / "study.json").write_text("{")
    studies, problems = summarise_studies(tmp_path, NOW)
    assert [each.id for each in studies] == [other]
    assert "study.json: cannot be read" in str(problems[0])


def test_asking_writes_nothing_and_notes_are_no_damage(tmp_path: Path, study: str) -> None:
    note(tmp_path, study)
    before = content(tmp_path)
    summarise_studies(tmp_path, NOW)
    assert content(tmp_path) == before
    assert [checked.problem for checked in verify(tmp_path) if checked.problem] == []


def test_notes_of_killed_commands_are_pruned_once_a_day_old(tmp_path: Path, study: str) -> None:
    note(tmp_path, study)
    later = [removal.kind for removal in plan_pruning(tmp_path, studies=["one"], now=NOW + 10 * DAY).removals]
    assert later == ["run", "run", "study", "unfinished"]


def test_a_note_holds_numbers_and_no_paths(tmp_path: Path, study: str) -> None:
    assert sorted(asdict(note(tmp_path, study))) == [
        "done", "failed", "host", "in_flight", "name", "pid", "runs", "said", "seconds_left", "started", "study", "time",
    ]  # fmt: skip
