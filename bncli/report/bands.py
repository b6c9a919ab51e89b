"""Courses over training drawn on a terminal: percentile bands (figure 1 b, c of the paper), and curves in one panel."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille character: left column, right column
_NARROWEST = 28  # characters of a panel that still shows a course
_GAP = 2  # characters between panels

Span = tuple[float, float]  # the least and the largest value of the scale


@dataclass(frozen=True)
class Band:
    """A lower, a middle and an upper line over training steps."""

    label: str  # who: a variant
    steps: Sequence[float]
    low: Sequence[float]
    middle: Sequence[float]
    high: Sequence[float]
    panel: str = ""  # in which panel of a figure; "": one of its own


@dataclass(frozen=True)
class BandPlot:
    """Bands side by side on one scale, as many in a row as fit; printed by rich.

    Lines are drawn in braille, the middle one bold; in plain characters where the console knows only those.
    """

    bands: Sequence[Band]
    height: int = 12  # lines of a panel

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield from band_lines(self.bands, options.max_width, self.height, plain=options.ascii_only)


def band_lines(bands: Sequence[Band], room: int, height: int = 12, *, plain: bool = False) -> list[Text]:
    """The panels of all bands as lines of at most `room` characters; `plain` keeps to ASCII."""
    values = [v for band in bands for line in (band.low, band.middle, band.high) for v in line if math.isfinite(v)]
    if not values:
        return [Text("no finite values to draw")]
    bottom, top = min(values), max(values)
    if bottom == top:
        bottom, top = bottom - 1, top + 1
    ticks = nice_ticks(bottom, top, max(height // 3, 2))
    margin = max(len(_number(tick, ticks)) for tick in ticks) + 1
    columns = max(min(len(bands), (room - margin + _GAP) // (_NARROWEST + _GAP)), 1)
    width = max((room - margin - (columns - 1) * _GAP) // columns - 1, 8)
    lines: list[Text] = []
    for start in range(0, len(bands), columns):
        row = bands[start : start + columns]
        panels = [_panel(band, (bottom, top), width, height, plain=plain) for band in row]
        lines += [Text("")] if lines else []
        for scale, *parts in zip(_scale(ticks, (bottom, top), height, margin), *panels, strict=True):
            line = Text(" " * _GAP).join(parts)
            lines.append(Text(scale, style="dim") + line)
            lines[-1].rstrip()
    return lines


@dataclass(frozen=True)
class PlottedLine:
    """One curve of several in one panel."""

    label: str  # who: a variant
    steps: Sequence[float]
    values: Sequence[float]
    last: str = ""  # its last value, as it is written


def needs_letters(console: Console) -> bool:
    """Whether curves cannot be told apart by colours in braille there."""
    return console.options.ascii_only or not console.color_system


STYLES = ("", "cyan", "yellow", "magenta", "green", "blue", "red", "bright_black")  # as many curves as are told apart


def curve_lines(lines: Sequence[PlottedLine], room: int, height: int = 12, *, letters: bool) -> list[Text]:
    """Curves in one panel of at most `room` characters, and who is who below it.

    Args:
        lines: at most as many as there are `STYLES`.
        room: characters of a line.
        height: lines of the panel.
        letters: tell curves apart by letters in ASCII, not by colours in braille.
    """
    values = [v for line in lines for v in line.values if math.isfinite(v)]
    if not values:
        return []
    bottom, top = min(values), max(values)
    if bottom == top:
        bottom, top = bottom - 1, top + 1
    ticks = nice_ticks(bottom, top, max(height // 3, 2))
    margin = max(len(_number(tick, ticks)) for tick in ticks) + 1
    width = max(min(room - margin - 1, 100), 8)
    first, last = min(line.steps[0] for line in lines), max(line.steps[-1] for line in lines)
    across, down = (1, 1) if letters else (2, 4)
    size = (width * across, height * down)
    dots = [set(_dots(*_over(line, first, last), (bottom, top), size)) for line in lines]
    corner, floor, wall = ("+", "-", "|") if letters else ("└", "─", "│")
    rows = []
    for r, scale in zip(range(height), _scale(ticks, (bottom, top), height, margin)[1:], strict=False):
        row = Text(scale + wall, style="dim")
        for c in range(width):
            cell = {(c * across + i, r * down + j) for i in range(across) for j in range(down)}
            here = [k for k, own in enumerate(dots) if own & cell]
            shown = here[c % len(here)] if here else 0  # curves that share a place take it in turn
            bits = sum({_DOTS[x - c * across][y - r * down] for k in here for x, y in dots[k] & cell})
            mark = chr(ord("a") + shown) if letters else chr(0x2800 + bits)
            row.append(mark if here else " ", style=STYLES[shown] or "not dim")
        row.rstrip()
        rows.append(row)
    ends = f"{first:,.0f}", f"{last:,.0f} steps"
    rows += [Text(" " * margin + corner + floor * width, style="dim")]
    rows += [Text(" " * (margin + 1) + ends[0] + ends[1].rjust(width - len(ends[0])), style="dim")]
    return [*rows, *_who_is_who(lines, room, letters=letters)]


def _over(line: PlottedLine, first: float, last: float) -> tuple[list[float], list[float]]:
    """A curve from the first to the last step of all: nothing where it has no values."""
    before = [first, line.steps[0]] if line.steps[0] > first else []
    after = [line.steps[-1], last] if line.steps[-1] < last else []
    gaps = [math.nan] * len(before), [math.nan] * len(after)
    return [*before, *line.steps, *after], [*gaps[0], *line.values, *gaps[1]]


def _who_is_who(lines: Sequence[PlottedLine], room: int, *, letters: bool) -> Iterator[Text]:
    """Marks, names and last values, as many in a row as fit."""
    parts = [
        f"{chr(ord('a') + k) if letters else '━'} {line.label} {line.last}".rstrip() for k, line in enumerate(lines)
    ]
    widest = max(map(cell_len, parts)) + 3
    columns = max((room - 1) // widest, 1)
    for start in range(0, len(parts), columns):
        row = Text(" ")
        for k in range(start, min(start + columns, len(parts))):
            row += Text(parts[k], style=STYLES[k]) + Text(" " * (widest - cell_len(parts[k])))
        row.rstrip()
        yield row


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them, evenly spaced."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _panel(band: Band, span: Span, width: int, height: int, *, plain: bool) -> list[Text]:
    """Title, drawing and axis of one band: height + 3 lines, each `width` + 1 characters wide."""
    corner, floor, wall = ("+", "-", "|") if plain else ("└", "─", "│")
    first, last = band.steps[0], band.steps[-1]
    title = band.label if cell_len(band.label) <= width else band.label[: width - 1] + ("." if plain else "…")
    ends = f"{first:,.0f}", f"{last:,.0f} steps"
    below = ends[0] + ends[1].rjust(width - len(ends[0])) if len(" ".join(ends)) <= width else ends[1].rjust(width)
    drawing = _drawing(band, span, width, height, plain=plain)
    rows = [
        Text(" ") + Text(title.center(width), style="bold"),
        *(Text(wall, style="dim") + row for row in drawing),
        Text(corner + floor * width, style="dim"),
        Text(" " + below[:width], style="dim"),
    ]
    for row in rows:
        row.pad_right(width + 1 - row.cell_len)
    return rows


def _drawing(band: Band, span: Span, width: int, height: int, *, plain: bool) -> list[Text]:
    """The three lines as rows of characters."""
    across, down = (1, 1) if plain else (2, 4)  # dots of a character
    size = (width * across, height * down)
    outer = {dot for line in (band.low, band.high) for dot in _dots(band.steps, line, span, size)}
    middle = set(_dots(band.steps, band.middle, span, size))
    rows = []
    for r in range(height):
        row = Text()
        for c in range(width):
            cell = {(c * across + i, r * down + j) for i in range(across) for j in range(down)}
            core, edge = cell & middle, cell & outer
            if plain:
                row.append("*" if core else "." if edge else " ", style="bold" if core else "")
            else:
                bits = sum(_DOTS[x - c * across][y - r * down] for x, y in core | edge)
                row.append(chr(0x2800 + bits) if bits else " ", style="bold cyan" if core else "cyan" if edge else "")
        rows.append(row)
    return rows


def _dots(
    steps: Sequence[float], values: Sequence[float], span: Span, size: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Dots (from the left, from the top) of a line, each column joined with the next; none where it is not finite."""
    (bottom, top), (width, height) = span, size
    at = list(_resampled(steps, values, width))
    heights = [None if v is None else round((top - v) / (top - bottom) * (height - 1)) for v in at]
    for x, (here, there) in enumerate(pairwise([*heights, None])):
        if here is None:
            continue
        reach = here if there is None else there
        nearer = (here + reach) // 2  # half of the rise in this column, half in the next
        yield from ((x, y) for y in range(min(here, nearer), max(here, nearer) + 1))
        if there is not None:
            yield from ((x + 1, y) for y in range(min(nearer, there), max(nearer, there) + 1))


def _resampled(steps: Sequence[float], values: Sequence[float], count: int) -> Iterator[float | None]:
    """`count` values evenly spaced over the steps, linear between neighbours; None beside what is not finite."""
    first, last = steps[0], steps[-1]
    for i in range(count):
        step = first + (last - first) * i / max(count - 1, 1)
        after = min(max(bisect_right(steps, step), 1), len(steps) - 1)
        before = max(after - 1, 0)
        span = steps[after] - steps[before]
        share = (step - steps[before]) / span if span else 0.0
        value = values[before] + (values[after] - values[before]) * share
        yield value if math.isfinite(value) else None


def _scale(ticks: Sequence[float], span: Span, height: int, margin: int) -> list[str]:
    """What stands left of the panels: nothing, a number at each tick, nothing twice."""
    bottom, top = span
    rows = [" " * margin] * height
    for tick in ticks:
        row = round((top - tick) / (top - bottom) * (height - 1))
        rows[row] = _number(tick, ticks).rjust(margin - 1) + " "
    return [" " * margin, *rows, " " * margin, " " * margin]


def _number(tick: float, ticks: Iterable[float]) -> str:
    decimals = max((len(f"{t:.6g}".partition(".")[2]) for t in ticks), default=0)
    return f"{tick:z.{decimals}f}" if abs(tick) < 1e6 else f"{tick:.2g}"
