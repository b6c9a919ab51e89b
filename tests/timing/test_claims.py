"""Claims of bench presets: what they may say, and what made measurements say of them."""

import math
from pathlib import Path

import pytest

from bncli.config import KernelClaim, read_bench
from bncli.errors import ConfigError
from bncli.timing.cases import Case, count_work
from bncli.timing.gate import judge_claims
from bncli.timing.results import BenchRow, CaseResult, Correctness, Estimate, Facts, Rates

GRID = """cases:
  - {norms: [batch, {name: batch, impl: plain}], shapes: [N8C16, N8C32], passes: train-forward}
  - {norms: zca, shapes: N8C16, passes: train-backward}
claims:
"""


def row(norm: str, ratios: list[float], pass_: str = "train-forward", channels: int = 16) -> BenchRow:
    """A case whose ratio to torch was this in each of its processes."""
    case = Case(norm, (), pass_, (8, channels), "f32", "nc", "cpu")
    results = tuple(
        CaseResult(case.name, {}, {}, {}, {"native": Estimate(ratio)}, {}, "time", {}, True) for ratio in ratios
    )
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    shown = {"native": Estimate(mean, 0.98 * mean, 1.02 * mean), "copy": Estimate(2 * mean, 1.9 * mean, 2.1 * mean)}
    return BenchRow(
        case,
        results,
        Estimate(1e-3),
        shown,
        count_work(case),
        Facts("native", 0, 0, Correctness("batch in float64")),
        Rates(1, 1.0, {}),
    )


def claim(text: str, tmp_path: Path) -> KernelClaim:
    path = tmp_path / "mine.yaml"
    path.write_text(GRID + f"  - {{{text}, source: somebody}}\n")
    return read_bench(path).claims[0]


def mistake(text: str, tmp_path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        claim(text, tmp_path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("of: batch, ratio: {below: 0.6}", "confirmed"),
        ("of: batch, ratio: {below: 0.4}", "refuted"),
        ("of: batch, ratio: {below: 0.5}", "undecided"),
        ("of: batch, versus: copy, ratio: {above: 0.9, below: 1.1}", "confirmed"),
    ],
)
def test_a_ratio_to_a_rival_is_judged_by_its_whole_interval(text: str, outcome: str, tmp_path: Path) -> None:
    (found,) = judge_claims([claim(text, tmp_path)], [row("batch", [0.5, 0.5])])
    assert found.outcome == outcome
    assert found.at == "train-forward/N8C16/f32/nc/cpu"


def test_two_norms_are_compared_through_torch_at_each_setting_that_has_both(tmp_path: Path) -> None:
    rows = [
        row("zca", [4.0, 4.1, 3.9, 4.0], "train-backward"),
        row("batch", [1.0, 1.02, 0.99, 1.01], "train-backward"),
        row("zca", [3.0, 3.1, 3.2, 2.9]),
        row("zca", [3.0, 3.1, 3.2, 2.9], channels=32),
        row("batch", [1.0, 1.02, 0.99, 1.01], channels=32),
    ]
    claimed = KernelClaim.model_validate({"of": "zca", "versus": "batch", "ratio": {"above": 2.5}, "source": "us"})
    first, second = judge_claims([claimed], rows)
    assert (first.at, second.at) == ("train-backward/N8C16/f32/nc/cpu", "train-forward/N8C32/f32/nc/cpu")
    assert first.ratio.value == pytest.approx(4.0 / 1.005, rel=0.01)
    assert (first.outcome, second.outcome) == ("confirmed", "confirmed")
    assert first.ratio.low is not None
    assert 3.5 < first.ratio.low < first.ratio.value


def test_a_claim_is_about_the_settings_that_it_names(tmp_path: Path) -> None:
    rows = [row("batch", [0.5, 0.5]), row("batch", [0.5, 0.5], channels=32)]
    found = list(judge_claims([claim("of: batch, at: {shape: N8C32}, ratio: {below: 1}", tmp_path)], rows))
    assert [each.at for each in found] == ["train-forward/N8C32/f32/nc/cpu"]


def test_rows_of_channels_have_a_layout_of_their_own(tmp_path: Path) -> None:
    assert claim("of: batch, at: {layout: nc}, ratio: {below: 1}", tmp_path).at == {"layout": "nc"}
    said = mistake("of: batch, at: {layout: nchw}, ratio: {below: 1}", tmp_path)
    assert said == "mine.yaml:5: claims.0.at: no grid times batch there"


def test_one_process_decides_nothing_between_two_norms() -> None:
    claimed = KernelClaim.model_validate({"of": "zca", "versus": "batch", "ratio": {"above": 1}, "source": "us"})
    (found,) = judge_claims([claimed], [row("zca", [4.0]), row("batch", [1.0])])
    assert (found.outcome, found.ratio) == ("undecided", Estimate(pytest.approx(4.0)))
    assert found.detectable is None


def test_a_claim_says_the_least_factor_that_it_could_have_decided(tmp_path: Path) -> None:
    (found,) = judge_claims([claim("of: batch, ratio: {below: 0.6}", tmp_path)], [row("batch", [0.5, 0.5])])
    half = math.log(1.02 / 0.98) / 2  # of the interval, which ends where 97.5 % of a normal distribution do
    assert found.detectable == pytest.approx(math.exp(half * (1.959964 + 0.841621) / 1.959964), rel=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "of: bacth, ratio: {below: 1}",
            "mine.yaml:5: claims.0.of: 'bacth' is not timed; did you mean 'batch'? (known: batch, batch,impl=plain, zca)",
        ),
        (
            "of: batch, versus: troch, ratio: {below: 1}",
            "mine.yaml:5: claims.0.versus: 'troch' is not timed; did you mean 'torch'?"
            " (known: batch, batch,impl=plain, zca, torch, copy)",
        ),
        (
            "of: batch, at: {shapes: N8C16}, ratio: {below: 1}",
            "mine.yaml:5: claims.0.at: 'shapes' is no axis of a grid; did you mean 'shape'?"
            " (known: shape, dtype, layout, pass, threads, compile)",
        ),
        ("of: zca, at: {shape: N8C32}, ratio: {below: 1}", "mine.yaml:5: claims.0.at: no grid times zca there"),
        ("of: zca, versus: batch, ratio: {below: 1}", "mine.yaml:5: claims.0.at: no grid times zca beside batch there"),
        (
            "of: batch, ratio: {}",
            "mine.yaml:5: claims.0.ratio: give {below: NUMBER}, {above: NUMBER} or both",
        ),
    ],
)
def test_a_claim_about_what_is_not_timed_is_said_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    assert mistake(text, tmp_path) == said
