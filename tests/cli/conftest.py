"""`bncli` in this process, in a folder with a small bench preset and a kernel that is as slow as wanted."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bncli.bench import machine
from bncli.cli import bench_session, main

PRESET = """
question: does it work?
budget: 1
cases:
  - norms: [batch, layer]
    shapes: [N8C16]
    passes: [train-forward]
"""
KERNEL = """
import os
from torch import nn

class Repeated(nn.BatchNorm1d):
    def forward(self, x):
        for _ in range(int(os.environ.get("TIMES", "1"))):
            y = super().forward(x)
        return y
"""
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bncli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `bncli` in a folder with `tiny.yaml` and `slow_norms.py`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(machine, "last_level_cache_byte", lambda: 2**20)
    for number in ("_GATE", "_SAVED", "_AGAIN"):
        monkeypatch.setattr(bench_session, number, 2)
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
