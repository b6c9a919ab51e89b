"""One run over several processes: the numbers of one process, and a reason in words where a process is lost."""

import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bncli.config import Study
from bncli.engine import work as worker
from bncli.engine.ranks import require_devices
from bncli.engine.work import Surroundings, work
from bncli.errors import ConfigError
from bncli.plan import Job, jobs_of, runs_of
from bncli.plugins import ship, using
from bncli.records import RunResult
from bncli.store.studies import study_id

Tiny = Callable[..., Study]
TRAINING = {"steps": 30, "batch_size": 41, "lr": 0.5, "clip": 1.0}  # ranks of 21 and of 20 examples
TWO = {"training": {"ranks": 2}}
PLUGIN = """
import os, signal, sys, time
from pathlib import Path
import torch
import torch.distributed as dist
import bncli.engine.train

FOLDER = Path(__file__).parent
bncli.engine.train.checkpoint_steps = lambda job: 10

class Strange(torch.nn.Module):
    def __init__(self, channels, does):
        super().__init__()
        self.does, self.steps = does, 0

    def forward(self, x):
        self.steps += self.training
        if dist.get_rank() == 1 and self.steps == 25:
            if self.does == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.does == "raises":
                raise ValueError("no luck")
            if self.does == "hangs":
                (FOLDER / str(os.getpid())).touch()
                time.sleep(1000)
            if self.does == "dies once" and not (FOLDER / "died").exists():
                (FOLDER / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return x + 0.1 * torch.randn_like(x) * self.training

NORMS = {does.replace(" ", "-"): (lambda channels, does=does: Strange(channels, does))
         for does in ("dies", "raises", "hangs", "dies once", "does well")}
"""


def train(tiny: Tiny, variants: dict[str, Any], **changes: Any) -> dict[str, RunResult]:
    """The result of each variant, whose runs are trained one at a time."""
    changes = {"training": TRAINING, "reference": next(iter(variants)), "seeds": 1, **changes}
    jobs = jobs_of(runs_of(tiny(variants=variants, **changes), "cpu", "plain"))
    return {result.spec["norm"]["name"]: result for job in jobs for result in work(job, Surroundings())}


def values(result: RunResult, *metrics: str) -> list[float]:
    return [record.value for record in result.records if record.metric in metrics]


def test_with_synchronised_statistics_two_ranks_learn_as_one(tiny: Tiny) -> None:
    found = train(tiny, {"one": "batch", "two": {"norm": "sync", **TWO}})
    one, two = found["batch"], found["sync"]
    assert two.info.engine == "plain, 2 ranks (gloo)"
    assert [(r.metric, r.step, r.layer) for r in two.records] == [(r.metric, r.step, r.layer) for r in one.records]
    assert [r.value for r in two.records] == pytest.approx([r.value for r in one.records], rel=2e-6)


def test_with_statistics_of_their_own_ranks_are_virtual_batches(tiny: Tiny) -> None:
    found = train(tiny, {"two": {"norm": "batch", **TWO}, "ghost": {"norm": {"name": "ghost", "ghost_size": 21}}})
    two, ghost = (values(found[name], "train_loss", "parameter_norm") for name in ("batch", "ghost"))
    assert two == pytest.approx(ghost, rel=2e-6)


@contextmanager
def strange(folder: Path, tiny: Tiny, norm: str, **changes: Any) -> Iterator[tuple[Job, Surroundings]]:
    """A job of two ranks with a norm of the plug-in."""
    (plugin := folder / "plugin.py").write_text(PLUGIN)
    with using([plugin]) as plugins:
        study = tiny(variants={"it": norm}, reference="it", seeds=1, training={**TRAINING, "ranks": 2}, **changes)
        (job,) = jobs_of(runs_of(study, "cpu"))
        yield job, Surroundings(plugins=ship(plugins))


def test_a_rank_that_dies_is_the_reason_of_a_failed_run(tiny: Tiny, tmp_path: Path) -> None:
    with strange(tmp_path, tiny, "dies") as (job, at):
        (result,) = work(job, at)
    assert (result.info.status, result.info.reason) == ("failed", "rank 1 of 2 died (exit status -9)")


@pytest.mark.nightly
def test_what_a_rank_raises_is_the_reason_of_a_failed_run(tiny: Tiny, tmp_path: Path) -> None:
    with strange(tmp_path, tiny, "raises") as (job, at):
        (result,) = work(job, at)
    assert (result.info.status, result.info.reason) == ("failed", "rank 1 of 2: ValueError: no luck")


@pytest.mark.nightly
def test_a_rank_that_hangs_is_the_reason_of_a_failed_run(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WAIT_SECONDS", 5.0)
    monkeypatch.setattr(worker, "LAST_SECONDS", 1.0)
    with strange(tmp_path, tiny, "hangs") as (job, at):
        (result,) = work(job, at)
    assert (result.info.status, result.info.reason) == ("failed", "rank 1 of 2 gave no sign for 5 s")


@pytest.mark.nightly
@pytest.mark.parametrize("limit", [None, 30.0])
def test_ranks_end_with_the_worker_that_started_them(tiny: Tiny, tmp_path: Path, limit: float | None) -> None:
    with strange(tmp_path, tiny, "hangs") as (job, at):
        script = (
            "import pickle, sys; from bncli.engine.work import work; print(*[r.info.reason for r in"
            " work(*pickle.load(sys.stdin.buffer))])"
        )
        process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin
        process.stdin.write(pickle.dumps((job, replace(at, seconds=limit))))
        process.stdin.close()
        while not (found := [path for path in tmp_path.iterdir() if path.name.isdigit()]):
            time.sleep(0.1)
        if limit is None:
            process.kill()
        assert process.stdout
        assert process.stdout.read().decode().strip() == ("" if limit is None else "not done within 30 s")
        process.stdout.close()
        process.wait()
        stat, until = Path(f"/proc/{found[0].name}/stat"), time.monotonic() + 20
        while runs(stat) and time.monotonic() < until:
            time.sleep(0.1)
        assert not runs(stat)


def runs(stat: Path) -> bool:
    """Whether a process is there, and not only its exit status, which nobody may have asked for."""
    try:
        return stat.read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.nightly
def test_ranks_go_on_from_a_checkpoint_to_the_same_numbers(tiny: Tiny, tmp_path: Path) -> None:
    found = {}
    for norm in ("does-well", "dies-once"):
        with strange(tmp_path, tiny, norm) as (job, at):
            at = replace(at, checkpoints=tmp_path / norm)
            (found[norm],) = work(job, at)
            if norm == "dies-once":
                assert found[norm].info.reason == "rank 1 of 2 died (exit status -9)"
                assert sorted(path.name[:12] for path in (tmp_path / norm).glob("*.pt")) == [
                    "000000000010",
                    "000000000020",
                ]
                (found[norm],) = work(job, at)
    assert found["dies-once"].info.status == "done"
    assert found["dies-once"].records == found["does-well"].records


@pytest.mark.parametrize(
    ("training", "variant", "message"),
    [
        ({"batch_size": 2, "ranks": 3}, "none", "must be <= training.batch_size 2, an example for each, got 3"),
        ({"batch_size": 5, "ranks": 3}, "batch",
         "variant 'it': each rank takes statistics of its own share, and of a batch of 5 some of 3 ranks have 1 example;"
         " use norm 'sync', fewer ranks or a larger batch"),
        ({"batch_size": 6, "ranks": 2}, {"norm": {"name": "ghost", "ghost_size": 2}},
         "variant 'it': norm 'ghost' with ghost_size 2 leaves a virtual batch of 1 example, which has no variance, of 3;"
         " use a multiple of the ghost_size, of 2 or more"),
    ],
)  # fmt: skip
def test_shares_that_a_norm_cannot_take_are_one_line(tiny: Tiny, training: Any, variant: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        tiny(training=training, variants={"it": variant}, reference="it")
    assert [problem.message for problem in error.value.problems] == [message]


def test_probes_and_ranks_exclude_each_other(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="probes look at runs of one process; leave probes out, or use 1 rank"):
        tiny(training={**TRAINING, "ranks": 2}, probes="light")


def test_synchronised_statistics_need_two_examples_in_all(tiny: Tiny) -> None:
    tiny(training={"batch_size": 2, "ranks": 2}, variants={"it": "sync"}, reference="it")


def test_one_rank_is_the_study_and_the_run_that_there_was_before_the_key(tiny: Tiny) -> None:
    before, after = tiny(), tiny(training={**tiny().training.model_dump(mode="json"), "ranks": 1})
    assert study_id(after.model_dump(mode="json")) == study_id(before.model_dump(mode="json"))
    (run, *_), (same, *_), (other, *_) = (runs_of(s, "cpu") for s in (before, after, tiny(training={"ranks": 2})))
    assert "ranks" not in run.spec()["training"]
    assert same.id == run.id
    assert other.spec()["training"]["ranks"] == 2


def test_runs_of_several_ranks_train_one_by_one_and_untraced(tiny: Tiny) -> None:
    jobs = jobs_of(runs_of(tiny(training={"steps": 200, "ranks": 2}, seeds=5), "cpu"))
    assert {(len(job.runs), job.lanes, job.traced) for job in jobs} == {(1, False, False)}


def test_fewer_gpus_than_ranks_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError) as error:
        require_devices(4, "cuda")
    assert str(error.value) == (
        "training.ranks: 4 ranks take a GPU each, and a worker here sees 1; ask for fewer ranks, or for fewer workers"
        " (--jobs), among which the GPUs are shared out"
    )
    with pytest.raises(ConfigError, match="2 ranks cannot be had: there are none on mps; use --device cpu, or 1"):
        require_devices(2, "mps")
