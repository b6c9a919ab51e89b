"""The gate as a user types it, and its exit codes; kernels differ by factors that no noise hides."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import bncli as package
from tests.cli.conftest import Command

KERNEL = ("bench", "tiny.yaml", "--warm", "--kernel", "slow_norms:Repeated", "--only", "Repeated")
LOOSE = ("--fail-if", "ratio:+400%")


_made: list[str] = []


@pytest.fixture
def saved(bncli: Command) -> Command:
    """A baseline called `main` of the kernel as it is, measured for the first test that asks."""
    place = Path(".bncli/baselines/main.json")
    if not _made:
        code, _, said = bncli(*KERNEL, "--save-baseline", "main")
        assert code == 0
        assert said.endswith("baseline saved in .bncli/baselines/main.json\n")
        _made.append(place.read_text())
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(_made[0])
    return bncli


def test_the_same_code_holds_and_a_slow_kernel_does_not(saved: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text, _ = saved(*KERNEL, "--baseline", "main", *LOOSE)
    assert code == 0
    assert "\ngate: holds: of 1 cases 1 within limits; noise floor " in text
    monkeypatch.setenv("TIMES", "200")
    code, text, said = saved(*KERNEL, "--baseline", "main", *LOOSE, "--export", "md:gate.md")
    assert code == 3
    assert "\ngate: regression: of 1 cases 1 slower than allowed; noise floor " in text
    assert "measuring again: slow_norms:Repeated/train-forward/N8C16/f32/nc/cpu\n" in said
    assert "**gate: regression: " in Path("gate.md").read_text()


def test_what_noise_hides_is_undecided(saved: Command) -> None:
    code, text, _ = saved(*KERNEL, "--baseline", "main", "--fail-if", "ratio:+0.0001%", "--json", "-")
    assert code == 4
    gate = json.loads(text)["gate"]
    assert gate["verdict"] == "undecided"
    assert gate["noise_floor"] > 1e-6


def test_another_machine_is_not_comparable_unless_allowed(saved: Command) -> None:
    place = Path(".bncli/baselines/main.json")
    place.write_text(place.read_text().replace('"processor": "', '"processor": "another '))
    code, out, said = saved(*KERNEL, "--baseline", "main")
    assert (code, out) == (4, "")
    assert said.startswith("not comparable: the baseline was made on another kind of machine (processor 'another ")
    assert said.endswith("or pass --allow-other-machine\n")
    assert saved(*KERNEL, "--baseline", "main", "--allow-other-machine", *LOOSE)[0] == 0


def test_a_baseline_that_is_missing_or_lacks_a_case_is_undecided_at_once(saved: Command) -> None:
    code, out, said = saved("bench", "tiny.yaml", "--warm", "--baseline", "mian")
    assert (code, out) == (4, "")
    assert said == ".bncli/baselines/mian.json: there is no such baseline; make one with --save-baseline mian\n"
    code, out, said = saved("bench", "tiny.yaml", "--warm", "--baseline", "main")
    assert (code, out) == (4, "")
    assert said == (
        ".bncli/baselines/main.json: has no batch/train-forward/N8C16/f32/nc/cpu (2 of 2 cases are missing);"
        " make it anew with --save-baseline main\n"
    )


def test_the_gate_against_itself_says_its_noise(bncli: Command) -> None:
    code, text, _ = bncli("bench", "tiny.yaml", "--warm", "--aa", *LOOSE)
    assert code == 0
    assert "\ngate: holds: of 2 cases 2 within limits; noise floor " in text


@pytest.mark.skipif(sys.platform == "win32", reason="env is not there")
def test_another_checkout_is_measured_in_turns_and_its_speed_found(
    bncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is slow here and fast there."""
    monkeypatch.setenv("TIMES", "200")
    copy = tmp_path / "other"
    shutil.copytree(Path(package.__file__).parent, copy / "bncli", ignore=shutil.ignore_patterns("files", "*.pyc"))
    there = f"env TIMES=1 PYTHONPATH={copy} {sys.executable}"
    code, text, _ = bncli(*KERNEL, "--against", there, "--fail-if", "time:+400%", "--json", "-")
    assert code == 3
    found = json.loads(text)
    assert found["gate"]["judgements"][0]["change"]["low"] > 5
    assert list(found["rows"][0]["ratios"]) == ["against"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--baseline", "a", "--aa"], "--baseline and --aa: give one of them; each says what is compared with what"),
        (["--fail-if", "ratio:+5%"], "--fail-if: compared with what? Add --baseline NAME, --against PYTHON or --aa"),
        (["--allow-other-machine"], "--allow-other-machine: is about --baseline, which is not given"),
        (
            ["--save-baseline", "a", "--against", "b"],
            "--save-baseline: holds ratios to torch's batch norm, which --aga",
        ),
        (["--aa", "--fail-if", "time:+5%"], "--fail-if 'time:+5%': --aa compares ratio or copy"),
        (["--aa", "--fail-if", "ratio"], "--fail-if 'ratio': must look like 'ratio:+5%' or 'PATTERN=ratio:+5%'"),
    ],
)
def test_flags_that_make_no_sense_are_one_line_and_exit_2(bncli: Command, arguments: list[str], line: str) -> None:
    code, out, said = bncli("bench", "tiny.yaml", "--warm", *arguments)
    assert (code, out) == (2, "")
    assert said.startswith(line)
    assert said.count("\n") == 1
