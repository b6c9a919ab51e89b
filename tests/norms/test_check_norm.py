"""`bncli.check_norm`: what of the contract strangers' norms keep, and what it says of those that do not."""

import json
import os
import time
from pathlib import Path

import pytest
import strangers
import torch

import bncli
from bncli.errors import ConfigError
from bncli.norms import contract
from bncli.norms.contract import CHECKS, ContractReport
from bncli.norms.contract.processes import run_apart

FILE = Path(__file__).parent / "strangers.py"


def check(name, monkeypatch=None, *, only=lambda check: not check.slow, **how) -> ContractReport:
    if monkeypatch:
        monkeypatch.setattr(contract, "CHECKS", tuple(filter(only, CHECKS)))
    return bncli.check_norm(f"{FILE}:{name}", **how)


def seen(report, text):
    (row,) = [row for row in report.rows if row.check == text]
    return row.status, row.promise, row.seen


@pytest.mark.parametrize(
    "name", ["PlainBatch", "TorchsBatch", "TorchsLayer", "TorchsGroup", "ChannelNorm", "DrawsNoise"]
)
def test_a_strangers_norm_of_ten_lines_keeps_every_promise(name, monkeypatch):
    report = check(name, monkeypatch, only=lambda check: check.promise)
    assert report.broken == ()
    held = [row for row in report.rows if row.promise and row.status == "holds"]
    assert len(held) >= 14


def test_every_check_is_tried_on_a_norm_of_torchs():
    report = bncli.check_norm(strangers.TorchsBatch, time_limit=60)
    assert [row.check for row in report.rows if row.status in ("not tried", "not applicable")] == []
    assert [row.check for row in report.facts] == [
        "gradient checkpointing changes nothing",
        "takes (N, C) and one to three axes of locations",
    ]
    assert str(report).splitlines()[0] == (
        "TorchsBatch of 8 channels keeps all 17 promises; of the facts worth knowing 2 do not hold"
    )


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("ForgetsItsBias", "every parameter changes the output", "a parameter is never used (bias changes no output)"),
        ("LeaksIntoNeighbours", "channels are normalised alone or in whole groups, the same in every example",
         "it mixes channels (channel 0 is mixed with some that go with channel 6, and not with that)"),
        ("DividesByZero", "constant channels give finite outputs and gradients",
         "a constant channel ends the training (its output is not finite at a constant input of 0)"),
        ("DetachesItsMean", "the gradient is that of finite differences",
         "the gradient is wrong (at its input, in training)"),
        ("HidesNan", "NaN in the input is NaN in the output", "a diverged run would not be seen (nan comes out as a number)"),
        ("RemembersBesideItsState", "state_dict has all that evaluation needs",
         "a saved network would not evaluate as it did (a new norm with the same state evaluates to something else)"),
        ("EvaluatesOntoItsState", "evaluation gives the same twice and changes nothing",
         "evaluating changes a run (the same batch gives something else the second time)"),
        ("WritesToItsInput", "leaves its input and its output's gradient as they were",
         "other layers see changed numbers (the forward pass writes to its input)"),
        ("GivesSingle", "gives the shape, type and device of its input",
         "the next layer gets something else ((4, 8) in float64 gives (4, 8) in float32 in training)"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named_with_what_was_seen(name, text, told, monkeypatch):
    report = check(name, monkeypatch, only=lambda check: check.check == text)
    assert seen(report, text) == ("does not hold", True, told)


@pytest.mark.parametrize("name", ["ForgetsItsBias", "DetachesItsMean", "DividesByZero"])
def test_one_fault_breaks_one_promise(name, monkeypatch):
    assert len(check(name, monkeypatch, only=lambda check: check.promise).broken) == 1


def test_a_reshape_that_takes_examples_for_channels_is_found(monkeypatch):
    report = check("TakesExamplesForChannels", monkeypatch, only=lambda check: check in CHECKS[:4])
    (row,) = report.broken
    assert row.check == "channels are normalised alone or in whole groups, the same in every example"


def test_another_shape_is_a_broken_promise(monkeypatch):
    row = check("IsFlat", monkeypatch, only=lambda check: check is CHECKS[0]).broken[0]
    assert row.check == "takes batches and gives their shape"
    assert row.seen == "(6, 8, 4) gives (6, 32); (6, 8, 3, 2) gives (6, 48); (6, 8, 2, 3, 2) gives (6, 96)"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("DependsOnItsBatch", "evaluates each example by itself", "evaluation depends on the batch (off by "),
        ("LoopsInPython", "runs as lanes", "runs train one at a time (it raises RuntimeError: vmap: "),
        ("TakesExamplesForChannels", "the order of the examples does not matter", "shuffling a batch changes its outputs"),
        ("DrawsNoise", "training gives the same twice", "its training output is random"),
        ("Prints", "prints nothing", "it prints 'hello, (6, 8)'"),
        ("DividesByZero", "a batch of one is normalised or refused",
         "a last batch of one example breaks the training ((1, 8) gives what is not finite)"),
        ("TorchsLayer", "takes (N, C) and one to three axes of locations", "its channels are last"),
    ],
)  # fmt: skip
def test_a_fact_worth_knowing_breaks_no_promise(name, text, told, monkeypatch):
    report = check(name, monkeypatch, only=lambda check: check.check == text)
    status, promise, said = seen(report, text)
    assert (status, promise, said[: len(told)]) == ("does not hold", False, told)
    assert report.broken == ()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ExitsInEvaluation", "it raised SystemExit: 0"),
        ("EndsItsProcess", "its process ended itself, with exit code 0"),
    ],
)
def test_a_norm_that_ends_its_process_is_a_line_and_the_other_checks_go_on(name, told, monkeypatch):
    report = check(name, monkeypatch, only=lambda check: check in CHECKS[7:10])
    assert {row.seen for row in report.broken} == {told}
    assert seen(report, "a forward pass in training changes buffers alone") == ("holds", True, "")


def test_a_norm_that_hangs_is_a_line_and_after_three_the_rest_is_not_tried(monkeypatch):
    report = check("HangsInEvaluation", monkeypatch, only=lambda check: check.promise, time_limit=1)
    late = [row.check for row in report.rows if row.seen == "not done within 1 s"]
    assert len(late) == 3
    assert [row.check for row in report.broken] == late
    assert {row.seen for row in report.rows if row.status == "not tried"} == {
        "3 checks before it were not done in time"
    }


def test_a_norm_that_never_gives_anything_is_one_broken_promise():
    for name, told in (("Hangs", "not done within 1 s"), ("Raises", "(6, 8) raises RuntimeError: not on this machine")):
        report = check(name, time_limit=1)
        (row,) = report.broken
        assert row.check == "takes batches and gives their shape"
        assert row.seen.startswith(told)
        assert {row.status for row in report.rows[1:]} == {"not tried"}


def test_what_a_check_starts_ends_with_it(tmp_path):
    place = tmp_path / "alive"
    assert run_apart(lambda: os.system(f"while true; do echo alive >> {place}; sleep 0.05; done"), 1).how == "late"
    said = place.read_text()
    time.sleep(0.5)
    assert place.read_text() == said != ""


def test_a_norm_of_the_catalogue_is_held_to_its_row(monkeypatch):
    monkeypatch.setattr(contract, "CHECKS", tuple(check for check in CHECKS if check.check == "runs as lanes"))
    assert seen(bncli.check_norm("batch"), "runs as lanes") == ("holds", True, "")
    other = next(name for name, row in bncli.NORMS.items() if row.side == "activation" and not row.lanes)
    assert not seen(bncli.check_norm(other), "runs as lanes")[1]


def test_a_plug_ins_norm_is_checked_by_its_name(monkeypatch):
    monkeypatch.setattr(contract, "CHECKS", CHECKS[:1])
    report = bncli.check_norm("plain-batch", plugins=[FILE], eps=0.1)
    assert (report.norm, report.broken) == ("plain-batch", ())
    assert "plain-batch" not in bncli.NORMS


def test_a_report_is_plain_data(monkeypatch):
    document = check("PlainBatch", monkeypatch, only=lambda check: check is CHECKS[0]).document()
    document = json.loads(json.dumps(document))
    assert (document["schema"], document["keeps_its_promises"]) == ("bncli/contract/1", True)
    assert document["rows"][0] == {
        "check": "takes batches and gives their shape", "status": "holds", "promise": True, "seen": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (lambda channels: 4, "must give a torch module, got int"),
        (torch.nn.ReLU(), "norm: must be a class or function of the number of channels, got ReLU"),
        ("bacth", "no norm is called 'bacth'; did you mean 'batch'?"),
        ("weight-std", "norm 'weight-std' acts on a layer's weights, not on 8 channels"),
    ],
)
def test_what_is_no_norm_is_one_line(target, told):
    with pytest.raises(ConfigError) as caught:
        bncli.check_norm(target)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name, row in bncli.NORMS.items() if row.side == "activation"])
def test_every_norm_of_ours_keeps_its_promises(name):
    options = {"groups": 4, "differentiate": True, "group_size": 4}
    given = {key: value for key, value in options.items() if key in bncli.NORMS[name].options}
    assert bncli.check_norm(name, time_limit=60, **given).broken == ()
