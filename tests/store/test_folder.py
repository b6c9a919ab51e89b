"""Results are written once, whole, and read back as they were."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bncli.errors import ConfigError, StoreError
from bncli.files import with_digest
from bncli.records import Record, RunInfo, RunResult
from bncli.store import folder as store_module
from bncli.store.folder import SCHEMA, Store


def result(run_id: str = "abc", accuracy: float = 0.5) -> RunResult:
    records = (Record("accuracy", 0, 0.1, "fraction"), Record("parameter_norm", 5, accuracy, "L2", "hidden.0.weight"))
    info = RunInfo(
        run_id, "done", 5, engine="plain", parameters=3, seconds={"training": 0.5}, environment={"torch": "x"}
    )
    return RunResult({"seed": 1, "training": {"steps": 5}, "named": run_id}, info, records)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store")
    found.prepare()
    return found


def test_a_run_is_read_back_as_it_was_written(store: Store) -> None:
    store.write(result())
    assert store.read("abc") == result()


def test_a_run_without_records_is_read_back_too(store: Store) -> None:
    empty = RunResult({"named": "e"}, RunInfo("e", "diverged", 1, "the training loss is not finite"))
    store.write(empty)
    assert store.read("e") == empty


def test_a_stored_run_is_never_changed(store: Store) -> None:
    store.write(result())
    store.write(result(accuracy=0.9))
    assert store.read("abc") == result()


def test_nothing_is_left_beside_the_runs(store: Store) -> None:
    store.write(result())
    assert [path.name for path in (store.folder / "runs").iterdir()] == ["abc"]


def test_checkpoints_lie_beside_the_runs_and_go_with_their_job(store: Store) -> None:
    for job in ("a", "b"):
        store.checkpoints(job).mkdir(parents=True)
        (store.checkpoints(job) / "1.pt").write_text("")
    store.drop_checkpoints("a")
    store.drop_checkpoints("never made")
    assert [path.name for path in (store.folder / "checkpoints").iterdir()] == ["b"]


def test_folders_merge_by_copying(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.prepare()
    other.write(result("def"))
    (other.folder / "runs" / "def").rename(store.folder / "runs" / "def")
    assert "def" in store
    assert store.read("def") == result("def")


@pytest.mark.parametrize(
    ("file", "content"),
    [("record.json", b""), ("record.json", b'{"schema": 1, "info"'), ("record.json", b'{"model": "another tool"}'),
     ("record.json", b'{"schema": 1, "spec": {}, "info": {"unknown": 1}}'), ("curves.npz", b"PK\x03\x04 cut"),
     ("curves.npz", b"")],
)  # fmt: skip
def test_a_corrupt_or_foreign_record_is_said_with_the_way_out(store: Store, file: str, content: bytes) -> None:
    store.write(result())
    (store.folder / "runs" / "abc" / file).write_bytes(content)
    with pytest.raises(StoreError, match=r"abc: cannot be read \(.*\); delete that folder to train the run again$"):
        store.read("abc")


def test_a_missing_curve_file_is_said(store: Store) -> None:
    store.write(result())
    (store.folder / "runs" / "abc" / "curves.npz").unlink()
    with pytest.raises(StoreError, match="delete that folder"):
        store.read("abc")


def test_a_record_under_another_runs_name_is_said(store: Store) -> None:
    store.write(result())
    (store.folder / "runs" / "abc").rename(store.folder / "runs" / "xyz")
    with pytest.raises(StoreError, match="it is the record of run abc"):
        store.read("xyz")


def test_a_newer_schema_is_refused(store: Store) -> None:
    store.write(result())
    path = store.folder / "runs" / "abc" / "record.json"
    document = {key: value for key, value in json.loads(path.read_text()).items() if key != "digest"}
    path.write_text(json.dumps(with_digest(document | {"schema": SCHEMA + 1})))
    with pytest.raises(StoreError, match=f"schema {SCHEMA + 1}, this bncli reads up to {SCHEMA}; update bncli$"):
        store.read("abc")


def test_an_older_schema_is_migrated_at_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(result())
    monkeypatch.setattr(store_module, "SCHEMA", SCHEMA + 1)
    monkeypatch.setitem(
        store_module.MIGRATIONS, SCHEMA, lambda old: old | {"spec": old["spec"] | {"added": "by migration"}}
    )
    assert store.read("abc").spec["added"] == "by migration"


def test_a_place_that_cannot_be_written_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write here \(Not a directory\); choose another --store$"):
        Store(tmp_path / "file").prepare()


FULL_DISK = """
import resource, sys
from pathlib import Path
from bncli.records import Record, RunInfo, RunResult
from bncli.store.folder import Store
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
many = tuple(Record("accuracy", i, (i * 0.7310585) % 1, "fraction") for i in range(5000))
store.write(RunResult({}, RunInfo("big", "done", 1), many))
"""


def test_a_full_disk_leaves_what_was_stored_intact(store: Store) -> None:
    store.write(result())
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(store.folder)], capture_output=True, text=True)
    assert "cannot write (File too large); runs stored before are intact" in done.stderr
    assert [path.name for path in (store.folder / "runs").iterdir()] == ["abc"]
    assert store.read("abc") == result()


WRITER = """
import os, signal, sys
from pathlib import Path
from bncli import files
import bncli.store.pack
from bncli.records import Record, RunInfo, RunResult
from bncli.store.folder import Store
bncli.store.pack.run_id = lambda spec: spec["named"]
store, moment, count = Store(Path(sys.argv[1])), int(sys.argv[2]), 0
def fsync(handle):
    global count
    count += 1
    if count == moment:
        os.kill(os.getpid(), signal.SIGKILL)
files.os.fsync = fsync
for i in range(50 if moment == 0 else 1):
    records = (Record("accuracy", 5, i / 50, "fraction"),)
    store.write(RunResult({"named": f"run{i}"}, RunInfo(f"run{i}", "done", 5, seconds={"training": float(os.getpid())}), records))
print("done")
"""


def test_two_processes_write_the_same_runs_at_once(store: Store) -> None:
    crew = [subprocess.Popen([sys.executable, "-c", WRITER, str(store.folder), "0"]) for _ in range(2)]
    assert [process.wait() for process in crew] == [0, 0]
    assert len(store.run_ids()) == 50
    pids = {process.pid for process in crew}
    for i in range(50):
        found = store.read(f"run{i}")
        assert [record.value for record in found.records] == [i / 50]
        assert found.info.seconds["training"] in pids
    assert len(list((store.folder / "runs").iterdir())) == 50


def test_a_writer_killed_at_any_moment_leaves_a_whole_run_or_none(tmp_path: Path) -> None:
    ends = []
    for moment in range(1, 9):
        store = Store(tmp_path / str(moment))
        store.prepare()
        command = [sys.executable, "-c", WRITER, str(store.folder), str(moment)]
        ends.append((subprocess.run(command, capture_output=True).returncode, len(store.run_ids())))
        assert [store.read(run).info.id for run in store.run_ids()] == ["run0"] * len(store.run_ids())
        subprocess.run([*command[:-1], "99"], check=True, capture_output=True)
        assert store.run_ids() == ["run0"]
    assert {(-9, 0), (0, 1)} <= set(ends) <= {(-9, 0), (-9, 1), (0, 1)}


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (5, "folder: expected a path, got 5"),
        (None, "folder: expected a path, got None"),
        ("", "folder: is empty; expected a path (is a variable not set?)"),
    ],
)
def test_a_store_of_what_is_no_path_is_one_line(folder: object, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Store(folder)  # type: ignore[arg-type]
    assert str(raised.value) == message


def test_a_store_takes_a_path_as_a_text(tmp_path: Path) -> None:
    assert list(Store(str(tmp_path)).run_ids()) == []
