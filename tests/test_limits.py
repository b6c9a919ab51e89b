"""`--fail-if`: what it may say, whom it is for, and how it is refused."""

import pytest

from bncli.errors import ConfigError
from bncli.limits import BENCH_FACTS, BENCH_MEASURES, Limit, limits_by_name, read_limit
from bncli.timing.cases import matches

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
    assert read_limit(text, KNOWN) == limit
    assert limit.text == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "steps_to_target",
            "--fail-if steps_to_target: expected [PATTERN=]MEASURE:+10% or MEASURE:-0.005, a change with its sign",
        ),
        ("steps_to_target:10%", "--fail-if steps_to_target:10%: expected "),
        ("steps_to_target:+0%", "--fail-if steps_to_target:+0%: must tolerate more than 0, which noise alone exceeds"),
        ("steps_to_target:+1.2.3%", "--fail-if steps_to_target:+1.2.3%: 1.2.3 is not a number; expected "),
        ("steps_to_target:+1e400%", "--fail-if steps_to_target:+1e400%: tolerates anything; expected "),
        ("final_accuracy:-100%", "--fail-if final_accuracy:-100%: tolerates anything; expected "),
        (
            "final_accuracy:+0.5",
            "--fail-if final_accuracy:+0.5: higher is better, and a limit says how much worse it may become:"
            " final_accuracy:-0.5",
        ),
        (
            "steps_to_target:-10%",
            "--fail-if steps_to_target:-10%: lower is better, and a limit says how much worse it may become:"
            " steps_to_target:+10%",
        ),
        ("steps:+10%", "--fail-if steps:+10%: no measure is called 'steps'; did you mean 'steps_to_target'?"),
    ],
)
def test_what_is_no_limit_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_limit(text, KNOWN, {"steps_to_target": "lower", "final_accuracy": "higher"})
    assert str(error.value).startswith(message)


CASES = ["batch/train-forward/N64C32", "batch,impl=plain/train-forward/N64C32", "zca/eval-forward/N64C32"]


def of_bench(text: str) -> Limit:
    return read_limit(text, BENCH_MEASURES, slower=True)


def test_a_limit_of_kernels_is_for_all_cases_or_for_those_of_a_pattern() -> None:
    assert of_bench("ratio:+5%") == Limit("ratio", 0.05, True, "*")
    assert of_bench("batch/*=copy:+2.5%") == Limit("copy", 0.025, True, "batch/*")
    assert of_bench("batch,impl=plain/*=ratio:+10%") == Limit("ratio", 0.1, True, "batch,impl=plain/*")


def test_a_limit_on_errors_is_a_highest_value_without_a_sign() -> None:
    limit = read_limit("batch/*=error:1e-5", (*BENCH_MEASURES, *BENCH_FACTS), slower=True)
    assert limit == Limit("error", 1e-5, False, "batch/*", absolute=True)
    assert (limit.text, str(limit)) == ("1e-05", "batch/*=error:1e-05")
    for text in ("error:+1e-5", "error:1%", "peak:5%", "peak:+5", "error:0", "error:1e400"):
        with pytest.raises(ConfigError, match="--fail-if"):
            read_limit(text, (*BENCH_MEASURES, *BENCH_FACTS), slower=True)


def test_the_last_limit_that_matches_counts() -> None:
    limits = [of_bench(text) for text in ("ratio:+5%", "zca/*=ratio:+20%", "zca/*=copy:+30%")]
    found = {key: limit.change for key, limit in limits_by_name(limits, CASES, matches).items()}
    assert found == {
        (CASES[0], "ratio", True): 0.05,
        (CASES[1], "ratio", True): 0.05,
        (CASES[2], "ratio", True): 0.2,
        (CASES[2], "copy", True): 0.3,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5%", "--fail-if 5%: expected [PATTERN=]MEASURE:+5% or error:1e-5"),
        ("ratio:-5%", "--fail-if ratio:-5%: expected [PATTERN=]MEASURE:+5% or error:1e-5"),
        ("ratio:+0.05", "--fail-if ratio:+0.05: expected [PATTERN=]MEASURE:+5% or error:1e-5"),
        (
            "ration:+5%",
            "--fail-if ration:+5%: no measure is called 'ration'; did you mean 'ratio'? (known: copy, ratio, time)",
        ),
    ],
)
def test_what_is_no_limit_of_kernels_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_bench(text)
    assert str(caught.value) == message


def test_a_limit_for_nothing_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        limits_by_name([of_bench("ratio:+5%"), of_bench("bacth/*=ratio:+5%")], CASES)
    assert str(caught.value) == (
        f"--fail-if bacth/*=ratio:+5%: nothing here matches bacth/* (known: {', '.join(CASES)})"
    )


def test_a_limit_for_a_mistyped_name_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        limits_by_name([read_limit("bacth=final_accuracy:-0.005", KNOWN)], ["none", "batch"])
    assert str(caught.value) == (
        "--fail-if bacth=final_accuracy:-0.005: nothing here matches bacth; did you mean 'batch'? (known: none, batch)"
    )


def test_a_pattern_that_is_a_name_is_for_that_name_alone() -> None:
    limits = [read_limit(f"{pattern}=final_accuracy:-0.5", KNOWN) for pattern in ("[x]*", "*")]
    assert limits_by_name(limits[:1], ["[x]*", "x", "xy"]) == {("[x]*", "final_accuracy", False): limits[0]}
    assert len(limits_by_name(limits, ["[x]*", "x", "xy"])) == 3
