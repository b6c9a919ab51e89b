"""What the comparisons by each definition of shift say, in sentences; and where definitions disagree."""

from collections.abc import Iterator, Mapping, Sequence

from bncli.findings.shift import Definition, ShiftArm, ShiftComparison, Side
from bncli.format import written_estimate, written_setting

SHIFTS = ("pair", "gradient")  # kinds of metrics that define a shift; the others say what is or comes with it
CLAIM_PAIRS = 10
OPPOSITES: set[Side] = {"less", "more"}


def sentences(comparisons: Sequence[ShiftComparison], definitions: Sequence[Definition]) -> tuple[str, ...]:
    """One for each arm and definition over all layers, and one for each arm that says whether definitions agree."""
    known = {definition.name: definition for definition in definitions}
    arms: dict[str, list[ShiftComparison]] = {}
    for c in comparisons:
        if c.layer == "" or not any(_same(c, other) for other in comparisons):
            arms.setdefault(f"{c.variant}{_at(c.setting)}", []).append(c)
    found = []
    for compared in arms.values():
        if all(c.pairs == 1 for c in compared):
            found.append("no claim is made: one seed says nothing about the spread between seeds")
            continue
        for c in [c for c in compared if c.estimate is not None]:
            opposed = [o.layer for o in comparisons if _same(o, c) and {o.side, c.side} == OPPOSITES]
            found.append(
                _sentence(c, known[c.metric]) + (f"; the other way at {', '.join(opposed)}" if opposed else "")
            )
        found += _not_compared([c for c in compared if c.estimate is None], known)
        found += _agreement([c for c in compared if known[c.metric].kind in SHIFTS], known)
    return tuple(dict.fromkeys(found))


def _same(c: ShiftComparison, other: ShiftComparison) -> bool:
    """Whether `other` is over all layers what `c` is at one."""
    here = (c.metric, c.variant, written_setting(c.setting))
    return other.layer == "" and (other.metric, other.variant, written_setting(other.setting)) == here


def _at(setting: Mapping[str, object]) -> str:
    return f" at {written_setting(setting)}" if setting else ""


def _sentence(c: ShiftComparison, definition: Definition) -> str:
    what, who = definition.label, f"with {c.variant}{_at(c.setting)}"
    noise = "; both are within sampling noise" if c.within_noise else ""
    assert c.estimate is not None
    if definition.scale == "difference":
        return _difference(c, what, who) + noise
    ratio = written_estimate(c.estimate, c.low, c.high, ratio=True)
    if c.side == "same":
        return f"{what} is the same {who}, within the margin: {ratio}{noise}"
    if c.side == "open":
        return f"whether {what} is smaller {who} is open: {ratio} that of {c.reference}{noise}"
    if c.estimate > 1:
        return f"{what} is not smaller {who} but {ratio} larger{noise}"
    inverse = written_estimate(1 / c.estimate, 1 / (c.high or 1), 1 / (c.low or 1), ratio=True)
    return f"{what} is {inverse} smaller {who}{noise}"


def _not_compared(lacking: Sequence[ShiftComparison], known: Mapping[str, Definition]) -> list[str]:
    """One sentence for all that cannot be compared for one reason."""
    by_reason: dict[str, list[str]] = {}
    for c in lacking:
        by_reason.setdefault(c.reason, []).append(known[c.metric].label)
    return [
        f"{', '.join(labels)} cannot be compared between {lacking[0].variant} and {lacking[0].reference}: {reason}"
        for reason, labels in by_reason.items()
    ]


def _difference(c: ShiftComparison, what: str, who: str) -> str:
    assert c.estimate is not None
    written = written_estimate(c.estimate, c.low, c.high, ratio=False)
    if c.side == "same":
        return f"{what} is the same {who}"
    if c.side == "open":
        return f"whether {what} is other {who} is open: {written} against {c.reference}"
    return f"{what} is {'higher' if c.estimate > 0 else 'lower'} {who}: {written} against {c.reference}"


def _agreement(compared: Sequence[ShiftComparison], known: Mapping[str, Definition]) -> list[str]:
    """Whether the definitions of shift agree about one arm."""
    sides: dict[Side, list[str]] = {}
    for c in compared:
        sides.setdefault(c.side, []).append(known[c.metric].label)
    sides.pop("not comparable", None)
    if len(compared) < 2 or not sides:
        return []
    c = compared[0]
    arm = f"{c.variant}{_at(c.setting)}"
    words: dict[Side, str] = {
        "less": f"there is less shift with {arm} than with {c.reference}",
        "more": f"there is more shift with {arm} than with {c.reference}",
        "same": f"there is as much shift with {arm} as with {c.reference}",
        "open": f"whether there is less shift with {arm} than with {c.reference} is open",
    }
    if len(sides) == 1:
        ((side, _),) = sides.items()
        return [f"by every definition measured {words[side]}"]
    parts = [f"{words[side]} by {', '.join(labels)}" for side, labels in sides.items()]
    return [f"the definitions disagree about {arm}: " + "; ".join(parts)]


def notes(
    arms: Sequence[ShiftArm], comparisons: Sequence[ShiftComparison], definitions: Sequence[Definition]
) -> tuple[str, ...]:
    """How the numbers are to be read."""
    return tuple(_notes(arms, comparisons, definitions))


def _notes(
    arms: Sequence[ShiftArm], comparisons: Sequence[ShiftComparison], definitions: Sequence[Definition]
) -> Iterator[str]:
    cells = [cell for arm in arms for cell in arm.cells]
    kinds = {definition.kind for definition in definitions}
    if "pair" in kinds:
        yield "a drift is over one interval between probes; each number is the mean over units and over all intervals"
    if any(cell.std is not None for cell in cells):
        yield "± is the standard deviation over seeds"
    if any(cell.trend != "open" for cell in cells):
        yield "↑ ↓ it rose or fell from the first third of the probes to the last, by a 95 % t-interval over seeds"
    if any(cell.within_noise for cell in cells):
        yield "~ within sampling noise: not above the edge that 95 % of pairs of samples of one checkpoint stay below"
    if any(c.low is not None for c in comparisons):
        yield (
            "[ ] is a 95 % t-interval over pairs of runs with the same seed, each comparison for itself; over layers "
            "it is the geometric mean of the ratios, or the mean of the differences"
        )
    pairs = {c.pairs for c in comparisons if c.pairs > 1}
    if pairs:
        yield f"{min(pairs)} paired seeds" + (", indicative: fewer than 10" if min(pairs) < CLAIM_PAIRS else "")
    shares = [f"{arm.variant} {100 * arm.probing:.1f} %" for arm in arms if arm.probing is not None]
    if shares:
        yield f"probing took, of training time: {', '.join(dict.fromkeys(shares))}"
