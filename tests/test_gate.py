"""Limits, as they are typed."""

import pytest

from bncli.errors import ConfigError
from bncli.gate import Limit, limit_of

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
