"""What the comparisons by each definition of shift say, in sentences; and where definitions disagree."""

from collections.abc import Iterator, Mapping, Sequence

from bncli.findings import Note
from bncli.findings.shift import Definition, ShiftArm, ShiftComparison, Side
from bncli.format import written_estimate, written_setting

SHIFTS = ("pair", "gradient")  # kinds of metrics that define a shift; the others say what is or comes with it
CLAIM_PAIRS = 10
OPPOSITES: set[Side] = {"less", "more"}


def sentences(comparisons: Sequence[ShiftComparison], definitions: Sequence[Definition]) -> tuple[str, ...]:
    """For each arm one that says whether definitions agree, and one for each definition over all layers."""
    known = {definition.name: definition for definition in definitions}
    arms: dict[str, list[ShiftComparison]] = {}
    for c in comparisons:
        if c.layer == "" or not any(_same(c, other) for other in comparisons):
            arms.setdefault(f"{c.variant}{_at(c.setting)}", []).append(c)
    found = []
    for compared in arms.values():
        if all(c.pairs == 1 for c in compared):
            found.append("no claim is made: one seed says nothing about how much runs differ by chance; --seeds 5")
            continue
        found += _agreement([c for c in compared if known[c.metric].kind in SHIFTS], known)
        for c in [c for c in compared if c.estimate is not None]:
            opposed = [o.layer for o in comparisons if _same(o, c) and {o.side, c.side} == OPPOSITES]
            found.append(_sentence(c, known[c.metric]) + (f"; reversed at {', '.join(opposed)}" if opposed else ""))
        found += _not_compared([c for c in compared if c.estimate is None], known)
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
        return f"inconclusive: {what} {who} is {ratio} that of {c.reference}{noise}"
    if c.estimate > 1:
        return f"{what} is {ratio} larger {who}{noise}"
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
        return f"inconclusive: {what} {who} differs by {written} from that of {c.reference}"
    return f"{what} is {'higher' if c.estimate > 0 else 'lower'} {who}: {written} against {c.reference}"


def _agreement(compared: Sequence[ShiftComparison], known: Mapping[str, Definition]) -> list[str]:
    """Whether the definitions of shift agree about one arm."""
    sides: dict[Side, list[str]] = {}
    for c in compared:
        sides.setdefault(c.side, []).append(known[c.metric].label)
    sides.pop("not comparable", None)
    if len(compared) < 2 or not sides:
        return []
    c, arm = compared[0], f"{compared[0].variant}{_at(compared[0].setting)}"
    if len(sides) == 1:
        words = {
            "less": f"there is less shift with {arm} than with {c.reference}",
            "more": f"there is more shift with {arm} than with {c.reference}",
            "same": f"there is as much shift with {arm} as with {c.reference}",
            "open": f"it is inconclusive whether there is less shift with {arm} than with {c.reference}",
        }
        return [f"by every definition measured {words[next(iter(sides))]}"]
    parts = [f"{_SIDES[side]} by {', '.join(labels)}" for side, labels in sides.items()]
    return [f"whether {arm} shifts less than {c.reference} depends on the definition: {'; '.join(parts)}"]


_SIDES: Mapping[Side, str] = {"less": "less", "more": "more", "same": "as much", "open": "inconclusive"}


def find_notes(
    arms: Sequence[ShiftArm], comparisons: Sequence[ShiftComparison], definitions: Sequence[Definition]
) -> Iterator[Note]:
    """How the numbers are to be read: what matters most first."""
    cells = [cell for arm in arms for cell in arm.cells]
    kinds = {definition.kind for definition in definitions}
    pairs = min((c.pairs for c in comparisons if c.pairs > 1), default=CLAIM_PAIRS)
    if pairs < CLAIM_PAIRS:
        yield Note(
            f"{pairs} paired seeds are a first indication; {CLAIM_PAIRS} or more make a claim: --seeds {CLAIM_PAIRS}",
            "A single odd run among few can make a result, and an interval computed from few runs hides how skewed"
            " they are. More seeds cost time and settle it.",
        )
    if "pair" in kinds:
        yield Note(
            "a drift is between one probe and the next; each number is the mean over units and over all such intervals",
            "A probe passes the same examples through the network at a step of training and takes down what its"
            " layers give. A drift compares two probes that follow each other: how far the distribution of a unit has"
            " moved in so many steps.",
        )
    if any(c.low is not None for c in comparisons):
        yield Note(
            "[ ] is a 95 % interval over pairs of runs with the same seed, each comparison for itself",
            "With one seed, both networks start from the same weights and see the same batches; the t-interval is of"
            " the mean over such pairs, of logarithms for ratios. Over layers it is the geometric mean of the ratios,"
            " or the mean of the differences. It is not corrected for the number of metrics: among 20 that truly"
            " stay the same, one differs by chance.",
        )
    if any(cell.trend != "open" for cell in cells):
        yield Note(
            "↑ ↓ it rose or fell from the first third of the probes to the last",
            "The mean over the last third of the probes is above or below that over the first third in so many seeds"
            " that a 95 % t-interval excludes chance. Without an arrow it may have done either, or neither.",
        )
    if any(cell.within_noise for cell in cells):
        yield Note(
            "~ within sampling noise",
            "Two samples of one and the same distribution never look quite alike. The mark stands where the number is"
            " not above the edge that 95 % of pairs of samples of one checkpoint stay below: that much would be seen"
            " if nothing had moved at all.",
        )
    if any(cell.std is not None for cell in cells):
        yield Note(
            "± is the standard deviation over seeds",
            "It says how much single runs differ from each other, not how well their mean is known: it does not shrink"
            " with more seeds.",
        )
    shares = [f"{arm.variant} {100 * arm.probing:.1f} %" for arm in arms if arm.probing is not None]
    if shares:
        yield Note(
            f"probing took, of training time: {', '.join(dict.fromkeys(shares))}",
            "What measuring cost; it changes no number of training.",
        )
