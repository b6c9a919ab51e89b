"""`--fail-if`: what it may say, whom it is for, and how it is refused."""

import pytest

from bncli.bench.rules import Rule, limits, read_rule
from bncli.errors import ConfigError

CASES = ["batch/train-forward/N64C32", "batch,impl=plain/train-forward/N64C32", "zca/eval-forward/N64C32"]


def test_a_rule_is_for_all_cases_or_for_those_of_a_pattern() -> None:
    assert read_rule("ratio:+5%") == Rule("*", "ratio", 0.05)
    assert read_rule("batch/*=copy:+2.5%") == Rule("batch/*", "copy", 0.025)
    assert read_rule("batch,impl=plain/*=ratio:+10%") == Rule("batch,impl=plain/*", "ratio", 0.1)


def test_the_last_rule_that_matches_counts() -> None:
    rules = [read_rule(text) for text in ("ratio:+5%", "zca/*=ratio:+20%", "zca/*=copy:+30%")]
    found = {key: rule.limit for key, rule in limits(rules, CASES).items()}
    assert found == {
        (CASES[0], "ratio"): 0.05,
        (CASES[1], "ratio"): 0.05,
        (CASES[2], "ratio"): 0.2,
        (CASES[2], "copy"): 0.3,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5%", "--fail-if '5%': must look like 'ratio:+5%' or 'PATTERN=ratio:+5%'"),
        ("ratio:-5%", "--fail-if 'ratio:-5%': must look like 'ratio:+5%' or 'PATTERN=ratio:+5%'"),
        (
            "ration:+5%",
            "--fail-if 'ration:+5%': no measure is called 'ration'; did you mean 'ratio'? (known: copy, ratio, time)",
        ),
        ("ratio:+0%", "--fail-if 'ratio:+0%': must tolerate more than 0%, which noise alone exceeds"),
    ],
)
def test_what_is_no_rule_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_rule(text)
    assert str(caught.value) == message


def test_a_rule_for_no_case_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        limits([read_rule("bacth/*=ratio:+5%")], CASES)
    assert str(caught.value) == f"--fail-if 'bacth/*=ratio:+5%': no case matches (cases: {', '.join(CASES)})"
