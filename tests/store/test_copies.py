"""Many runs that have folders, read from few files: the same runs, never stale, never trusted."""

import dataclasses
import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bncli.store.folder
from bncli.records import CurveKey, Packed, Record, RunInfo, RunResult
from bncli.store.folder import Store
from bncli.store.maintenance import verify
from bncli.store.pack import read_curves, read_packed
from tests.store.made_damage import ANYWHERE, IN_A_RUN, spoil_a_signed_field
from tests.store.made_store import add_run

CHANGES = tuple(change for change in IN_A_RUN if change is not spoil_a_signed_field)  # these runs have no recipe


def made(name: str, final: float = 0.9, steps: tuple[int, ...] = (0, 100)) -> RunResult:
    records = [Record("accuracy", step, final, "fraction") for step in steps]
    records += [Record("parameter_norm", step, math.inf, "L2", "layers.0.weight", index=3) for step in steps[::-1]]
    return RunResult({"seed": 1, "named": name}, RunInfo(name, "done", 100, seconds={"training": 0.5}), tuple(records))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Three runs, in a store of many."""
    monkeypatch.setattr(bncli.store.folder, "PACKED_FROM", 1)
    store = Store(tmp_path / "store")
    store.prepare()
    for name in ("a", "b", "c"):
        store.write(made(name, steps=(0, 50, 100) if name == "c" else (0, 100)))
    return store


def plain(run: RunResult) -> RunResult:
    return dataclasses.replace(run, records=tuple(sorted(run.records, key=repr)))


def read_plain(store: Store) -> dict[str, RunResult]:
    found, damaged = store.read_intact("abc")
    assert damaged == {}
    return {name: plain(run) for name, run in found.items()}


def one_by_one(store: Store) -> dict[str, RunResult]:
    return {name: plain(store.read_folder(name)) for name in "abc"}


def test_what_is_stored_is_copied_and_the_first_reading_opens_no_folder(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = one_by_one(store)
    assert [checked.kind for checked in verify(store.folder)].count("copies file") == 1
    monkeypatch.setattr(Store, "_read_folder", lambda self, run_id, read: pytest.fail("read from its folder"))
    found = Store(store.folder).read_all("abc")
    assert {name: plain(run) for name, run in found.items()} == whole
    assert [[*run.spec] for run in found.values()] == [["seed", "named"]] * 3, "keys in their order"


def test_runs_of_one_study_share_their_layout_and_environment(store: Store) -> None:
    for folder in ("copies", "nowhere"):
        shutil.rmtree(store.folder / folder, ignore_errors=True)
        found, _ = store.read_intact("ab")
        assert len({id(run.records.layout) for run in found.values() if isinstance(run.records, Packed)}) == 1
        assert {curve.curve("accuracy", "nowhere") == ([], []) for curve in found.values()} == {True}


def test_every_command_appends_to_a_file_of_its_own(store: Store) -> None:
    others = [Store(store.folder), Store(store.folder)]
    for i, name in enumerate("defg"):
        others[i % 2].write(made(name))
    assert len(store.copies.files()) == 3
    assert Store(store.folder).copies.read(store.copies.stamps("abcdefg")).keys() == {*"abcdefg"}


def test_a_run_that_was_made_anew_is_read_anew(store: Store) -> None:
    place = store.folder / "runs" / "b"
    shutil.rmtree(place)
    store.write(made("b", 0.5))
    assert store.read_all("abc")["b"].curve("accuracy")[1] == [0.5, 0.5]
    os.utime(place, ns=(1, 1))
    assert store.read_all("abc")["b"].curve("accuracy")[1] == [0.5, 0.5]


def test_a_run_that_is_gone_is_not_answered_from_its_copy(store: Store) -> None:
    shutil.rmtree(store.folder / "runs" / "b")
    with pytest.raises(bncli.store.folder.StoreError, match="b: cannot be read"):
        store.read_all("abc")
    (store.folder / "runs" / "b").mkdir()
    assert store.read_intact("abc")[1].keys() == {"b"}


def test_a_file_with_a_damaged_line_goes_when_it_is_read(store: Store) -> None:
    (file,) = store.copies.files()
    file.write_bytes(file.read_bytes() + b"damaged\n")
    whole = one_by_one(store)
    assert [checked.problem for checked in verify(store.folder) if checked.kind == "copies file"] != [""]
    assert read_plain(Store(store.folder)) == whole
    assert not file.exists()
    assert [checked.problem for checked in verify(store.folder) if checked.problem] == []


def test_a_link_in_the_place_of_copies_is_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.rmtree(store.copies.folder)
    store.copies.folder.symlink_to(tmp_path / "other")
    Store(store.folder).write(made("d"))
    assert read_plain(Store(store.folder)) == one_by_one(store)
    assert [*(tmp_path / "other").iterdir()] == []


@pytest.mark.parametrize("change", [*ANYWHERE, *CHANGES])
def test_a_changed_folder_is_read_and_its_damage_found_as_without_copies(
    change: Callable[[Path, random.Random], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("store", "plain/store"):
        one = Store(tmp_path / folder)
        for name in "abc":
            add_run(one.folder, name, age_days=1, metric="loss" if name == "c" else "accuracy")
    seen = []
    for folder, many in (("store", 1), ("plain/store", 500)):
        monkeypatch.setattr(bncli.store.folder, "PACKED_FROM", many)
        one = Store(tmp_path / folder)
        one.read_intact("abc")
        assert bool(one.copies.files()) == (many == 1)
        place = one.folder / "runs" / "b"
        change(place if change in CHANGES else place / "curves.npz", random.Random(3))
        found, damaged = one.read_intact("abc")
        seen.append((sorted(found), {key: error.why for key, error in damaged.items()}, plain(found["a"])))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("change", ANYWHERE)
def test_a_damaged_file_of_copies_is_done_without(store: Store, change: Callable[[Path, random.Random], None]) -> None:
    whole, (file,) = one_by_one(store), store.copies.files()
    content = file.read_bytes()
    for seed in range(8):
        change(file, random.Random(seed))
        assert read_plain(store) == whole
        assert read_plain(Store(store.folder)) == whole
        shutil.rmtree(store.folder / "copies")
        store.folder.joinpath("copies").mkdir()
        file.write_bytes(content)


def test_a_line_that_a_kill_cut_off_costs_no_other_and_is_no_damage(store: Store) -> None:
    (file,) = store.copies.files()
    first, second, third = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second + third[:-30])
    assert store.copies.read(store.copies.stamps("abc")).keys() == {"a", "b"}
    assert [checked.problem for checked in verify(store.folder) if checked.problem] == []


def test_a_damaged_line_is_named_with_the_way_out(store: Store) -> None:
    (file,) = store.copies.files()
    file.write_bytes(file.read_bytes().replace(b"\tb\t", b"\tB\t"))
    remedy = "delete it: it holds copies, made anew when needed"
    problems = [checked.problem for checked in verify(store.folder) if checked.problem]
    assert problems == [f"{file}: cannot be read (line 2 is not what was written); {remedy}"]


def test_a_store_copied_with_its_times_is_read_from_its_copies(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.folder, tmp_path / "other")  # as `cp -a` does, and `rsync -a`
    assert Store(tmp_path / "other").copies.read(store.copies.stamps("abc")).keys() == {*"abc"}


def test_copies_of_a_store_copied_without_its_times_are_made_anew_and_the_old_go(store: Store, tmp_path: Path) -> None:
    other, whole = Store(tmp_path / "other"), one_by_one(store)
    shutil.copytree(store.folder, other.folder, copy_function=shutil.copyfile)
    for place in (other.folder / "runs").iterdir():
        os.utime(place, ns=(1, 1))
    old = other.copies.files()
    assert read_plain(other) == whole
    assert len(other.copies.files()) == 1
    assert other.copies.files() != old
    assert other.copies.read(other.copies.stamps("abc")).keys() == {*"abc"}


@pytest.mark.parametrize("standing", ["a file", "a folder that may not be written"])
def test_where_copies_cannot_be_written_runs_are_stored_and_read(
    standing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bncli.store.folder, "PACKED_FROM", 1)
    store = Store(tmp_path)
    store.prepare()
    if standing == "a file":
        (tmp_path / "copies").write_text("mine")
    else:
        monkeypatch.setattr(store.copies._lines, "_open_own", lambda: (_ for _ in ()).throw(PermissionError(13, "no")))
    for name in "abc":
        assert store.write(made(name)) == ""
    assert read_plain(store) == one_by_one(store)


def test_few_runs_need_no_copies(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    store.write(made("a"))
    store.read_all(["a"])
    assert not (tmp_path / "copies").exists()


def test_copies_are_never_synced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = store.copies.stamps("abc")
    monkeypatch.setattr(os, "fsync", lambda handle: pytest.fail("synced"))
    store.copies.add([(store.read_folder("a"), stamps["a"])])


def test_curves_are_read_as_columns_as_they_are_one_by_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        content = (store.folder / "runs" / name / "curves.npz").read_bytes()
        records = read_curves(content, 2)
        with monkeypatch.context() as patched:
            patched.setattr("bncli.store.pack.read_curves", lambda content, schema: pytest.fail("one by one"))
            packed = read_packed(content, 2)
        assert sorted(packed, key=repr) == sorted(records, key=repr)
        assert packed.curve(CurveKey("accuracy")) == RunResult({}, made(name).info, records).curve("accuracy")


@pytest.mark.parametrize("columns", ["shorter", "shape", "type"])
def test_columns_that_no_run_has_are_refused_as_one_by_one(store: Store, columns: str, tmp_path: Path) -> None:
    with np.load(store.folder / "runs" / "a" / "curves.npz") as found:
        arrays = {name: found[name] for name in found.files}
    changes = {"shorter": lambda c: c[:-1], "shape": lambda c: c.reshape(1, -1), "type": lambda c: c.astype(str)}
    arrays["value"] = changes[columns](arrays["value"])
    np.savez_compressed(tmp_path / "curves.npz", **arrays)
    said = []
    for read in (read_packed, read_curves):
        with pytest.raises(ValueError, match=r"\w") as raised:
            read((tmp_path / "curves.npz").read_bytes(), 2)
        said.append(str(raised.value))
    assert said[0] == said[1]


def test_a_flipped_bit_in_columns_is_refused_or_changes_no_number(store: Store) -> None:
    content = (store.folder / "runs" / "c" / "curves.npz").read_bytes()
    whole, refused = [*read_packed(content, 2)], 0
    for at in range(0, len(content), 5):
        spoilt = bytearray(content)
        spoilt[at] ^= 1 << at % 8
        try:
            assert [*read_packed(bytes(spoilt), 2)] == whole
        except AssertionError:
            raise
        except Exception:  # whatever comes of a file that is none
            refused += 1
    assert refused > len(content) / 5 / 3
