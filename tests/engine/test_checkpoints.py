"""A job that was killed goes on from its last checkpoint, to the same numbers bit for bit."""

import hashlib
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bncli.config import Study
from bncli.engine.batches import Batches
from bncli.engine.state import Checkpoints
from bncli.engine.train import Sign, train
from bncli.plan import CHECKPOINT_SECONDS, Job, checkpoint_steps, runs_of, seconds_of

Tiny = Callable[..., Study]


class Killed(BaseException):
    """Stands for a signal: nothing in the engine catches it."""


def job_of(tiny: Tiny, norm: str = "batch", lanes: int = 3, **training: Any) -> Job:
    recipe = {"steps": 30, "batch_size": 40, "lr": 0.1, **training}
    study = tiny(variants={"it": norm}, reference="it", training=recipe, seeds=3)
    return Job(tuple(runs_of(study, "cpu")[:lanes]))


def train_until(job: Job, last: int, folder: Path, every: int) -> None:
    def report(sign: Sign) -> None:
        if sign.step == last:
            raise Killed

    with pytest.raises(Killed):
        train(job, report, folder, every)


def resumed(job: Job, folder: Path, every: int) -> tuple[list[Any], list[Sign]]:
    signs: list[Sign] = []
    return [r.records for r in train(job, signs.append, folder, every)], signs


MOMENTUM = {"name": "sgd", "momentum": 0.9}


@pytest.mark.parametrize(
    ("norm", "lanes", "optimizer"),
    [("batch", 3, MOMENTUM), ("batch", 1, "adam"), ("zca", 3, "adam"), ("zca", 1, MOMENTUM),
     ("noisy-batch", 1, "sgd"), ("noisy-batch", 3, "adamw"), ("renorm", 3, "sgd"), ("weight", 1, "adam")],
)  # fmt: skip
def test_a_killed_job_goes_on_to_the_same_numbers_bit_for_bit(
    tiny: Tiny, tmp_path: Path, norm: str, lanes: int, optimizer: Any
) -> None:
    job = job_of(tiny, norm, lanes, optimizer=optimizer)
    expected = [r.records for r in train(job)]
    train_until(job, 20, tmp_path, every=7)  # killed at 20 with checkpoints of 7 and 14: between two evaluations
    torch.manual_seed(123)
    found, signs = resumed(job, tmp_path, every=7)
    assert found == expected
    assert [sign.step for sign in signs] == [20, 30]


def test_a_job_that_goes_on_has_spent_what_it_spent_before_and_no_less_than_nothing(tiny: Tiny, tmp_path: Path) -> None:
    job = job_of(tiny)
    train_until(job, 20, tmp_path, every=7)
    before = torch.load(max(tmp_path.iterdir()), weights_only=True)["seconds"]
    seconds = {
        kind: 3 * spent for kind, spent in train(job, checkpoints=tmp_path, save_every=7)[0].info.seconds.items()
    }
    for kind, spent in before.items():
        assert seconds[kind] >= spent * (1 - 1e-9), kind


def test_checkpoints_change_no_number(tiny: Tiny, tmp_path: Path) -> None:
    job = job_of(tiny)
    assert [r.records for r in train(job, checkpoints=tmp_path, save_every=4)] == [r.records for r in train(job)]


def test_a_lane_that_has_diverged_stays_diverged(tiny: Tiny, tmp_path: Path) -> None:
    model = {"name": "mlp", "hidden": [16, 16], "activation": "relu"}
    study = tiny(variants={"none": "none"}, model=model, sweep={"training.lr": [0.1, 1e12]}, seeds=1)
    job = Job(tuple(runs_of(study, "cpu")))
    expected = train(job)
    train_until(job, 20, tmp_path, every=15)
    found = train(job, lambda sign: None, tmp_path, 15)
    assert [r.records for r in found] == [r.records for r in expected]
    ends = [[(r.info.status, r.info.step, r.info.layer) for r in each] for each in (found, expected)]
    assert ends[0] == ends[1]
    assert found[1].info.status == "diverged"


def test_two_checkpoints_are_kept_and_load_without_running_code(tiny: Tiny, tmp_path: Path) -> None:
    train(job_of(tiny), checkpoints=tmp_path, save_every=5)
    files = sorted(tmp_path.iterdir())
    assert [int(file.name.split("-")[0]) for file in files] == [20, 25]
    state = torch.load(files[-1], weights_only=True)
    assert state["step"] == 25
    assert state["parameters"]["readout.weight"].shape == (3, 10, 16)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign"])
def test_a_damaged_checkpoint_is_passed_over_with_one_note(tiny: Tiny, tmp_path: Path, damage: str) -> None:
    job = job_of(tiny)
    expected = [r.records for r in train(job)]
    train_until(job, 20, tmp_path, every=7)
    newest = max(tmp_path.iterdir())
    content = newest.read_bytes()
    half = len(content) // 2
    newest.write_bytes({
        "cut": content[:half], "empty": b"", "foreign": b"not a checkpoint",
        "flipped": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
    }[damage])  # fmt: skip
    found, signs = resumed(job, tmp_path, every=7)
    assert found == expected
    assert [sign.step for sign in signs] == [10, 20, 30]
    assert signs[-1].notes == (
        f"{newest}: checkpoint not used (its content is damaged) and set aside; training continues from the one before it",
    )
    assert not newest.exists()
    assert [path.name for path in (tmp_path / "set-aside").iterdir()] == [f"{tmp_path.name}-{newest.name}"]


def test_with_no_intact_checkpoint_training_starts_again(tiny: Tiny, tmp_path: Path) -> None:
    job = job_of(tiny)
    train_until(job, 20, tmp_path, every=7)
    for file in tmp_path.iterdir():
        file.write_bytes(b"")
    found, signs = resumed(job, tmp_path, every=7)
    assert found == [r.records for r in train(job)]
    assert signs[0].step == 0
    assert len(signs[0].notes) == 2
    assert signs[0].notes[-1].endswith("and set aside; training starts again")
    assert train(job, checkpoints=tmp_path, save_every=100)  # and is not looked at again
    assert resumed(job, tmp_path, every=100)[1][-1].notes == ()


@pytest.mark.parametrize("key", ["schema", "job", "bncli", "torch", "code"])
def test_a_checkpoint_of_another_job_version_or_code_is_not_used(tmp_path: Path, key: str) -> None:
    other = Checkpoints(tmp_path, "this")
    other._origin[key] = "another"
    other.save(5, {"step": 5})
    mine = Checkpoints(tmp_path, "this")
    assert not mine.resume(lambda state: pytest.fail("it was used"))
    (note,) = mine.notes
    why = "bncli's code has changed since" if key == "code" else f"made by {key} 'another'"
    assert f"checkpoint not used ({why}) and set aside; training starts again" in note


def poison(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change what the newest checkpoint holds, under the right digest."""
    newest = max(folder.glob("*.pt"))
    state = torch.load(newest, weights_only=True)
    newest.unlink()
    change(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    named = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
    target = folder / f"{newest.name.split('-')[0]}-{named}.pt"
    target.write_bytes(buffer.getvalue())
    return target


def halve(state: dict[str, Any], name: str = "hidden.0.0.weight") -> None:
    state["parameters"][name] = state["parameters"][name].half()


UNFIT: dict[str, Callable[[dict[str, Any]], object]] = {
    "dtype": halve,
    "shape": lambda state: state["parameters"].update({"readout.weight": torch.zeros(3, 1, 16)}),
    "a missing parameter": lambda state: state["parameters"].pop("readout.weight"),
    "a missing part": lambda state: state.pop("log"),
    "step too late": lambda state: state.update(step=30),
    "step below zero": lambda state: state.update(step=-1),
    "step no number": lambda state: state.update(step="14"),
    "losses": lambda state: state.update(losses=torch.zeros(99, 3)),
    "generator": lambda state: state.update(noise=[torch.zeros(5056, dtype=torch.uint8)]),
    "order of batches": lambda state: state.update(
        batches=[(seed, start, 10**9) for seed, start, _ in state["batches"]]
    ),
    "optimiser": lambda state: state.update(optimizer=[]),
    "log": lambda state: state["log"].update(records=[]),
    "log of no records": lambda state: state["log"].update(records=[[1], [2], [3]]),
    "seconds": lambda state: state.update(seconds=None),
}


@pytest.fixture(scope="module")
def killed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, list[Any], Path]:
    """A job, the records of its runs, and a checkpoint of its step 14."""
    job, folder = job_of(tiny, optimizer=MOMENTUM), tmp_path_factory.mktemp("killed")
    train_until(job, 20, folder, every=14)
    return job, [r.records for r in train(job)], folder


@pytest.mark.parametrize("what", UNFIT)
def test_a_checkpoint_that_does_not_fit_its_job_is_set_aside_and_nothing_of_it_used(
    killed: tuple[Job, list[Any], Path], tmp_path: Path, what: str
) -> None:
    job, expected, folder = killed
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    bad = poison(tmp_path, UNFIT[what])
    found, signs = resumed(job, tmp_path, every=100)
    assert found == expected
    assert [sign.step for sign in signs] == [0, 10, 20, 30]
    (note,) = signs[-1].notes
    assert note.startswith(f"{bad}: checkpoint not used (")
    assert note.endswith(") and set aside; training starts again")
    assert not bad.exists()


def test_a_link_in_the_place_of_a_jobs_checkpoints_is_not_followed(tiny: Tiny, tmp_path: Path) -> None:
    job = job_of(tiny)
    expected = [r.records for r in train(job)]
    elsewhere, place = tmp_path / "elsewhere", tmp_path / "checkpoints" / "job"
    train_until(job, 20, elsewhere, every=7)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    place.parent.mkdir()
    place.symlink_to(elsewhere)
    found, signs = resumed(job, place, every=7)
    assert found == expected
    assert signs[0].notes == (f"{place}: a link is not followed; it was set aside, training starts again",)
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before
    assert not place.is_symlink()
    assert len(list(place.glob("*.pt"))) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_a_pipe_in_the_place_of_a_checkpoint_is_not_waited_for(tiny: Tiny, tmp_path: Path) -> None:
    job = job_of(tiny)
    os.mkfifo(tmp_path / "000000000014-0123456789abcdef.pt")
    (tmp_path / "000000000021-0123456789abcdef.pt").symlink_to("/dev/zero")
    found, signs = resumed(job, tmp_path, every=100)
    assert found == [r.records for r in train(job)]
    assert [note.split("(")[1].split(")")[0].split("pt ")[1] for note in signs[0].notes] == [
        "is a link, which is not followed", "is no file",
    ]  # fmt: skip


def test_a_place_that_cannot_be_written_is_noted_and_training_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    signs: list[Sign] = []
    results = train(job_of(tiny), signs.append, tmp_path / "file" / "job", 10)
    assert [r.info.status for r in results] == ["done"] * 3
    assert "cannot write a checkpoint (Not a directory); training goes on without it" in signs[-1].notes[0]


def test_seconds_before_the_kill_are_counted(tiny: Tiny, tmp_path: Path) -> None:
    job = job_of(tiny)
    train_until(job, 20, tmp_path, every=14)
    (path,) = tmp_path.iterdir()
    before = torch.load(path, weights_only=True)["seconds"]["training"]
    results = train(job, lambda sign: None, tmp_path, 14)
    assert sum(r.info.seconds["training"] for r in results) > before > 0


def test_an_order_of_batches_goes_on_where_it_was_whatever_the_place_in_the_epoch(tiny: Tiny) -> None:
    from bncli.data import DATASETS

    split = DATASETS.load("offset")(seed=0, device="cpu").train
    for taken in (1, 2, 3, 4, 7):  # an epoch is 3 batches
        whole, again = (Batches(split, 300, [0, 1], (2,)) for _ in range(2))
        list(whole.next(taken))
        again.restore(whole.state())
        for (x, _), (other, _) in zip(whole.next(5), again.next(5), strict=True):
            assert x.equal(other)


def test_the_interval_follows_from_the_plan_and_short_jobs_write_none(tiny: Tiny) -> None:
    short, long = job_of(tiny), job_of(tiny, steps=10_000_000)
    assert checkpoint_steps(short) > 30
    assert checkpoint_steps(long) / 10_000_000 == pytest.approx(CHECKPOINT_SECONDS / seconds_of(long), rel=1e-3)


WORKER = """
import pickle, sys
from pathlib import Path
import torch
from bncli.engine.train import train
torch.set_num_threads(1)
job, place = pickle.loads(Path(sys.argv[1]).read_bytes())
def report(sign):
    with Path(sys.argv[2]).open("a") as log: log.write(f"{sign.step}\\n")
results = train(job, report, place, 20)
Path(sys.argv[3]).write_bytes(pickle.dumps([r.records for r in results]))
"""


def test_a_process_killed_in_earnest_goes_on_from_its_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    job = job_of(tiny, "batch", 3, steps=400, optimizer=MOMENTUM)
    folder, log, out = tmp_path / "job", tmp_path / "log", tmp_path / "out"
    (tmp_path / "job.pkl").write_bytes(pickle.dumps((job, folder)))
    command = [sys.executable, "-c", WORKER, str(tmp_path / "job.pkl"), str(log), str(out)]
    first = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not (log.exists() and len(log.read_text().split()) > 8) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    reached = int(log.read_text().split()[-1])
    assert 70 < reached < 400
    log.unlink()
    subprocess.run(command, check=True)
    steps = [int(line) for line in log.read_text().split()]
    assert 0 < steps[0] <= reached + 30  # nothing before the last checkpoint was trained again
    assert steps[0] > reached - 40
    assert steps[-1] == 400
    assert pickle.loads(out.read_bytes()) == [r.records for r in train(job)]
