"""The gate on made ratios: what it calls, what it measures again, and how often it is wrong."""

import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from bncli.limits import BENCH_FACTS, BENCH_MEASURES, read_limit
from bncli.timing.gate import judge, judge_facts
from bncli.timing.results import Correctness, Facts, GateResult, ProcessReading, ProcessReadings

CASES = [f"case{i}" for i in range(20)]
RULES = [read_limit("ratio:+5%", BENCH_MEASURES, slower=True)]


class World:
    """Cases of ratio 1.5 with noise, some of them slowed; remembers what was measured again.

    The machine's speed varies from process to process by `states` (in logarithms) about `busy`, and ratios with it:
    what slows the rival by 10 % slows a case by 7 %.
    """

    def __init__(self, seed: int, sigma: float = 0.015, states: float = 0.2, busy: float = 0.0) -> None:
        self.chance, self.sigma, self.again = random.Random(seed), sigma, list[str]()
        self.states, self.busy = states, busy

    def ratios(self, processes: int, slowed: Mapping[str, float], cases: Sequence[str] = CASES) -> ProcessReadings:
        return {case: {"native": tuple(self._draw(slowed.get(case, 1.0)) for _ in range(processes))} for case in cases}

    def _draw(self, slowed: float) -> ProcessReading:
        level = self.busy + self.chance.gauss(0, self.states)
        return ProcessReading(
            1.5 * slowed * math.exp(self.chance.gauss(0, self.sigma) - 0.3 * level), 1e-3 * math.exp(level)
        )

    def gate(self, first: Mapping[str, float], fresh: Mapping[str, float] | None = None) -> GateResult:
        busy, self.busy = self.busy, 0.0  # the baseline was taken while the machine was idle
        before, self.busy = self.ratios(10, {}), busy
        now = self.ratios(3, first)

        def measure_again(names: Sequence[str]) -> ProcessReadings:
            self.again += names
            return self.ratios(8, first if fresh is None else fresh, names)

        return judge(RULES, before, now, measure_again)


def _verdicts(result: GateResult) -> dict[str, str]:
    return {j.case: j.verdict for j in result.judgements if j.verdict != "holds"}


def test_identical_code_holds_and_nothing_is_measured_again() -> None:
    world = World(seed=0, sigma=0.005)
    assert world.gate({}).verdict == "holds"
    assert world.again == []


def test_a_slowdown_is_called_after_a_second_measurement_of_it_alone() -> None:
    world = World(seed=1)
    result = world.gate({"case3": 1.1})
    assert (result.verdict, _verdicts(result), world.again) == ("regression", {"case3": "regression"}, ["case3"])
    called = result.judgements[3]
    assert called.remeasured
    assert called.change is not None
    assert called.change.low is not None
    assert called.change.low > 1.05


def test_what_the_second_measurement_does_not_confirm_holds() -> None:
    world = World(seed=2, sigma=0.005)
    result = world.gate({"case3": 1.3}, fresh={})
    assert (result.verdict, world.again, result.judgements[3].remeasured) == ("holds", ["case3"], True)


def test_a_speedup_is_said_and_fails_nothing() -> None:
    result = World(seed=3).gate({"case5": 0.8})
    assert (result.verdict, _verdicts(result)) == ("holds", {"case5": "better"})


def test_noise_that_hides_the_limit_is_undecided() -> None:
    result = World(seed=4, sigma=0.3).gate({})
    assert result.verdict == "undecided"
    assert result.noise_floor > 0.05
    assert any(re.fullmatch(r"noise of \d+% hides a change of 5%", j.why) for j in result.judgements)


def test_a_new_case_leaves_the_gate_undecided_and_hides_no_regression() -> None:
    world = World(seed=5, sigma=0.005)
    before = world.ratios(10, {}, CASES[1:])
    again = lambda names: world.ratios(8, {"case3": 1.3}, names)  # noqa: E731
    calm, slow = (judge(RULES, before, world.ratios(3, slowed), again) for slowed in ({}, {"case3": 1.3}))
    assert [(each.verdict, each.new, len(each.judgements)) for each in (calm, slow)] == [
        ("undecided", ("case0",), 19),
        ("regression", ("case0",), 19),
    ]


def test_a_case_that_the_baseline_has_from_one_process_alone_is_new() -> None:
    world = World(seed=5)
    result = judge(RULES, world.ratios(1, {}), world.ratios(3, {}), lambda names: {})
    assert (result.verdict, result.new, result.judgements, result.noise_floor) == ("undecided", tuple(CASES), (), None)


def test_a_suspect_that_cannot_be_measured_again_is_undecided() -> None:
    world = World(seed=5, sigma=0.005)
    result = judge(RULES, world.ratios(10, {}), world.ratios(3, {"case3": 1.3}), lambda names: {})
    assert _verdicts(result) == {"case3": "undecided"}


def test_without_a_baseline_ratios_are_held_against_one() -> None:
    found = {"slow": (1.21, 1.2, 1.19, 1.2), "same": (1.0, 1.01, 0.99, 1.0)}
    ratios = {case: {"against": tuple(ProcessReading(ratio, 1e-3) for ratio in taken)} for case, taken in found.items()}
    rules = [read_limit("time:+5%", BENCH_MEASURES, slower=True)]
    result = judge(rules, None, ratios, lambda names: {name: ratios[name] for name in names})
    assert [(j.case, j.verdict) for j in result.judgements] == [("slow", "regression"), ("same", "holds")]


def test_a_busy_machine_is_no_regression_and_hides_none() -> None:
    world = World(seed=6, busy=-0.5)  # faster than the baseline's: ratios are 16 % higher
    result = world.gate({"case3": 1.1})
    assert _verdicts(result) == {"case3": "regression"}
    assert result.judgements[3].change.value == pytest.approx(1.1, rel=0.03)


def test_a_machine_unlike_any_that_the_slope_was_seen_on_is_undecided() -> None:
    said = Counter(World(seed, states=0.01, busy=-1.0).gate({}).verdict for seed in range(60))
    assert said["holds"] == 0
    assert said["regression"] <= 6  # 5 % of 60, and chance


def test_what_is_undecided_is_measured_once_more() -> None:
    world = World(seed=4, sigma=0.04)
    result = world.gate({"case3": 1.1})
    assert (world.again.count("case3"), _verdicts(result)["case3"]) == (2, "regression")


def test_memory_is_judged_against_before_and_errors_against_a_highest_value() -> None:
    facts = {
        "lean": Facts("native", 0, 104, Correctness("batch in float64", 9e-6, 1e-4, 2e-6, 1e-4)),
        "fat": Facts("native", 0, 106, Correctness("batch in float64", 1e-6, 1e-4, 2e-5, 1e-4)),
        "unseen": Facts("native", 0, None, Correctness(), {"peak_byte": "nothing was seen", "error": "nobody knows"}),
        "new": Facts("native", 0, 100, Correctness("batch in float64", 1e-6, 1e-4)),
    }
    known = (*BENCH_MEASURES, *BENCH_FACTS)
    limits = [read_limit(text, known, slower=True) for text in ("peak:+5%", "error:1e-5")]
    found = list(judge_facts(limits, facts, {"lean": 100, "fat": 100, "unseen": 100}))
    assert [(j.case, j.measure, j.verdict, j.change and j.change.value) for j in found] == [
        ("lean", "peak", "holds", 1.04),
        ("fat", "peak", "regression", 1.06),
        ("unseen", "peak", "undecided", None),
        ("new", "peak", "undecided", None),
        ("lean", "error", "holds", 9e-6),
        ("fat", "error", "regression", 2e-5),
        ("unseen", "error", "undecided", None),
        ("new", "error", "holds", 1e-6),
    ]
    assert [j.why for j in found if j.why] == [
        "nothing was seen", "that of what it is compared with is not known", "nobody knows",
    ]  # fmt: skip
    assert [j.limit_text for j in found[::4]] == ["+5 %", "1e-05 rms"]


def test_a_ratio_is_to_the_rival_that_is_named() -> None:
    readings = {"mine": {"theirs": (ProcessReading(1.2, 1e-3),) * 4, "native": (ProcessReading(0.5, 1e-3),) * 4}}
    result = judge(RULES, None, readings, lambda names: readings, {"ratio": "theirs"})
    assert [(j.case, j.verdict, round(j.change.value, 3)) for j in result.judgements if j.change] == [
        ("mine", "regression", 1.2)
    ]


@pytest.mark.parametrize("busy", [0.0, 0.3])
def test_how_often_it_is_wrong_where_noise_is_as_measured(busy: float) -> None:
    """1.5 % a process beside what the machine's state does; 100 gates of 20 cases."""
    worlds = [World(seed, busy=busy) for seed in range(100)]
    alarms = sum(world.gate({}).verdict == "regression" for world in worlds)
    missed = sum(world.gate({"case7": 1.1}).judgements[7].verdict != "regression" for world in worlds)
    flattered = sum(world.gate({"case7": 1.05}).judgements[7].verdict == "better" for world in worlds)
    assert alarms <= 2
    assert missed <= 5
    assert flattered == 0
