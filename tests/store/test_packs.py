"""Runs as lines of packs: any number of writers, whoever is killed; damage is found; maintenance reaches every line."""

import math
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bncli.errors import DamageError, StoreError
from bncli.files import digest_bytes
from bncli.records import Packed, Record, RunInfo, RunResult
from bncli.store.folder import Store
from bncli.store.lines import write_line
from bncli.store.maintenance import merge, verify
from bncli.store.prune import plan_pruning, prune
from bncli.store.studies import Studies
from tests.store.made_damage import ANYWHERE
from tests.store.made_store import DAY, NOW, add_run, add_study


def made(name: str, value: float = 0.5) -> RunResult:
    records = [Record("accuracy", step, value, "fraction") for step in (0, 5)]
    records += [Record("percentile_15", 5, -1 / 3, "activation", "hidden.0", "norm", "", 3)]
    records += [Record("parameter_norm", 5, math.inf, "L2", "weight")]
    return RunResult({"seed": 1, "named": name}, RunInfo(name, "done", 5, seconds={"training": 0.5}), tuple(records))


def plain(run: RunResult) -> RunResult:
    return RunResult(run.spec, run.info, tuple(run.records))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six runs in one pack."""
    store = Store(tmp_path / "store")
    store.prepare()
    for pair in ("ab", "cd", "ef"):
        assert store.append([made(name) for name in pair]) == {}
    return store


def the_pack(store: Store) -> Path:
    (file,) = store.packs.folder.iterdir()
    return file


def test_what_is_appended_is_read_as_it_was(store: Store) -> None:
    for reader in (store, Store(store.folder)):
        assert reader.run_ids() == [*"abcdef"]
        assert "a" in reader
        assert "x" not in reader
        assert plain(reader.read("d")) == made("d")
        found, damaged = reader.read_intact("fax")
        assert {name: plain(run) for name, run in found.items()} == {"f": made("f"), "a": made("a")}
        assert damaged == {}
    assert not any((store.folder / "runs").iterdir())


def test_runs_of_one_study_share_their_layout(store: Store) -> None:
    found, _ = store.read_intact("abc")
    assert len({id(run.records.layout) for run in found.values() if isinstance(run.records, Packed)}) == 1


def test_a_reader_sees_what_a_writer_has_appended_since(store: Store) -> None:
    reader = Store(store.folder)
    assert "g" not in reader
    store.append([made("g")])
    assert "g" in reader
    assert len([*store.packs.folder.iterdir()]) == 1


def test_every_process_and_store_has_a_pack_of_its_own(store: Store) -> None:
    other = Store(store.folder)
    other.append([made("a"), made("g")])
    store.append([made("h")])
    assert len([*store.packs.folder.iterdir()]) == 2
    assert Store(store.folder).run_ids() == [*"abcdefgh"]


def test_a_run_that_is_there_stays_as_it_is(store: Store) -> None:
    store.append([made("a", 0.25)])
    assert store.write(made("b", 0.25)) == ""
    add_run(store.folder, "g", 0.5)
    store.append([made("g", 0.25)])
    for name in "abg":
        assert Store(store.folder).read(name).curve("accuracy")[1][-1] == 0.5


def test_a_damaged_folder_in_the_place_of_a_run_is_set_aside(store: Store) -> None:
    (add_run(store.folder, "g") / "curves.npz").write_bytes(b"")
    said = store.append([made("g"), made("h")])["g"]
    assert "could not be read" in said
    assert "set-aside/runs-g" in said
    assert plain(store.read("g")).info == made("g").info


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    def write(first: int) -> None:
        store = Store(tmp_path)
        for i in range(first, first + 40):
            store.append([made(f"run{i}")])

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 20, 40)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert Store(tmp_path).run_ids() == sorted(f"run{i}" for i in range(80))
    assert [checked.problem for checked in verify(tmp_path) if checked.problem] == []


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_a_kill_cut_off_is_no_run_and_is_named(store: Store, cut: int) -> None:
    file = the_pack(store)
    file.write_bytes(file.read_bytes()[:-cut])
    reader = Store(store.folder)
    assert reader.run_ids() == [*"abcde"]  # it may still be being written
    assert reader.read_intact("f") == ({}, {})
    assert [checked.problem for checked in verify(store.folder) if checked.problem] == []
    os.utime(file, (1, 1))
    _, damaged = Store(store.folder).read_intact("f")
    remedy = "delete that line to train the run again"
    assert [*map(str, damaged.values())] == [
        f"{file}:6: cannot be read (it is cut off, as by a kill or a full disk); {remedy}"
    ]
    assert [checked.problem for checked in verify(store.folder) if checked.problem] == [*map(str, damaged.values())]


def test_a_killed_writer_loses_nothing_that_it_has_stored(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.store.test_packs import made\n"
        "from bncli.store.folder import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "store.append([made('a'), made('b')]); store.append([made('c')]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], check=False)
    assert Store(tmp_path).run_ids() == [*"abc"]


def test_a_full_disk_leaves_no_half_of_a_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write, before = os.write, the_pack(store).read_bytes()

    def fill(handle: int, content: bytes) -> int:
        if len(content) < 300:
            raise OSError(28, "No space left on device")
        return write(handle, content[:100])

    monkeypatch.setattr("bncli.store.packs.os.write", fill)
    with pytest.raises(StoreError, match=r"cannot write \(No space left on device\); runs stored before are intact"):
        store.append([made("g"), made("h")])
    monkeypatch.undo()
    assert the_pack(store).read_bytes() == before


def test_packs_are_synced_once_a_second_and_when_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, now = [], [100.0]
    monkeypatch.setattr("bncli.store.packs.os.fsync", synced.append)
    monkeypatch.setattr("bncli.store.packs.time.monotonic", lambda: now[0])
    writer = Store(store.folder)
    for name in "ghij":
        now[0] += 0.4
        writer.append([made(name)])
    before = len(synced)
    writer.packs.sync()
    writer.packs.sync()
    assert (before, len(synced)) == (1 + 2, 1 + 2 + 1)  # of the new name in the folder, of the first line and the last


def test_every_damaged_byte_is_found_and_costs_no_other_line(store: Store) -> None:
    file, rng = the_pack(store), random.Random(0)
    content = file.read_bytes()
    for _ in range(150):
        at = rng.choice([rng.randrange(len(content)), content.index(b"\tc\t") + 1])
        spoilt = bytearray(content)
        spoilt[at] ^= 1 << rng.randrange(8)
        file.write_bytes(spoilt)
        os.utime(file, (1, 1))
        found, damaged = Store(store.folder).read_intact("abcdef")
        lost = 2 if content[at] == ord("\n") and at < len(content) - 1 else 1
        assert (len(found), bool(damaged)) == (6 - lost, True)
        assert all(str(file) in str(error) for error in damaged.values())
        assert all(plain(run) == made(name) for name, run in found.items())
        assert any(checked.problem for checked in verify(store.folder))


@pytest.mark.parametrize("change", ANYWHERE)
def test_whatever_becomes_of_a_pack_is_named_and_its_other_runs_are_used(
    store: Store, change: Callable[[Path, random.Random], None], tmp_path: Path
) -> None:
    add_study(store.folder, "one", "a b c d e f")
    file, whole, rng = the_pack(store), tmp_path / "whole", random.Random(0)
    shutil.copytree(store.folder, whole)
    for _ in range(12):
        shutil.rmtree(store.folder)
        shutil.copytree(whole, store.folder)
        change(file, rng)
        if there := os.path.lexists(file):
            os.utime(file, (1, 1), follow_symlinks=False)
        reader = Store(store.folder)
        found, damaged = reader.read_intact("abcdef")
        assert all(plain(run) == made(name) for name, run in found.items())
        problems = [checked.problem for checked in verify(store.folder) if checked.problem]
        if lacking := sorted({*"abcdef"} - found.keys()):
            assert bool(damaged) == bool(problems) == (there and (not file.is_file() or file.stat().st_size > 0))
            reader.prepare()
            reader.append([made(name) for name in lacking])
            assert [checked.problem for checked in verify(store.folder) if checked.problem] == []
        again, _ = Store(store.folder).read_intact("abcdef")
        assert {name: plain(run) for name, run in again.items()} == {name: made(name) for name in "abcdef"}


def test_what_stands_in_the_place_of_a_pack_and_is_none_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(the_pack(store).read_bytes())
    (store.packs.folder / "link.runs").symlink_to(tmp_path / "elsewhere")
    (store.packs.folder / "pipe.runs").mkdir()
    (store.packs.folder / "notes.txt").touch()
    problems = [checked.problem for checked in verify(store.folder) if checked.problem]
    assert len(problems) == 3
    assert "it is a link, which is not followed); delete it to train its runs again" in problems[0]
    assert "notes.txt: not a pack of bncli" in problems[2]
    store = Store(store.folder)
    assert store.run_ids() == [*"abcdef"]
    store.prepare()
    assert {path.name for path in store.aside.iterdir()} == {"packs-link.runs", "packs-pipe.runs"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"info": RunInfo("b", "done", 5)}, "it is the record of run b"),
        ({"info": RunInfo("a", "done", 5, parameters=-1)}, "info has a step, parameters or bytes"),
        ({"spec": {"named": "a", "training": {"steps": 4}}}, "it is done at step 5 of 4"),
        ({"records": (Record("accuracy", 5, 1.5, "fraction"),)}, "accuracy at step 5 is 1.5"),
        ({"records": (Record("loss", 5, math.nan, "nats"),)}, "loss at step 5 is nan"),
        ({"records": (Record("loss", 6, 1.0, "nats"),)}, "it has 'loss' of step 6, of 5"),
        ({"records": (Record("loss", 5, 1.0, "nats"),) * 2}, "it has a number twice"),
        ({"records": (Record("loss", 5, 1.0, "\x1b[2J"),)}, "it has a name that cannot be printed"),
        ({"records": (Record("loss", 1.5, 1.0, "nats"),)}, "it has a step or an index that is no whole number"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_line_that_says_what_cannot_be_is_damaged_though_it_is_whole(tmp_path: Path, change: dict, why: str) -> None:  # type: ignore[type-arg]
    store = Store(tmp_path)
    run = made("a")
    spoilt = RunResult(**{"spec": run.spec, "info": run.info, "records": run.records, **change})
    raw = write_line(spoilt)
    store.packs.append_lines([("a", raw.replace(b"\tb\t", b"\ta\t"))])
    if "info" in change and change["info"].id == "b":
        digest = digest_bytes(raw.replace(b"\tb\t", b"\ta\t")[65:-1])
        the_pack(store).write_bytes(digest.encode() + raw.replace(b"\tb\t", b"\ta\t")[64:])
    _, damaged = Store(tmp_path).read_intact("a")
    assert why in damaged["a"].why


def test_what_is_damaged_moves_aside_before_training_and_the_run_is_stored_again(store: Store) -> None:
    file = the_pack(store)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\tc\t", b"\tC\t"))
    reader = Store(store.folder)
    _, damaged = reader.read_intact("abcdef")
    assert [error.why for error in damaged.values()] == ["it is not what was written"]
    reader.prepare()
    assert reader.run_ids() == [*"abdef"]
    reader.append([made("c")])
    assert {name: plain(run) for name, run in Store(store.folder).read_all("abcdef").items()} == {
        name: made(name) for name in "abcdef"
    }
    assert [path.read_bytes() for path in store.aside.iterdir()] == [content.replace(b"\tc\t", b"\tC\t")]
    assert [checked.problem for checked in verify(store.folder) if checked.problem] == []
    assert "c" in store
    store.append([made("g")])  # by the writer whose pack has gone
    assert Store(store.folder).run_ids() == [*"abcdefg"]


def test_a_pack_that_goes_while_it_is_appended_to_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def rewrite_first(handle: int, content: bytes) -> int:
        monkeypatch.undo()
        Store(store.folder).packs.rewrite(the_pack(store), {"a"})
        return write(handle, content)

    monkeypatch.setattr("bncli.store.packs.os.write", rewrite_first)
    store.append([made("g")])
    assert Store(store.folder).run_ids() == [*"bcdefg"]


def test_a_rewriting_that_is_interrupted_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bncli.store.packs.os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        store.packs.rewrite(the_pack(store), {"a"})
    assert Store(store.folder).run_ids() == [*"abcdef"]
    assert store.read("a").info.id == "a"


def test_a_line_of_a_newer_bncli_asks_for_an_update(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncli.store.lines.VERSION", 2)
    store.append([made("g")])
    monkeypatch.undo()
    with pytest.raises(StoreError, match="version 2, this bncli reads up to 1; update bncli") as raised:
        Store(store.folder).read_intact("abg")
    assert not isinstance(raised.value, DamageError)


def test_studies_know_the_runs_in_packs(store: Store) -> None:
    add_run(store.folder, "g")
    key = add_study(store.folder, "one", "a g x")
    assert Studies(store.folder).read(key).stored == {"a", "g"}


def test_verify_counts_every_line(store: Store) -> None:
    assert [checked.kind for checked in verify(store.folder)] == ["run"] * 6


def test_pruning_takes_runs_out_of_packs_and_never_what_a_kept_study_needs(store: Store) -> None:
    add_study(store.folder, "one", "a b c")
    add_study(store.folder, "two", "c d")
    pruning = plan_pruning(store.folder, studies=["one"])
    assert [removal.kind for removal in pruning.removals] == ["run", "run", "study"]
    assert pruning.spared == 1
    sizes = [len(line) for line in the_pack(store).read_bytes().splitlines(keepends=True)]
    assert [removal.size_byte for removal in pruning.removals][:2] == sizes[:2]
    assert [*prune(pruning)] == [*pruning.removals]
    assert Store(store.folder).run_ids() == [*"cdef"]
    with pytest.raises(StoreError, match=r"needs it; .* or delete .*\.runs:1 to train the run again"):
        plan_pruning(store.folder, runs=["c"])
    assert [removal.run for removal in prune(plan_pruning(store.folder, runs=["e"]))] == ["e"]
    assert "f" in store
    assert "e" not in Store(store.folder)


def test_age_counts_for_runs_in_packs(store: Store) -> None:
    run = plan_pruning(store.folder, older_than=DAY)
    assert run.removals == []
    assert len(plan_pruning(store.folder, older_than=DAY, now=NOW + 10_000 * DAY).removals) == 6


def test_a_pack_without_runs_goes(store: Store) -> None:
    [*prune(plan_pruning(store.folder, older_than=0))]
    assert [*store.packs.folder.iterdir()] == []


def test_stores_merge_whether_runs_are_in_packs_or_in_folders(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.prepare()
    for name in "ag":
        other.write(made(name))
    other.append([made("b"), made("c", 0.25), made("h")])
    before = store.packs.raw("a")
    outcomes = [(merged.kind, merged.outcome) for merged in merge(other.folder, store.folder)]
    assert sorted(outcomes) == [
        ("run", "added"), ("run", "added"), ("run", "refused"), ("run", "there"), ("run", "there"),
    ]  # fmt: skip
    assert {name: plain(run) for name, run in Store(store.folder).read_all("abcdefgh").items()} == {
        name: made(name) for name in "abcdefgh"
    }
    assert store.packs.raw("a") == before
    assert Store(store.folder).packs.raw("h") == other.packs.raw("h")
    assert [merged.outcome for merged in merge(store.folder, tmp_path / "third")] == ["added"] * 8
    assert Store(tmp_path / "third").run_ids() == [*"abcdefgh"]


def test_a_damaged_line_is_refused_by_a_merge(store: Store, tmp_path: Path) -> None:
    file = the_pack(store)
    file.write_bytes(file.read_bytes().replace(b"\tc\t", b"\tC\t"))
    problems = [merged.problem for merged in merge(store.folder, tmp_path / "into") if merged.outcome == "refused"]
    assert problems == [
        f"{file}:3: cannot be read (it is not what was written); delete that line to train the run again"
    ]
    assert Store(tmp_path / "into").run_ids() == [*"abdef"]


def test_a_copied_pack_is_merged(store: Store, tmp_path: Path) -> None:
    into = Store(tmp_path / "into")
    into.append([made("x")])
    (into.packs.folder / the_pack(store).name).write_bytes(the_pack(store).read_bytes())
    assert into.run_ids() == [*"abcdefx"]
