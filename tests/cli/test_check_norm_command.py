"""`bncli check-norm`: the contract on the terminal and as JSON, and its exit codes."""

import json
import sys
from pathlib import Path

import pytest

from bncli.cli import main
from bncli.norms import contract

FILE = Path(__file__).parent.parent / "norms" / "strangers.py"


@pytest.fixture
def check_norm(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "theirs.py").write_text(FILE.read_text())
    (tmp_path / "ends.py").write_text("import os\nos._exit(0)\n")
    (tmp_path / "prints.py").write_text("print('at import')\nfrom torch.nn import GroupNorm\n")
    chosen = [check for check in contract.CHECKS if check.check.startswith(("leaves", "every", "evaluates each"))]
    monkeypatch.setattr(contract, "CHECKS", tuple(chosen))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bncli", "check-norm", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capfd.readouterr()

    return run


def test_the_table_has_promises_then_facts_and_a_sentence(check_norm):
    code, out, err = check_norm("theirs.py:DependsOnItsBatch")
    assert (code, err) == (0, "")
    assert out.splitlines()[:7] == [
        "promises",
        " holds           takes batches and gives their shape",
        " holds           leaves its input and its output's gradient as they were",
        " holds           every parameter changes the output",
        "",
        "worth knowing",
        out.splitlines()[6],
    ]
    assert out.splitlines()[6].startswith(
        " does not hold   evaluates each example by itself: evaluation depends on the batch (off by "
    )
    assert out.splitlines()[-1] == (
        "theirs.py:DependsOnItsBatch of 8 channels keeps all 3 promises; of the facts worth knowing 2 do not hold"
    )


def test_a_broken_promise_is_exit_code_3_and_stands_in_the_table(check_norm):
    code, out, _ = check_norm("theirs.py:WritesToItsInput")
    assert code == 3
    assert " does not hold   leaves its input and its output's gradient as they were: other layers see changed" in out
    assert "of 8 channels breaks 1 of 3 promises" in out


def test_prints_of_the_norm_do_not_stand_in_the_json(check_norm):
    code, out, err = check_norm("theirs.py:Prints", "--json", "-")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert (document["norm"], document["channels"], document["keeps_its_promises"]) == ("theirs.py:Prints", 8, True)
    assert document["rows"][-1] == {
        "check": "prints nothing", "status": "does not hold", "promise": False, "seen": "it prints 'hello, (6, 8)'",
    }  # fmt: skip


def test_a_plug_ins_name_and_options_may_be_given(check_norm, tmp_path):
    code, _, _ = check_norm("plain-batch", "--plugin", "theirs.py", "--set", "eps=0.1", "--json", "found.json")
    assert (code, json.loads((tmp_path / "found.json").read_text())["norm"]) == (0, "plain-batch")
    assert check_norm("theirs.py:TorchsGroup", "--channels", "12", "--set", "groups=6")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["theirs.py:number"], "NORM theirs.py:number: must be a class or function of the number of channels, got int"),
        (
            ["theirs.py:ready"],
            "NORM theirs.py:ready: must be a class or function of the number of channels, got PlainBatch",
        ),
        (["theirs.py:no_module"], "NORM theirs.py:no_module: must give a torch module, got int"),
        (["theirs.py:broken"], "NORM theirs.py:broken: cannot be made of 8 channels: KeyError: 'x'"),
        (["theirs.py:Plain"], "NORM theirs.py:Plain: theirs.py has no 'Plain'; did you mean 'PlainBatch'?"),
        (["no.py:Norm"], None),
        (["ends.py:Norm"], "NORM ends.py:Norm: its process ended itself, with exit code 0"),
        (["weight-std"], None),
        (
            ["group", "--set", "groups=3"],
            "norm 'group': groups=3 does not divide 8 channels (their divisors: 1, 2, 4, 8)",
        ),
        (
            ["batch", "--set", "epss=1"],
            "epss: no such key; did you mean 'eps'? (known: eps, momentum, affine, track_running_stats, impl)",
        ),
        (["batch", "--json", "no/where.json"], "--json no/where.json: there is no folder no"),
        (["batch", "--time-limit", "0"], "time_limit: expected a number of seconds > 0, got 0.0"),
    ],
)
def test_what_is_no_norm_is_one_line_and_exit_code_2(check_norm, arguments, message):
    code, out, err = check_norm(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message is None or err == f"{message}\n"
