"""`bncli inspect`: the norms of any model on the terminal and as JSON."""

import json
import sys
from pathlib import Path

import pytest

from bncli.cli import main

MODEL = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU())

ready = Net()
number = 3

def broken():
    return 1 / 0
"""


@pytest.fixture
def inspect(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("mine.py").write_text(MODEL)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bncli", "inspect", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr()
        return end.value.code or 0, told.out, told.err

    return run


def test_the_table_says_what_would_replace_what(inspect):
    code, out, _ = inspect("mine.py:Net", "--to", "group", "--set", "groups=5", "--shape", "3,6,6", "--batch", "4")
    assert code == 0
    titles, row, _, *notes = out.splitlines()
    assert titles.split("  ")[0].strip() == "norm"
    told = " ".join(row.split())
    assert told.startswith("1 BatchNorm2d group, 4 groups 24 24 -> 0 6,144 -> ")
    assert told.endswith(" 4 x 12 x 4 x 4 0 1 64 -> 48")
    assert notes[0] == "1: 5 groups do not fit 12 channels: 4 groups"
    assert notes[1].startswith("mine.py:Net: 1 norms, 348 parameters, 24 -> 0 buffers, ")
    assert notes[1].endswith(" operations, for inputs 4 x 3 x 6 x 6")


def test_a_bias_that_none_would_need_is_said(inspect):
    _, out, _ = inspect("mine.py:ready", "--to", "none")
    assert "0: would get a bias" in out.splitlines()
    assert "guessed from the first layer; --shape says another" in out


def test_the_document_has_what_the_table_has(inspect):
    code, out, _ = inspect("mine.py:Net", "--to", "rms", "--json", "-")
    document = json.loads(out)
    assert code == 0
    assert (document["model"], document["to"], document["rows"][0]["path"]) == ("mine.py:Net", "rms", "1")
    assert document["rows"][0]["before"]["parameters"] == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine.py:number"], "MODEL mine.py:number: must be a model, or what makes one, got int"),
        (["mine.py:broken"], "MODEL mine.py:broken: cannot be made: ZeroDivisionError: division by zero"),
        (["mine.py:Nett"], "MODEL mine.py:Nett: mine.py has no 'Nett'; did you mean 'Net'?"),
        (["resnet18"], "MODEL: expected FILE.py:NAME or MODULE:NAME, got 'resnet18'"),
        (
            ["mine.py:Net", "--set", "groups=2"],
            "--sites and --set are about the norm that would replace others; say --to NORM",
        ),
        (["mine.py:Net", "--shape", "3,x"], "--shape 3,x: expected whole numbers, as in 3,64,64"),
        (["mine.py:Net", "--to", "group", "--sites", "9"], "where: chooses none of the 1 norms (1)"),
    ],
)
def test_a_mistake_is_one_line(inspect, arguments, message):
    assert inspect(*arguments) == (2, "", f"{message}\n")
