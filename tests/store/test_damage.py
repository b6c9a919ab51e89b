"""Whatever happens to the files of a store: one line each, the rest is used, and the lost is trained again as it was."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import bncli.store.folder
from bncli.api import train
from bncli.errors import BncliError, DamageError, StoreError
from bncli.executors.loop import Finished
from bncli.session.events import Event, Warned
from bncli.store.folder import Store
from bncli.store.maintenance import verify
from bncli.store.studies import Studies
from tests.store.made_damage import ANYWHERE, IN_A_RUN, bomb, sign
from tests.store.made_store import BASELINE, add_run, add_study

STUDY: dict[str, Any] = {
    "question": "is anything lost?",
    "data": {"name": "mnist", "binarize": 127},
    "model": {"name": "mlp", "hidden": [4], "init": {"normal": 0.1}},
    "training": {"steps": 4, "batch_size": 10, "lr": 0.5},
    "evaluation": {"every": 2, "split": "validation"},
    "variants": {"none": "none", "batch": "batch"},
    "reference": "none",
    "seeds": 3,
}


@dataclass(frozen=True)
class Trained:
    """What a command gave: every run's numbers, which were trained for it, and what it said."""

    numbers: dict[str, Any]
    trained: set[str]
    said: Sequence[str]


def run_study(folder: Path) -> Trained:
    trained, said = set[str](), list[str]()

    def take(event: Event) -> None:
        if isinstance(event, Finished):
            trained.update(result.info.id for result in event.results)
        if isinstance(event, Warned):
            said.append(event.text)

    found = train(STUDY, store=folder, device="cpu", engine="plain", executor="thread", on_event=take)
    numbers = {run.id: (run.result.info.status, sorted(run.result.records)) for run in found.runs if run.result}
    return Trained(numbers, trained, said)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store with six runs, their study, a baseline and a pack; and the numbers of the runs."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    found = run_study(folder)
    Store(folder).write_baseline("main", BASELINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bncli.store.folder, "PACKED_FROM", 2)
        Store(folder).read_all(found.numbers)
    assert not [checked for checked in verify(folder) if checked.problem]
    return folder, found.numbers


def damage(folder: Path, rng: random.Random, count: int) -> tuple[set[str], int]:
    """Harm about so many files, each in its own way; the runs that were harmed, and how many files."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    harmed, done = set[str](), 0
    for file in rng.sample(files, count):
        if harmed & set(file.parts):  # one harm a run
            continue
        inside, done = file.relative_to(folder).parts, done + 1
        before = file.read_bytes()
        if inside[0] == "runs" and rng.random() < 0.4:
            rng.choice(IN_A_RUN)(file.parent, rng)
            harmed.add(inside[1])
            continue
        rng.choice(ANYWHERE)(file, rng)
        if inside[0] == "runs" and not (file.is_file() and file.read_bytes() == before):
            harmed.add(inside[1])
    return harmed, done


def check_damaged(whole: tuple[Path, dict[str, Any]], folder: Path, seed: int, count: int) -> int:
    """Harm files of a copy of the store, and see that a command loses nothing."""
    rng = random.Random(seed)
    original, numbers = whole
    shutil.copytree(original, folder)
    harmed, done = damage(folder, rng, count)
    problems = [checked.problem for checked in verify(folder) if checked.problem]
    assert not [line for line in problems if "\n" in line or not line.isprintable()]
    for read in (Studies(folder).list, lambda: Store(folder).read_baseline("main")):
        with suppress(BncliError):
            read()
    found = run_study(folder)
    assert found.numbers == numbers, f"seed {seed}"
    assert found.trained == harmed, f"seed {seed}"
    named = {run for run in harmed for line in found.said if f"/runs/{run}: cannot be read (" in line}
    assert named == {run for run in harmed if f"{run}: " in "".join(found.said)}, f"seed {seed}"
    assert all(line.isprintable() for line in found.said)
    again = run_study(folder)
    assert (again.numbers, again.trained, again.said) == (numbers, set(), []), f"seed {seed}"
    assert not [c.problem for c in verify(folder) if c.problem and c.kind == "run"], f"seed {seed}"
    return done


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is synced to the disk, which takes longer than all else here."""
    monkeypatch.setattr("bncli.files.os.fsync", lambda handle: None)


@pytest.mark.parametrize(("seed", "packed_from"), [(0, 500), (1, 2), (2, 500)])
def test_of_a_damaged_store_everything_else_is_used_and_the_lost_is_trained_again_to_the_same_numbers(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, packed_from: int
) -> None:
    monkeypatch.setattr(bncli.store.folder, "PACKED_FROM", packed_from)
    check_damaged(whole, tmp_path / "store", seed, 8)


@pytest.mark.nightly
@pytest.mark.timeout(5000)
def test_two_thousand_damaged_files_cost_no_number(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmed, seed = 0, 1000
    while harmed < 2000:
        monkeypatch.setattr(bncli.store.folder, "PACKED_FROM", 2 if seed % 3 else 500)
        harmed += check_damaged(whole, tmp_path / "each" / "store", seed, 8)
        shutil.rmtree(tmp_path / "each")
        seed += 1


def test_what_stands_in_the_place_of_a_run_is_set_aside_and_named_and_no_lane_is_lost(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    original, numbers = whole
    folder = tmp_path / "store"
    shutil.copytree(original / "runs", folder / "runs")
    empty, copied, kept, *_ = sorted(numbers)
    for run in (empty, copied):
        shutil.rmtree(folder / "runs" / run)
        (folder / "runs" / run).mkdir()
    (folder / "runs" / copied / ".DS_Store").write_bytes(b"Bud1")
    found = run_study(folder)
    assert (found.numbers, found.trained) == (numbers, {empty, copied})
    assert found.said == [
        f"{folder}/runs/{run}: cannot be read (record.json is missing); the run is trained again, and what is there"
        f" moves to {folder}/set-aside"
        for run in (line.partition(": ")[0][-20:] for line in found.said)
    ]
    assert len(found.said) == 2
    assert (folder / "set-aside" / f"runs-{copied}" / ".DS_Store").read_bytes() == b"Bud1"
    assert (folder / "set-aside" / f"runs-{empty}").is_dir()
    assert kept in Store(folder)


def test_all_damage_is_named_before_anything_is_trained(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    original, numbers = whole
    folder = tmp_path / "store"
    shutil.copytree(original, folder)
    damaged = sorted(numbers)[:3]
    for run in damaged:
        (folder / "runs" / run / "curves.npz").write_bytes(b"")
    events = list[Event]()
    train(STUDY, store=folder, device="cpu", engine="plain", executor="thread", on_event=events.append)
    first = [type(event).__name__ for event in events[:4]]
    assert first == ["Warned", "Warned", "Warned", "Started"]
    assert [type(event).__name__ for event in events].count("Warned") == 3


def test_a_run_of_a_newer_bncli_is_no_damage_and_stops_the_study(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    original, numbers = whole
    folder = tmp_path / "store"
    shutil.copytree(original, folder)
    for run in sorted(numbers)[:2]:
        file = folder / "runs" / run / "record.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 99}))
        sign(file.parent)
    with pytest.raises(StoreError, match="schema 99, this bncli reads up to 2; update bncli") as raised:
        run_study(folder)
    assert str(raised.value).count("update bncli") == 2
    assert not (folder / "set-aside").exists()


def test_a_damaged_study_is_set_aside_and_remembered_anew(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    original, numbers = whole
    folder = tmp_path / "store"
    shutil.copytree(original, folder)
    (study,) = Studies(folder).list()
    place = folder / "studies" / study.id
    (place / "study.json").write_text('{"schema": 1, "question": NaN}')
    next((place / "plans").iterdir()).write_bytes(b"[")
    assert run_study(folder).numbers == numbers
    assert Studies(folder).list()[0].planned == study.planned
    assert len(list((folder / "set-aside").iterdir())) == 2


@pytest.mark.parametrize("to", [None, "/nowhere/at/all"], ids=["a file", "a link to nowhere"])
def test_what_stands_in_the_place_of_set_aside_moves_and_the_run_is_stored(to: str | None, tmp_path: Path) -> None:
    place, aside = add_run(tmp_path, "a"), tmp_path / "set-aside"
    result = Store(tmp_path).read("a")
    (place / "record.json").write_text("{")
    if to:
        aside.symlink_to(to)
    else:
        aside.write_text("mine")
    assert Store(tmp_path).write(result).endswith(f"it is in {aside / 'runs-a'} now, the run is stored")
    assert Store(tmp_path).read("a").info == result.info
    moved = tmp_path / "set-aside.2"
    assert str(moved.readlink()) == to if to else moved.read_text() == "mine"


@pytest.mark.parametrize("name", ["", "runs"])
def test_a_link_to_nowhere_in_the_place_of_a_store_is_said_before_training(name: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / name).parent.mkdir(exist_ok=True)
    (store / name).symlink_to("/nowhere/at/all")
    with pytest.raises(StoreError) as raised:
        Store(store).prepare()
    assert str(raised.value) == f"{store / 'runs'}: cannot write here (it is no folder); choose another --store"


SIGNED: dict[str, tuple[str, Any, str]] = {
    "a schema of 0": ("schema", 0, "not a record of bncli: schema 0"),
    "a negative schema": ("schema", -1, "not a record of bncli: schema -1"),
    "a schema that is false": ("schema", False, "not a record of bncli: schema False"),
    "no schema": ("schema", None, "not a record of bncli: schema None"),
    "another spec": ("spec", {"seed": 2}, "its spec is that of another run"),
    "no spec": ("spec", None, "its spec is that of another run"),
    "another run": ("info.id", "b", "it is the record of run b"),
    "a run that failed": ("info.status", "failed", "a run that is 'failed' is never stored"),
    "no seconds": ("info.seconds", None, "it does not say how the run ended, or how long it took"),
    "seconds of no number": ("info.seconds", {"training": "1"}, "info has seconds or a rate that are no number"),
    "a step of 401 digits": ("info.step", 10**400, "info has a step, parameters or bytes that are no whole number"),
    "memory of 401 digits": (
        "info.peak_memory",
        10**400,
        "info has a step, parameters or bytes that are no whole number",
    ),
    "a step below 0": ("info.step", -1, "info has a step, parameters or bytes that are no whole number"),
    "fallbacks of a text": ("info.fallbacks", "none", "info has something else where there must be a text"),
}


@pytest.mark.parametrize("what", SIGNED)
def test_a_record_that_says_what_cannot_be_is_one_line_whatever_its_digest(what: str, tmp_path: Path) -> None:
    key, value, why = SIGNED[what]
    place = add_run(tmp_path, "a")
    document = json.loads((place / "record.json").read_text())
    *outer, last = key.split(".")
    (document[outer[0]] if outer else document)[last] = value
    (place / "record.json").write_text(json.dumps(document))
    sign(place)
    with pytest.raises(DamageError) as raised:
        Store(tmp_path).read("a")
    assert str(raised.value) == f"{place}: cannot be read ({why}); delete that folder to train the run again"


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff", b'{"a": NaN}', b"[]"])
@pytest.mark.parametrize("name", ["runs/a/record.json", "studies/{study}/study.json", "baselines/main.json"])
def test_what_json_raises_is_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    add_run(tmp_path, "a")
    study = add_study(tmp_path, "x", "a")
    Store(tmp_path).write_baseline("main", BASELINE)
    (tmp_path / name.format(study=study)).write_bytes(content)
    (line,) = [checked.problem for checked in verify(tmp_path) if checked.problem]
    assert line.isprintable()
    assert " cannot be read (" in line


def test_an_archive_is_not_unpacked_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncli.store.arrays.ARRAYS_BYTES", 1_000_000)
    place = add_run(tmp_path, "a")
    whys = set()
    for seed in range(8):
        bomb(place, random.Random(seed))
        tracemalloc.start()
        with pytest.raises(DamageError) as raised:
            Store(tmp_path).read("a")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3_000_000
        whys.add(raised.value.why)
    assert whys == {"unpacked it has more than the 1,000,000 bytes that are read", "an array is not as long as it says"}


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    place = add_run(tmp_path, "a")
    with (place / "record.json").open("r+b") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(
        DamageError, match=r"\(record.json has 16,777,217 bytes, more than the 16,777,216 that are read\)"
    ):
        Store(tmp_path).read("a")


def test_a_digest_names_no_file_beyond_the_folder(tmp_path: Path) -> None:
    place = add_run(tmp_path, "a")
    document = json.loads((place / "record.json").read_text())
    document["files"]["../../secret"] = "0"
    (place / "record.json").write_text(json.dumps(document))
    with pytest.raises(DamageError, match=r"record\.json is not what was written"):
        Store(tmp_path).read("a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
@pytest.mark.parametrize("name", ["runs/a/record.json", "runs/a/curves.npz", "studies/{study}/study.json", "copies/x.runs",
                                  "baselines/main.json", "runs/a", "studies/{study}/plans/x.json"])  # fmt: skip
@pytest.mark.parametrize("what", ["pipe", "/dev/zero", "/etc/passwd", "nowhere", "folder"])
def test_what_is_no_file_is_one_line_and_not_waited_for(name: str, what: str, tmp_path: Path) -> None:
    add_run(tmp_path, "a")
    study = add_study(tmp_path, "x", "a")
    Store(tmp_path).write_baseline("main", BASELINE)
    file = tmp_path / name.format(study=study)
    if file.is_dir():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    file.parent.mkdir(exist_ok=True)
    if what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    else:
        file.symlink_to(what)
    lines = [checked.problem for checked in verify(tmp_path) if checked.problem]
    assert [
        line for line in lines if line.startswith(str(file).removesuffix("/record.json").removesuffix("/curves.npz"))
    ]
    assert len(lines) == 1


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    add_run(tmp_path, "a")
    long = "x" * 300
    assert long not in Store(tmp_path)
    with pytest.raises(DamageError, match="File name too long"):
        Store(tmp_path).read(long)
    with pytest.raises(StoreError, match="there is no store of bncli"):
        list(verify_or_raise(tmp_path / long))
    with pytest.raises(StoreError, match=r"cannot write here \(File name too long\)"):
        Store(tmp_path / long).prepare()


def verify_or_raise(folder: Path) -> list[object]:
    from bncli.store.folder import require_store

    require_store(folder)
    return list(verify(folder))


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_run(tmp_path, "a")
    add_run(tmp_path, "b")
    true_stat = Path.stat

    def refuse(path: Path, **how: bool) -> os.stat_result:
        if path.parent.name == "a":
            raise PermissionError(13, "Permission denied")  # root is refused nothing
        return true_stat(path, **how)

    monkeypatch.setattr(Path, "stat", refuse)
    found, damaged = Store(tmp_path).read_intact(["a", "b", "never"])
    assert list(found) == ["b"]
    assert [str(error) for error in damaged.values()] == [
        f"{tmp_path}/runs/a: cannot be read (Permission denied); delete that folder to train the run again"
    ]


WRITER = """
import os, sys
from contextlib import suppress
from pathlib import Path
from tests.store.made_store import BASELINE
from tests.store.test_damage import STUDY, run_study
from bncli.store.folder import Store
from bncli.store import folder
import torch
torch.set_num_threads(1)
folder.PACKED_FROM = 2
place = Path(sys.argv[1])
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    for run in Store(place).run_ids()[:2]:
        with suppress(OSError):  # the other command has just set it aside
            (place / "runs" / run / "record.json").write_text("{")
    run_study(place)
    Store(place).write_baseline("main", BASELINE)
"""


def start_writer(folder: Path, rounds: int) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    known = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", WRITER, str(folder), str(rounds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=known, cwd=root)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_a_command_killed_at_any_moment_leaves_a_store_that_can_be_read(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, rng = tmp_path / "store", random.Random(0)
    for _ in range(40):
        process = start_writer(folder, 1000)
        time.sleep(rng.uniform(0, 3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        lines = [checked.problem for checked in verify(folder) if checked.problem]
        assert not [line for line in lines if "/runs/" not in line], "only those that the script itself damages"
        found = run_study(folder)
        assert found.numbers == whole[1]
        assert not [checked.problem for checked in verify(folder) if checked.problem]


@pytest.mark.nightly
@pytest.mark.timeout(1000)
def test_two_commands_on_one_damaged_store_at_once_both_end_well(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    shutil.copytree(whole[0], folder)
    crew = [start_writer(folder, 15) for _ in range(2)]
    for process in crew:
        process.communicate()
    assert [process.returncode for process in crew] == [0, 0]
    assert run_study(folder).numbers == whole[1]
    assert not [checked.problem for checked in verify(folder) if checked.problem]
