"""How numbers are written, in sentences and in tables alike: `97.1 ± 0.1 %`, `0.41x [0.36, 0.47]`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bncli.findings import Comparison, Judgement, Measure, Summary


@dataclass(frozen=True)
class _Notation:
    factor: float
    decimals: int | None  # None: three significant digits
    suffix: str  # behind a value
    difference: str  # behind a difference, in a sentence


_NOTATIONS = {
    "steps": _Notation(1, 0, "", " steps"),
    "seconds": _Notation(1, None, " s", " s"),
    "examples": _Notation(1, 0, "", " examples"),
    "share": _Notation(100, 0, " %", " points"),
    "decades": _Notation(1, 2, "", " decades"),
    "rate": _Notation(1, None, "", ""),
    "": _Notation(1, None, "", ""),
    "fraction": _Notation(100, 1, " %", " points"),
    "nats": _Notation(1, 4, "", " nats"),
    "bytes": _Notation(1e-6, 1, " MB", " MB"),
    "squared error": _Notation(1, 4, "", ""),
    "norm per step": _Notation(1, None, "", " a step"),
}
_TIMES = ("steps", "seconds", "examples")


def _notation(unit: str) -> _Notation:
    """How numbers of a unit are written; a unit of somebody's own is a word behind them."""
    return _NOTATIONS.get(unit) or _Notation(1, None, f" {unit}", f" {unit}")


def written(number: float, unit: str) -> str:
    """One number in its unit: `12,500`, `97.1 %`."""
    notation = _notation(unit)
    return _fixed(number * notation.factor, notation.decimals) + notation.suffix


def written_summary(summary: Summary, unit: str) -> str:
    """Mean and standard deviation: `12,500 ± 310`, `97.1 ± 0.1 %`; a median says so."""
    if summary.mean is None:
        if summary.median is not None:
            return f"{written(summary.median, unit)} (median)"
        return "not reached" if unit in _TIMES and any(v.low is not None for v in summary.values) else "n/a"
    if summary.std is None:
        return written(summary.mean, unit)
    notation = _notation(unit)
    return f"{_fixed(summary.mean * notation.factor, notation.decimals)} ± {written(summary.std, unit)}"


def written_comparison(comparison: Comparison, measure: Measure) -> str:
    """Estimate and interval in a table: `0.41x [0.36, 0.47]`, `+0.4 [+0.2, +0.6]`, one-sided `≤ 0.43x`; or `n/a`.

    The interval is that which the verdict follows from.
    """
    return written_change(comparison.estimate, *comparison.interval, measure)


def worded_comparison(comparison: Comparison, measure: Measure) -> tuple[str, str]:
    """The same for a sentence: `("0.41x", "95 % interval 0.36 to 0.47")`, `("at most 0.43x", "end of ...")`.

    Both are empty where nothing is known, the second where nothing bounds the estimate.
    """
    low, high = _telling(*comparison.interval, measure)
    ends = [end for end in (low, high) if end is not None]
    suffix, write, unit = _writer(measure, ends)
    if comparison.estimate is not None:
        interval = f"95 % interval {write(ends[0])} to {write(ends[1])}" if len(ends) == 2 else ""
        return f"{write(comparison.estimate)}{suffix}{unit}", interval
    if len(ends) != 1:
        return "", ""
    return f"{'at least' if high is None else 'at most'} {write(ends[0])}{suffix}{unit}", "end of the 95 % interval"


def written_judgement(judgement: Judgement) -> str:
    """Estimate and interval of what a claim is about: `0.41x [0.36, 0.47]`, `97.1 % [96.9 %, 97.3 %]`."""
    measure, kind = judgement.measure, judgement.claim.kind
    numbers = (judgement.estimate, judgement.low, judgement.high)
    if kind != "level":
        return written_change(*numbers, replace(measure, scale=kind))
    low, high = ("unbounded" if end is None else written(end, measure.unit) for end in numbers[1:])
    if low == high == "unbounded":
        return "n/a"
    return f"{'n/a' if judgement.estimate is None else written(judgement.estimate, measure.unit)} [{low}, {high}]"


def written_detectable(judgement: Judgement) -> str:
    """The least effect that could have been decided: `a factor of 1.12`, `0.3 points`; empty where none is known."""
    effect, notation = judgement.detectable, _notation(judgement.measure.unit)
    if effect is None:
        return ""
    if judgement.claim.kind == "ratio":
        return f"a factor of {_ratio(effect, _decimals([effect], 1.0, 2))}"
    return f"{float(f'{effect * notation.factor:.2g}'):,.15g}{notation.difference}"


def written_claim(judgement: Judgement) -> str:
    """The claim in words: `steps to 95 %, batch / none: below 0.6`."""
    claim, measure = judgement.claim, judgement.measure
    sign = {"ratio": f" / {claim.versus}", "difference": f" - {claim.versus}", "level": ""}[claim.kind]
    notation = _notation(measure.unit)
    unit = {"ratio": "x", "difference": notation.difference, "level": notation.suffix}[claim.kind]
    factor = 1 if claim.kind == "ratio" else notation.factor
    at = f" at {written_setting(judgement.setting)}" if judgement.setting else ""
    return f"{measure.label}, {claim.of}{sign}{at}: {written_band(claim.below, claim.above, unit, factor)}"


def written_band(below: float | None, above: float | None, unit: str, factor: float = 1) -> str:
    """Where a number is claimed to lie: `above 1x and below 1.1x`."""
    limits = (("above", above), ("below", below))
    return " and ".join(f"{word} {limit * factor:g}{unit}" for word, limit in limits if limit is not None)


def written_change(estimate: float | None, low: float | None, high: float | None, measure: Measure) -> str:
    """`0.41x [0.36, 0.47]`, `+0.4 [+0.2, +0.6]`, one-sided `≤ 0.43x`, `n/a`; None is unbounded or unknown."""
    low, high = _telling(low, high, measure)
    ends = [end for end in (low, high) if end is not None]
    suffix, write, _ = _writer(measure, ends)
    if estimate is not None:
        return f"{write(estimate)}{suffix}" + (f" [{', '.join(map(write, ends))}]" if len(ends) == 2 else "")
    return f"{'≥' if high is None else '≤'} {write(ends[0])}{suffix}" if len(ends) == 1 else "n/a"


def _telling(low: float | None, high: float | None, measure: Measure) -> tuple[float | None, float | None]:
    """Ends that say something: to take at most a million times as many steps is no bound."""
    if measure.scale != "ratio":
        return low, high
    return None if low is not None and low < 1e-6 else low, None if high is not None and high > 1e6 else high


def written_difference(number: float, measure: Measure) -> str:
    """A difference as it was typed, with its unit: `-0.05 points`."""
    notation = _notation(measure.unit)
    return f"{number * notation.factor:+g}{notation.difference}"


def written_estimate(estimate: float, low: float | None, high: float | None, *, ratio: bool) -> str:
    """A ratio, `6.1x [5.2, 7.3]`, or a signed difference, `-0.03 [-0.05, -0.01]`; without ends the estimate alone."""
    ends = [end for end in (low, high) if end is not None]
    if ratio:
        places = _decimals(ends, 1.0, 1 if min([estimate, *ends]) > 2 else 2)
        interval = f" [{', '.join(_ratio(end, places) for end in ends)}]" if ends else ""
        return f"{_ratio(estimate, places)}x{interval}"
    interval = f" [{', '.join(_fixed(end, None, '+') for end in ends)}]" if ends else ""
    return f"{_fixed(estimate, None, '+')}{interval}"


def written_setting(setting: Mapping[str, Any]) -> str:
    """Swept values in a sentence: `lr 0.5, batch_size 60`."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]} {written_option(value)}" for key, value in setting.items())


def written_arm(variant: str, setting: Mapping[str, Any]) -> str:
    """An arm in a sentence: `batch (lr 0.5)`, without a swept value `batch`."""
    return f"{variant} ({written_setting(setting)})" if setting else variant


def written_score(score: float, by: str) -> str:
    """A tuning score without its unit: an accuracy in per cent, or a loss, which scores hold with its sign turned."""
    if by == "validation_accuracy":
        return f"{100 * score:.1f}"
    return f"{-score:.3f}" if abs(score) < 1e5 else f"{-score:.2g}"


def written_option(value: Any) -> str:
    """One swept value, short: `0.1`, `sgd`, `sgd momentum=0.9`."""
    if isinstance(value, Mapping):
        options = [f"{key}={written_option(v)}" for key, v in value.items() if key != "name"]
        return " ".join([*([str(value["name"])] if "name" in value else []), *options])
    return f"{value:g}" if isinstance(value, float) else str(value)


def written_ratio(value: float, low: float | None = None, high: float | None = None) -> str:
    """A ratio with its interval, where it has one: `0.41x [0.36, 0.47]`."""
    ends = [end for end in (low, high) if end is not None]
    places = _decimals(ends, 1.0, 2)
    interval = f" [{', '.join(_ratio(end, places) for end in ends)}]" if len(ends) == 2 else ""
    return f"{_ratio(value, places)}x{interval}"


def written_seconds(value: float, low: float | None = None, high: float | None = None) -> str:
    """A short time with its interval, in the unit that suits it: `1.82 ms [1.80, 1.85]`."""
    size, unit = next((each for each in ((1, "s"), (1e-3, "ms"), (1e-6, "us")) if value >= each[0]), (1e-9, "ns"))
    places = max(0, 2 - math.floor(math.log10(max(value / size, 1))))
    interval = "" if low is None or high is None else f" [{low / size:.{places}f}, {high / size:.{places}f}]"
    return f"{value / size:.{places}f} {unit}{interval}"


def written_bytes(size_byte: float) -> str:
    """An amount of memory: `6.42 MB`, `384 B`."""
    size, unit = next((each for each in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size_byte >= each[0]), (1, "B"))
    return f"{size_byte / size:.{0 if size == 1 else max(0, 2 - math.floor(math.log10(size_byte / size)))}f} {unit}"


def _writer(measure: Measure, ends: Iterable[float]) -> tuple[str, Any, str]:
    if measure.scale == "ratio":
        places = _decimals(ends, 1.0, 2)
        return "x", lambda ratio: _ratio(ratio, places), ""
    notation = _notation(measure.unit)
    scaled = [end * notation.factor for end in ends]
    decimals = None if notation.decimals is None else _decimals(scaled, 0.0, notation.decimals)
    return "", lambda number: _fixed(number * notation.factor, decimals, "+"), notation.difference


def _decimals(ends: Iterable[float], null: float, least: int) -> int:
    """As few decimals as keep an end that excludes the null value apart from it, two more than `least` at most."""
    ends = list(ends)
    enough = (d for d in (least, least + 1) if all(end == null or round(end, d) != null for end in ends))
    return next(enough, least + 2)


def _fixed(number: float, decimals: int | None, sign: str = "") -> str:
    return f"{number:{sign}z.3g}" if decimals is None else f"{number:{sign}z,.{decimals}f}"


def _ratio(ratio: float, decimals: int) -> str:
    if ratio < 0.1:
        return f"{ratio:.2g}"
    if ratio >= 1e5:
        return f"{ratio:.1e}"
    return f"{ratio:,.{decimals if ratio < 10 else 1 if ratio < 100 else 0}f}"
