"""A store remembers what was asked of it, which runs answer it, and when somebody looked."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bncli.config import Study
from bncli.errors import StoreError
from bncli.files import with_digest
from bncli.records import RunInfo, RunResult
from bncli.store.folder import Store
from bncli.store.studies import Look, Studies, study_id

Tiny = Callable[..., Study]
LOOK = Look("quickstart", (0, 1), "cpu", 4, 3, 1, "batch: better", "2026-03-02T14:05:01Z")


@pytest.fixture
def study(tiny: Tiny) -> dict[str, Any]:
    return tiny(seeds=2).model_dump(mode="json")


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return Studies(tmp_path / "store")


def store_run(folder: Path, run: str) -> None:
    store = Store(folder)
    store.prepare()
    store.write(RunResult({}, RunInfo(run, "done", 5)))


def test_more_seeds_other_words_and_other_sources_are_the_same_study(tiny: Tiny) -> None:
    claim = {"measure": "steps_to_target", "of": "batch", "versus": "none", "ratio": {"below": 1}}
    first = tiny(claims=[{**claim, "source": "a paper"}]).model_dump(mode="json")
    again = tiny(claims=[{**claim, "source": "another"}], seeds=10, question="in other words?").model_dump(mode="json")
    assert study_id(again) == study_id(first)


@pytest.mark.parametrize(
    "change",
    [{"training": {"steps": 31, "batch_size": 40, "lr": 0.5}}, {"reference": "batch"}, {"measures": ["final_accuracy"]},
     {"variants": {"none": "none", "batch": "layer"}}, {"sweep": {"training.lr": [0.1, 1]}},
     {"claims": [{"measure": "final_accuracy", "of": "batch", "level": {"above": 0.5}, "source": "x"}]}],
)  # fmt: skip
def test_another_question_is_another_study(change: dict[str, Any], tiny: Tiny) -> None:
    assert study_id(tiny(**change).model_dump(mode="json")) != study_id(tiny().model_dump(mode="json"))


def test_a_key_added_later_and_left_empty_keeps_the_id(study: dict[str, Any]) -> None:
    training = {**study["training"], "added": None, "more": {"inner": []}}
    assert study_id({**study, "design": None, "tags": [], "training": training}) == study_id(study)
    assert study_id({**study, "design": {"looks": 3}}) != study_id(study)
    assert study_id({**study, "design": 0}) != study_id(study)


def test_the_id_is_the_one_that_it_was() -> None:
    plain = {
        "question": "?",
        "seeds": [0],
        "training": {"lr": 0.5, "schedule": None},
        "variants": {"a": {}, "b": "zca"},
    }
    assert study_id(plain) == "7307b6a7ddb5ea6456e9"


def test_a_study_is_read_back_as_it_was_remembered(studies: Studies, study: dict[str, Any]) -> None:
    key = studies.remember("quickstart", study, ["a", "b"], ["j"])
    studies.add_look(key, LOOK)
    (found,) = studies.list()
    assert (found.id, found.name, found.question, found.study) == (key, "quickstart", study["question"], study)
    assert (found.planned, found.seeds, found.looks) == ({"a", "b"}, {0, 1}, [LOOK])
    assert [plan.jobs for plan in found.plans] == [("j",)]


def test_more_seeds_are_another_plan_of_the_same_study(studies: Studies, study: dict[str, Any]) -> None:
    for seeds, runs in ([0, 1], "ab"), ([0, 1, 2], "abc"), ([0, 1], "ab"):
        studies.remember("quickstart", {**study, "seeds": seeds}, list(runs))
    (found,) = studies.list()
    assert len(found.plans) == 2
    assert (found.planned, found.seeds) == ({"a", "b", "c"}, {0, 1, 2})


def test_a_study_knows_how_much_of_it_is_stored(studies: Studies, study: dict[str, Any]) -> None:
    studies.remember("quickstart", study, ["a", "b"])
    store_run(studies.folder, "b")
    store_run(studies.folder, "of another study")
    assert studies.list()[0].stored == {"b"}


def test_looks_are_kept_in_the_order_of_time_and_the_last_names_the_study(
    studies: Studies, study: dict[str, Any]
) -> None:
    key = studies.remember("old", study, ["a"])
    late, early = (
        Look(name, (0,), "cpu", 1, 1, time=f"2026-0{month}-01T00:00:00Z") for name, month in (("new", 4), ("old", 3))
    )
    for look in (late, early, early):
        studies.add_look(key, look)
    found = studies.read(key)
    assert found.looks == [early, late]
    assert (found.name, found.names) == ("new", {"old", "new"})


def test_a_look_is_dated_now_in_utc() -> None:
    assert abs(Look("x", (), "cpu", 0, 0).seconds - time.time()) < 5


def test_a_study_asked_again_is_young_again(studies: Studies, study: dict[str, Any]) -> None:
    key = studies.remember("x", study, ["a"])
    (plan,) = (studies.folder / "studies" / key / "plans").iterdir()
    os.utime(plan, (1, 1))
    assert studies.read(key).asked == 1
    studies.remember("x", study, ["a"])
    assert studies.read(key).asked > 1e9


def test_folders_of_studies_merge_by_copying(tmp_path: Path, study: dict[str, Any]) -> None:
    one, other = Studies(tmp_path / "one"), Studies(tmp_path / "other")
    for studies, name, seeds, runs in (one, "x", [0], ["a"]), (other, "y", [0, 1], ["a", "b"]):
        key = studies.remember(name, {**study, "seeds": seeds}, runs)
        studies.add_look(key, Look(name, tuple(seeds), "cpu", len(runs), len(runs)))
    shutil.copytree(one.folder, other.folder, dirs_exist_ok=True)
    found = other.read(key)
    assert (found.planned, len(found.looks), found.names) == ({"a", "b"}, 2, {"x", "y"})


WRITER = """
import sys
from pathlib import Path
from bncli.store.studies import Look, Studies
studies, who = Studies(Path(sys.argv[1])), sys.argv[2]
for i in range(40):
    study = {"training": {"steps": i}, "seeds": [0]}
    key = studies.remember("both", study, [f"run{i}"])
    studies.add_look(key, Look("both", (0,), who, 1, 1))
"""


def test_two_processes_remember_the_same_studies_at_once(studies: Studies) -> None:
    crew = [subprocess.Popen([sys.executable, "-c", WRITER, str(studies.folder), who]) for who in ("cpu", "cuda")]
    assert [process.wait() for process in crew] == [0, 0]
    found = studies.list()
    assert len(found) == 40
    assert all(len(each.plans) == 1 and {look.device for look in each.looks} == {"cpu", "cuda"} for each in found)
    assert not list(studies.folder.rglob(".writing-*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from bncli.store import studies
from bncli import files
count = 0
def fsync(handle):
    global count
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
files.os.fsync = fsync
studies.Studies(Path(sys.argv[1])).remember("x", {"seeds": [0], "a": 1}, ["a"])
print("done")
"""


def test_a_writer_killed_at_any_moment_leaves_studies_that_can_be_read(tmp_path: Path) -> None:
    ends = []
    for moment in range(1, 12):
        studies = Studies(tmp_path / str(moment))
        done = subprocess.run([sys.executable, "-c", KILLED, str(studies.folder), str(moment)], capture_output=True)
        ends.append(done.stdout)
        studies.list()
        studies.remember("x", {"seeds": [0], "a": 1}, ["a"])
        assert [each.planned for each in studies.list()] == [{"a"}]
    assert b"" in ends
    assert b"done\n" in ends


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "id"', b"[]", b'{"model": "another tool"}'])
@pytest.mark.parametrize("file", ["study.json", "plans", "looks"])
def test_a_damaged_file_is_said_with_the_way_out(
    file: str, content: bytes, studies: Studies, study: dict[str, Any]
) -> None:
    key = studies.remember("x", study, ["a"])
    studies.add_look(key, LOOK)
    place = studies.folder / "studies" / key / file
    place = place if place.is_file() else next(place.iterdir())
    place.write_bytes(content)
    remedy = "that look is then forgotten" if file == "looks" else "the study's next command writes it anew"
    with pytest.raises(StoreError, match=rf"{place.name}: cannot be read \(.*\); delete it: {remedy}$"):
        studies.list()
    place.unlink()
    studies.remember("x", study, ["a"])
    assert studies.list()[0].planned == {"a"}


def test_a_changed_character_is_seen(studies: Studies, study: dict[str, Any]) -> None:
    key = studies.remember("x", study, ["abc"])
    (plan,) = (studies.folder / "studies" / key / "plans").iterdir()
    plan.write_text(plan.read_text().replace("abc", "abd"))
    with pytest.raises(StoreError, match="it is not what was written"):
        studies.read(key)


def test_a_plan_cannot_name_a_run_elsewhere(studies: Studies, study: dict[str, Any]) -> None:
    key = studies.remember("x", study, ["../../home"])
    with pytest.raises(StoreError, match=r"'../../home' is no run's id"):
        studies.read(key)


def test_a_newer_schema_is_refused(studies: Studies, study: dict[str, Any]) -> None:
    key = studies.remember("x", study, ["a"])
    path = studies.folder / "studies" / key / "study.json"
    document = {key: value for key, value in json.loads(path.read_text()).items() if key != "digest"}
    path.write_text(json.dumps(with_digest(document | {"schema": 2})))
    with pytest.raises(StoreError, match=r"schema 2, this bncli reads up to 1; update bncli$"):
        studies.list()


def test_a_store_without_studies_has_none(studies: Studies) -> None:
    assert studies.list() == []


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, study: dict[str, Any]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        StoreError, match=r"cannot write \(Not a directory\); free the space or choose another --store$"
    ):
        Studies(tmp_path / "file").remember("x", study, [])
