"""What the catalogue says of metrics of shift, as a page."""

import math
from collections.abc import Mapping
from typing import Any

_HEADS = ("metric", "what it is", "formula", "unit", "range", "nothing", "better", "of each", "tier", "source")


def metric_table(metrics: Mapping[str, Any]) -> str:
    """Every row as one line of a Markdown table."""
    lines = [_HEADS, ("---",) * len(_HEADS), *(_cells(name, row) for name, row in metrics.items())]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _cells(name: str, row: Any) -> tuple[str, ...]:
    nothing = "" if row.null is None else f"{row.null:g}"
    formula, unit = f"`{row.formula}`", row.unit or "-"
    spans = f"{_end(row.low)} to {_end(row.high)}"
    return (f"`{name}`", row.summary, formula, unit, spans, nothing, row.better or "", row.per, row.tier, row.citation)


def _end(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else "-∞" if value < 0 else "∞"
