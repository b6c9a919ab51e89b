"""Limits and baselines, as they are typed and kept."""

from pathlib import Path

import pytest

from bncli.errors import BncliError, ConfigError
from bncli.gate import Limit, baseline_path, limit_of, read_baseline, save_baseline

KNOWN = ("steps_to_target", "final_accuracy")


@pytest.mark.parametrize(
    ("text", "limit", "written"),
    [
        ("steps_to_target:+10%", Limit("steps_to_target", 0.1, relative=True), "+10 %"),
        (" steps_to_target : +7.5 % ", Limit("steps_to_target", 0.075, relative=True), "+7.5 %"),
        ("batch*=steps_to_target:+5%", Limit("steps_to_target", 0.05, True, "batch*"), "+5 %"),
        ("final_accuracy:-0.005", Limit("final_accuracy", -0.005, relative=False), "-0.005"),
    ],
)
def test_a_limit_is_a_measure_and_a_signed_change(text: str, limit: Limit, written: str) -> None:
    assert limit_of(text, KNOWN) == limit
    assert limit.text == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "steps_to_target",
            "--fail-if steps_to_target: expected MEASURE:+10% or MEASURE:-0.005, a change with its sign",
        ),
        ("steps_to_target:10%", "--fail-if steps_to_target:10%: expected "),
        ("steps_to_target:+0%", "--fail-if steps_to_target:+0%: expected "),
        ("steps:+10%", "--fail-if steps:+10%: no measure is called 'steps'; did you mean 'steps_to_target'?"),
    ],
)
def test_what_is_no_limit_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        limit_of(text, KNOWN)
    assert str(error.value).startswith(message)


def test_a_baseline_has_a_name_in_the_store_or_is_a_file(tmp_path: Path) -> None:
    assert baseline_path(tmp_path, "main") == tmp_path / "baselines" / "main.json"
    assert baseline_path(tmp_path, "old/main.json") == Path("old/main.json")


def test_a_baseline_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    save_baseline(tmp_path, "main", '{"schema": "a/1", "x": 0.1}')
    assert read_baseline(tmp_path, "main", "a/1") == {"schema": "a/1", "x": 0.1}
    assert read_baseline(tmp_path, "other", "a/1") is None


def test_a_file_that_is_no_baseline_is_said(tmp_path: Path) -> None:
    save_baseline(tmp_path, "main", "[]")
    with pytest.raises(BncliError, match=r"main\.json: expected a document with schema 'a/1', got 'list'"):
        read_baseline(tmp_path, "main", "a/1")
