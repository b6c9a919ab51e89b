"""`bncli` in this process, in a folder with a small bench preset and a kernel."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bncli.cli import main
from bncli.plugins import registered, unregister
from bncli.session import bench
from bncli.timing import system as machine
from tests.timing.made_worker import start_made_worker

PRESET = """
question: does it work?
budget: 1
cases:
  - norms: [batch, layer]
    shapes: [N8C16]
    passes: [train-forward]
"""
KERNEL = """
from torch import nn

class Slow(nn.BatchNorm1d):
    pass
"""
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured: times are as `tests/timing/made_worker.py` says."""
    monkeypatch.setattr(bench, "start_worker", start_made_worker)


@pytest.fixture
def bncli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `bncli` in a folder with `tiny.yaml` and `slow_norms.py`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(machine, "read_last_level_cache", lambda: 2**20)
    monkeypatch.setattr(bench, "watch", lambda: ({}, 0.0))
    (tmp_path / "tiny.yaml").write_text(PRESET)
    (tmp_path / "slow_norms.py").write_text(KERNEL)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bncli", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def plugins_go() -> Iterator[None]:
    """What `--plugin` adds stays as long as a process does, and a test's process has other tests."""
    before = registered()
    yield
    for plugin in registered():
        if plugin not in before:
            unregister(plugin)
