"""Many runs in one file: the same runs, never stale, never trusted."""

import dataclasses
import math
import os
import shutil
from pathlib import Path

import pytest

import bncli.store.folder
from bncli.records import Packed, Record, RunInfo, RunResult
from bncli.store.folder import Store
from bncli.store.pack import Pack, load_pack


def made(name: str, final: float = 0.9, steps: tuple[int, ...] = (0, 100)) -> RunResult:
    records = [Record("accuracy", step, final, "fraction") for step in steps]
    records += [Record("parameter_norm", step, 1.0, "L2", "layers.0.weight") for step in steps]
    return RunResult({"seed": 1, "named": name}, RunInfo(name, "done", 100, seconds={"training": 0.5}), tuple(records))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(bncli.store.folder, "PACKED_FROM", 2)
    store = Store(tmp_path)
    store.prepare()
    for name in ("a", "b", "c"):
        store.write(made(name, steps=(0, 50, 100) if name == "c" else (0, 100)))
    return store


def plain(run: RunResult) -> RunResult:
    return dataclasses.replace(run, records=tuple(run.records))


def test_a_pack_holds_what_was_packed() -> None:
    runs = {
        "a": made("a"),
        "b": made("b", math.nan),
        "c": made("c", steps=(0,)),
        "d": RunResult({}, RunInfo("d", "diverged", 3)),
    }
    back = load_pack(Pack(runs, dict.fromkeys(runs, 7)).dump())
    assert back.made == dict.fromkeys(runs, 7)
    for name in ("a", "c", "d"):
        assert plain(back.runs[name]) == runs[name]
        assert back.runs[name].curve("accuracy") == runs[name].curve("accuracy")
        assert back.runs[name].curve("accuracy", "nowhere") == ([], [])
    assert math.isnan(back.runs["b"].curve("accuracy")[1][0])


def test_runs_that_measured_at_the_same_steps_share_their_layout() -> None:
    back = load_pack(Pack({"a": made("a"), "b": made("b")}, {"a": 0, "b": 0}).dump())
    layouts = {id(run.records.layout) for run in back.runs.values() if isinstance(run.records, Packed)}
    assert len(layouts) == 1


def test_a_second_reading_comes_from_the_pack_and_is_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.read_all("abc")
    monkeypatch.setattr(Store, "read", lambda self, run_id: pytest.fail("read one by one"))
    assert {name: plain(run) for name, run in store.read_all("abc").items()} == first


def test_a_run_that_was_made_anew_is_read_anew(store: Store) -> None:
    store.read_all("abc")
    place = store.folder / "runs" / "b"
    shutil.rmtree(place)
    store.write(made("b", 0.5))
    os.utime(place, ns=(1, 1))
    assert store.read_all("abc")["b"].curve("accuracy")[1] == [0.5, 0.5]


def test_a_run_that_is_gone_is_not_answered_from_the_pack(store: Store) -> None:
    store.read_all("abc")
    shutil.rmtree(store.folder / "runs" / "b")
    with pytest.raises(bncli.store.folder.StoreError, match="b: cannot be read"):
        store.read_all("abc")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_a_damaged_pack_is_made_anew(store: Store, content: bytes) -> None:
    store.read_all("abc")
    (store.folder / "pack.npz").write_bytes(content)
    assert store.read_all("abc").keys() == {"a", "b", "c"}
    assert load_pack((store.folder / "pack.npz").read_bytes()).runs.keys() == {"a", "b", "c"}


def test_few_runs_need_no_pack(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    store.write(made("a"))
    store.read_all(["a"])
    assert not (tmp_path / "pack.npz").exists()
