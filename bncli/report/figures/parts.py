"""What figures share: their form, numbers that are short, colours and dashes that belong to variants."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncli.errors import as_line
from bncli.findings import Arm
from bncli.findings.shift import ShiftArm

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name; nothing is fetched
MOST_POINTS = 120  # of a curve: more cannot be told apart in a column of print, and swell a page

# The dashes and shapes that tell variants apart without colour, in the order of `style.COLOURS`.
DASHES = (
    [1, 0], [8, 2], [2, 2], [8, 2, 2, 2], [4, 4], [12, 3], [4, 2, 1, 2], [1, 4], [8, 2, 2, 2, 2, 2], [12, 3, 4, 3],
    [2, 6], [12, 3, 1, 3],
)  # fmt: skip
SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left", "arrow",
    "wedge", "stroke", "triangle",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One picture: a Vega-Lite specification without a style, and what stands around it in words.

    In a `spec` whose marks belong to variants the parameter `hidden` lists those that are not drawn; where single seeds
    can be drawn, `seeds` says whether they are. A layer called `hover` has invisible marks for tooltips alone.
    """

    name: str  # for files and links: "convergence"
    title: str  # what is seen
    caption: str  # how it is to be read, one sentence
    alt: str  # what it shows, for who does not see it
    spec: Spec


def make_figure(name: str, title: str, caption: str, alt: str, spec: Mapping[str, Any]) -> Figure:
    """A figure whose specification carries its title and is otherwise as given."""
    head = {"$schema": SCHEMA, "title": {"text": title, "subtitle": caption}, "description": alt}
    return Figure(name, title, caption, alt, _printable({**head, **spec}))


def _printable(part: Any) -> Any:
    """The same with names on one line and without control characters, which neither Vega nor SVG takes."""
    if isinstance(part, Mapping):
        return {key: _printable(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_printable(value) for value in part]
    return as_line(part) if isinstance(part, str) else part


def short(number: float | None) -> float | int | None:
    """A number with four significant digits; None where it cannot be drawn."""
    if number is None or not math.isfinite(number):
        return None
    rounded = float(f"{number:.4g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def thin(count: int, most: int = MOST_POINTS) -> list[int]:
    """Indices of at most `most` points of `count`, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def unique(names: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(names))


def order_variants(arms: Sequence[Arm] | Sequence[ShiftArm]) -> list[str]:
    """The reference first, then the others in their order: by this each has its colour, its dash and its shape."""
    references = [arm.variant for arm in arms if arm.is_reference]
    return unique([*references, *(arm.variant for arm in arms)])


def colour(variants: Sequence[str], *, legend: bool = True) -> Spec:
    """A colour a variant, out of the style's own list."""
    shown = {} if legend and len(variants) > 1 else {"legend": None}
    return {"field": "variant", "type": "nominal", "sort": None, "scale": {"domain": list(variants)}, **shown}


def dash(variants: Sequence[str], *, legend: bool = True) -> Spec:
    """A dash a variant; the reference alone is drawn through."""
    dashes = [DASHES[i % len(DASHES)] for i in range(len(variants))]
    return _ranged(variants, dashes, legend=legend)


def shape(variants: Sequence[str], *, legend: bool = True) -> Spec:
    """A shape a variant."""
    return _ranged(variants, [SHAPES[i % len(SHAPES)] for i in range(len(variants))], legend=legend)


def _ranged(variants: Sequence[str], values: Sequence[Any], *, legend: bool) -> Spec:
    coloured = colour(variants, legend=legend)
    return {**coloured, "scale": {"domain": list(variants), "range": list(values)}}


STEPS: Spec = {  # of an axis: 0, 200, 1,000, 20k
    "tickCount": 5, "labelOverlap": True, "labelSeparation": 4,
    "labelExpr": "datum.value < 10000 ? format(datum.value, ',') : format(datum.value, '~s')",
}  # fmt: skip
GRADIENT: Spec = {"orient": "top", "direction": "horizontal", "titleOrient": "left"}

HIDDEN: Spec = {"name": "hidden", "value": []}
SEEDS: Spec = {"name": "seeds", "value": False}
SHOWN: Spec = {"filter": "indexof(hidden, datum.variant) < 0"}


def facet(panels: Sequence[str], layers: Sequence[Spec], field: str = "at", columns: int = 0, **size: Any) -> Spec:
    """Layers in a panel for each value of a field, or in one where there is one: no panel stands empty.

    Args:
        panels: the field's values, in order.
        layers: of every panel.
        field: by which the data are told apart.
        columns: of panels; 0 is as many as fit.
        size: width or height, where a panel's are not the usual ones.
    """
    if len(panels) < 2:
        return {"width": 480, "height": 280, **size, "layer": list(layers)}
    columns = columns or (2 if len(panels) in (2, 4) else 3)
    width = 250 if columns == 2 else 160
    spec: Spec = {
        "facet": {"field": field, "type": "nominal", "sort": list(panels)},
        "columns": columns,
        "spec": {"width": width, "height": round(0.7 * width), **size, "layer": list(layers)},
    }
    # a last row that is not full would have shared axes of panels that are not there
    return {**spec, "resolve": {"axis": {"x": "independent"}}} if len(panels) % columns else spec
