"""Everything is read once, and what is damaged is said in one line with the way out."""

import json
import random
import shutil
from pathlib import Path

import pytest

from bncli.files import with_digest
from bncli.store.folder import Store
from bncli.store.maintenance import verify
from bncli.store.studies import Studies
from tests.store.made_store import BASELINE, add_checkpoint, add_run, add_study, content


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for run in ("a", "b"):
        add_run(tmp_path, run)
    add_study(tmp_path, "x", "a b", look=True)
    add_checkpoint(tmp_path, "job")
    Store(tmp_path).write_baseline("main", BASELINE)
    return tmp_path


def problems(folder: Path) -> list[str]:
    return [checked.problem for checked in verify(folder) if checked.problem]


def flip(file: Path, at: int) -> None:
    damaged = bytearray(file.read_bytes())
    damaged[at] ^= 1
    file.write_bytes(damaged)


def test_a_good_store_is_read_whole(store: Path) -> None:
    add_run(store / "sources" / "abc", "c")
    found = list(verify(store))
    assert [checked.kind for checked in found] == ["run", "run", "study", "baseline", "checkpoint", "run"]
    assert problems(store) == []


def test_records_from_before_digests_are_good(store: Path) -> None:
    for run in ("a", "b"):
        place = store / "runs" / run / "record.json"
        document = json.loads(place.read_text())
        assert document.pop("digest")
        assert document.pop("files").keys() == {"curves.npz"}
        place.write_text(json.dumps(document))
    assert problems(store) == []


@pytest.mark.parametrize("name", ["record.json", "curves.npz"])
def test_a_flipped_bit_anywhere_in_a_run_is_found(name: str, store: Path) -> None:
    file = store / "runs" / "a" / name
    whole = file.read_bytes()
    for at in range(0, len(whole), 3):
        flip(file, at)
        found = problems(store)
        assert len(found) == 1
        assert all(line.startswith(f"{store}/runs/a: cannot be read (") for line in found)
        assert all(line.endswith("; delete that folder to train the run again") for line in found)
        file.write_bytes(whole)


def test_a_flipped_bit_anywhere_in_a_study_is_found_with_its_file(store: Path) -> None:
    for name, whole in content(store / "studies").items():
        file = store / "studies" / name
        for at in random.Random(1).sample(range(len(whole)), 40):
            flip(file, at)
            (line,) = problems(store)
            assert line.startswith(f"{file}: cannot be read (")
            file.write_bytes(whole)


@pytest.mark.parametrize("keep_digests", [True, False])
def test_a_truncated_archive_is_found_with_and_without_digests(keep_digests: bool, store: Path) -> None:
    file = store / "runs" / "a" / "curves.npz"
    whole = file.read_bytes()
    if not keep_digests:
        record = file.with_name("record.json")
        document = json.loads(record.read_text())
        record.write_text(json.dumps({key: document[key] for key in ("schema", "spec", "info")}))
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        (line,) = problems(store)
        assert line.startswith(f"{store}/runs/a: cannot be read (")


def test_bits_flipped_in_an_archive_without_digests_never_end_the_reading(store: Path) -> None:
    record, file = store / "runs" / "a" / "record.json", store / "runs" / "a" / "curves.npz"
    document = json.loads(record.read_text())
    record.write_text(json.dumps({key: document[key] for key in ("schema", "spec", "info")}))
    whole = file.read_bytes()
    for at in range(0, len(whole), 7):
        flip(file, at)
        assert len(problems(store)) <= 1
        file.write_bytes(whole)


def test_a_missing_archive_is_found(store: Path) -> None:
    (store / "runs" / "a" / "curves.npz").unlink()
    assert problems(store) == [
        f"{store}/runs/a: cannot be read (curves.npz is missing); delete that folder to train the run again"
    ]


@pytest.mark.parametrize(
    ("place", "what"),
    [("runs/notes.txt", "a run"), ("runs/a/notes.txt", "a file"), ("studies/notes.txt", "a study"),
     ("baselines/notes.txt", "a baseline")],
)  # fmt: skip
def test_a_foreign_file_is_said_and_not_to_be_trained_again(place: str, what: str, store: Path) -> None:
    (store / place).write_text("mine")
    assert problems(store) == [f"{store}/{place}: not {what} of bncli; move it elsewhere or delete it"]


def test_a_run_of_a_newer_bncli_is_not_called_damaged(store: Path) -> None:
    place = store / "runs" / "a" / "record.json"
    document = {key: value for key, value in json.loads(place.read_text()).items() if key != "digest"}
    place.write_text(json.dumps(with_digest({**document, "schema": 99})))
    (line,) = problems(store)
    assert line.startswith(f"{store}/runs/a: schema 99, this bncli reads up to ")
    assert line.endswith("; update bncli")


def test_a_record_under_another_name_is_found(store: Path) -> None:
    (store / "runs" / "a").rename(store / "runs" / "z")
    (line,) = problems(store)
    assert "it is the record of run a" in line


def test_damaged_baselines_and_checkpoints_are_found(store: Path) -> None:
    (store / "baselines" / "main.json").write_text("[")
    (file,) = (store / "checkpoints" / "job").iterdir()
    file.write_bytes(b"cut")
    baseline, checkpoint = problems(store)
    assert baseline.startswith(f"{store}/baselines/main.json: cannot be read (")
    why = "it is not what was written"
    assert checkpoint == f"{file}: a damaged checkpoint ({why}); delete it: training goes on from the one before"


def test_what_is_being_written_is_left_alone(store: Path) -> None:
    (store / "runs" / ".writing-1").mkdir()
    (store / "studies" / ".writing-2").write_text("half")
    assert problems(store) == []


def put(place: Path, what: str) -> None:
    """A file, or a link to nowhere or to itself, in the place of a folder."""
    if place.exists():
        shutil.rmtree(place)
    if what == "a file":
        place.write_text("x")
    else:
        place.symlink_to("/nowhere/at/all" if what == "a link to nowhere" else place.name)


@pytest.mark.parametrize("name", ["runs", "studies", "baselines", "checkpoints", "sources", "set-aside", "copies"])
@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("a file", "Not a directory"),
        ("a link to nowhere", "a link to nowhere"),
        ("a link to itself", "Too many levels of symbolic links"),
    ],
)
def test_what_stands_in_the_place_of_a_folder_is_named_and_the_rest_is_read(
    name: str, what: str, why: str, store: Path
) -> None:
    put(store / name, what)
    assert problems(store) == [f"{store / name}: cannot be read ({why}); mend that, or choose another --store"]
    assert len(list(verify(store))) >= 4


def test_looks_that_cannot_be_read_are_named_and_the_rest_is_read(store: Path) -> None:
    study = Studies(store).ids()[0]
    put(store / "studies" / study / "looks", "a file")
    assert problems(store)[0].startswith(f"{store / 'studies' / study / 'looks'}: cannot be read (Not a directory)")
    assert [checked.kind for checked in verify(store)][-2:] == ["baseline", "checkpoint"]
