"""The gate on made ratios: what it calls, what it measures again, and how often it is wrong."""

import math
import random
from collections.abc import Mapping, Sequence

import pytest

from bncli.bench.gate import GateResult, Ratios, judge
from bncli.bench.rules import read_rule
from bncli.errors import UndecidedError

CASES = [f"case{i}" for i in range(20)]
RULES = [read_rule("ratio:+5%")]


class World:
    """Cases of ratio 1.5 with noise, some of them slowed; remembers what was measured again."""

    def __init__(self, seed: int, sigma: float = 0.015) -> None:
        self.chance, self.sigma, self.again = random.Random(seed), sigma, list[str]()

    def ratios(self, processes: int, slowed: Mapping[str, float], cases: Sequence[str] = CASES) -> Ratios:
        draw = lambda case: 1.5 * slowed.get(case, 1.0) * math.exp(self.chance.gauss(0, self.sigma))  # noqa: E731
        return {case: {"native": tuple(draw(case) for _ in range(processes))} for case in cases}

    def gate(self, first: Mapping[str, float], fresh: Mapping[str, float] | None = None) -> GateResult:
        before, now = self.ratios(10, {}), self.ratios(3, first)

        def measure_again(names: Sequence[str]) -> Ratios:
            self.again += names
            return self.ratios(8, first if fresh is None else fresh, names)

        return judge(RULES, before, now, measure_again)


def _verdicts(result: GateResult) -> dict[str, str]:
    return {j.case: j.verdict for j in result.judgements if j.verdict != "holds"}


def test_identical_code_holds_and_nothing_is_measured_again() -> None:
    world = World(seed=0)
    assert world.gate({}).verdict == "holds"
    assert world.again == []


def test_a_slowdown_is_called_after_a_second_measurement_of_it_alone() -> None:
    world = World(seed=1)
    result = world.gate({"case3": 1.1})
    assert (result.verdict, _verdicts(result), world.again) == ("regression", {"case3": "regression"}, ["case3"])
    called = result.judgements[3]
    assert called.measured_again
    assert called.change.low is not None
    assert called.change.low > 1.05


def test_what_the_second_measurement_does_not_confirm_holds() -> None:
    world = World(seed=2)
    result = world.gate({"case3": 1.3}, fresh={})
    assert (result.verdict, world.again, result.judgements[3].measured_again) == ("holds", ["case3"], True)


def test_a_speedup_is_said_and_fails_nothing() -> None:
    result = World(seed=3).gate({"case5": 0.8})
    assert (result.verdict, _verdicts(result)) == ("holds", {"case5": "better"})


def test_noise_that_hides_the_limit_is_undecided() -> None:
    result = World(seed=4, sigma=0.3).gate({})
    assert result.verdict == "undecided"
    assert result.noise_floor > 0.05
    whys = {j.why.split(" of ")[0] for j in result.judgements if j.verdict == "undecided"}
    assert whys <= {"noise", "beyond the limit, but not surely beyond half"}


def test_a_case_that_the_baseline_lacks_cannot_be_judged() -> None:
    world = World(seed=5)
    before = world.ratios(10, {}, CASES[1:])
    with pytest.raises(UndecidedError) as caught:
        judge(RULES, before, world.ratios(3, {}), lambda names: {})
    assert str(caught.value) == "the baseline has no ratio of case0; save one anew with --save-baseline"


def test_without_a_baseline_ratios_are_held_against_one() -> None:
    ratios = {"slow": {"against": (1.21, 1.2, 1.19, 1.2)}, "same": {"against": (1.0, 1.01, 0.99, 1.0)}}
    rules = [read_rule("time:+5%")]
    result = judge(rules, None, ratios, lambda names: {name: ratios[name] for name in names})
    assert [(j.case, j.verdict) for j in result.judgements] == [("slow", "regression"), ("same", "holds")]


def test_how_often_it_is_wrong_where_noise_is_as_measured() -> None:
    """1.5 % a process; 100 gates of 20 cases."""
    alarms = sum(World(seed).gate({}).verdict == "regression" for seed in range(100))
    missed = sum(World(seed).gate({"case7": 1.1}).judgements[7].verdict != "regression" for seed in range(100))
    flattered = sum(World(seed).gate({"case7": 1.05}).judgements[7].verdict == "better" for seed in range(100))
    assert alarms <= 2
    assert missed <= 5
    assert flattered == 0
