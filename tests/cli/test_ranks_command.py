"""Several ranks on the command line: what is refused, in one line each, before anything is trained."""

from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.mark.parametrize("command", ["train", "compare", "shift-report"])
def test_within_torchrun_a_command_says_what_to_use_instead(
    bncli: Command, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    code, out, err = bncli(command, "smoke")
    assert (code, out) == (2, "")
    assert err == (
        "torchrun (WORLD_SIZE=4) starts this command 4 times, and each would train everything; run it once, with --set"
        " training.ranks=4: bncli starts a run's ranks itself, on one machine\n"
    )


def test_a_task_takes_no_ranks(bncli: Command, tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text("def mine(run):\n    yield 1, {'loss': 0.5}\n")
    code, out, err = bncli("train", "--task", "loop.py:mine", "--set", "training.ranks=2")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "training: a task brings its own data, model and training; leave it out" in err


def test_a_shift_report_takes_no_ranks(bncli: Command) -> None:
    code, out, err = bncli("shift-report", "smoke", "--set", "training.ranks=2")
    assert (code, out) == (2, "")
    assert "training.ranks: probes look at runs of one process; leave probes out, or use 1 rank" in err


def test_a_plan_of_ranks_has_a_core_for_each(bncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncli.session.study.device_count", lambda device: 8)
    arguments = "train", "smoke", "--device", "cpu", "--dry-run"
    assert "8 workers" in bncli(*arguments)[1]
    assert "2 workers" in bncli(*arguments, "--set", "training.ranks=3")[1]
