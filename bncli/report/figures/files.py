"""Figures as files: SVG, PDF and PNG by vl-convert, in the width of a style."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from types import ModuleType
from typing import Any

from bncli.errors import BncliError
from bncli.files import replace_text
from bncli.report.figures.parts import Figure, Spec
from bncli.report.figures.style import STYLES, StyleName, theme

VERSION = "5.20"  # of Vega-Lite, among those that vl-convert carries


def draw(figure: Figure, path: Path, style: StyleName = "web") -> None:
    """Write one figure as its path's ending says: .svg, .pdf or .png.

    Raises:
        BncliError: without the extra `report`, for another ending, or where the file cannot be written.
    """
    _put(path, render(figure, path.suffix.removeprefix("."), style))


def _put(path: Path, content: str | bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, content)
    except OSError as error:
        raise BncliError(f"{path.parent}: cannot write figures: {error.strerror}") from None


def render(figure: Figure, form: str, style: StyleName = "web") -> str | bytes:
    """One figure as the content of a file.

    Args:
        figure: what is drawn.
        form: svg, pdf or png.
        style: whose width and type it has.

    Raises:
        BncliError: without the extra `report`, or for another form.
    """
    return _convert(_write_svg(figure, style), form, style)


def _write_svg(figure: Figure, style: StyleName) -> str:
    spec = _fit(_dress(figure, style), style)
    return str(load_converter().vegalite_to_svg(spec, vl_version=VERSION, allowed_base_urls=[]))


def _convert(svg: str, form: str, style: StyleName) -> str | bytes:
    if form == "svg":
        return svg
    if form == "pdf":
        return bytes(load_converter().svg_to_pdf(svg))
    if form == "png":
        return bytes(load_converter().svg_to_png(svg, scale=STYLES[style].scale))
    raise BncliError(f"figures are written as svg, pdf or png, not as {form!r}")


def _dress(figure: Figure, style: StyleName) -> Spec:
    """The specification of a file: with a configuration, without what only a pointer or a choice would show.

    On paper the words around a figure are the paper's; elsewhere they are broken into lines. A legend has as many
    columns as its labels leave room for.
    """
    size = STYLES[style]
    spec = _without_hover(figure.spec, size.line / 2)
    if "data" in spec:
        spec["data"] = {"values": [row for row in spec["data"]["values"] if "seed" not in row]}
    config = theme(style) | {"background": "white"}
    if style == "paper":
        spec = {key: value for key, value in spec.items() if key != "title"}
    else:
        letters = int(size.width / (0.52 * size.text))
        spec["title"] = {
            "text": wrap(figure.title, int(letters / 1.25)), "subtitle": wrap(figure.caption, letters)
        }  # fmt: skip
    if style != "web" and (columns := spec.get("columns", 1)) > 1:
        labelled = spec.get("resolve", {}).get("scale", {}).get("y") == "independent"  # each panel by itself
        spec["columns"] = 1 if labelled and columns == 2 and style == "paper" else 2
    for height in _find(spec, "height"):
        height["step"] = height["step"] * size.text / STYLES["web"].text
    labels = [str(label) for scale in _find(spec, "scale") for label in scale.get("domain", ())]
    widest = (max(map(len, labels), default=1) * 0.52 + 3.2) * size.text
    if any(True for _ in _find(spec, "shape")):
        config["legend"]["symbolSize"] = config["point"]["size"]
    config["legend"]["columns"] = max(1, min(len(set(labels)) or 1, int(size.width / widest)))
    return {**spec, "config": config}


def _without_hover(spec: Any, dashes: float) -> Any:
    """Without layers for a pointer, and with dashes as much longer or shorter as lines are thicker or thinner."""
    if isinstance(spec, dict):
        found = {k: v if k == "data" else _without_hover(v, dashes) for k, v in spec.items()}
        if isinstance(encoded := found.get("strokeDash"), dict):
            scale = encoded["scale"]
            scale["range"] = [[round(part * dashes, 2) for part in dash] for dash in scale["range"]]
        return found
    if isinstance(spec, list):
        kept = [each for each in spec if not (isinstance(each, dict) and each.get("name") == "hover")]
        return [_without_hover(each, dashes) for each in kept]
    return spec


def _find(spec: Any, key: str) -> Iterator[Any]:
    """Everything that stands under a key, however deep."""
    if isinstance(spec, dict):
        for name, value in spec.items():
            if name == key and isinstance(value, dict):
                yield value
            if name != "data":
                yield from _find(value, key)
    elif isinstance(spec, list):
        for each in spec:
            yield from _find(each, key)


def _fit(spec: Spec, style: StyleName) -> Spec:
    """The same with panels so wide that the whole is as wide as the style says.

    Axes, legends and gaps keep their size, so the whole grows with the panels along a straight line, of which two
    points are measured.
    """
    wanted, bare = STYLES[style].width, {key: value for key, value in spec.items() if key != "title"}
    full, twice = _measure(bare), _measure(_scale(bare, 2))
    factor = max(1 + (wanted - full) / max(twice - full, 1), 0.1)
    panels = "columns" in spec or "vconcat" in spec  # whose headings may be wider than they are
    if panels and abs((found := _measure(_scale(bare, factor))) - wanted) > wanted / 50:
        factor = max(factor + (wanted - found) * (factor - 1) / (found - full or 1), 0.1)
    fitted: Spec = _scale(spec, factor)
    cell = next((width["step"] for width in _find(fitted, "width")), None)
    return fitted if cell is None or cell > 2.3 * STYLES[style].text else _without_words(fitted)


def _without_words(spec: Any) -> Any:
    """Without the numbers in cells that are narrower than they are."""
    if isinstance(spec, dict):
        return {key: _without_words(value) for key, value in spec.items()}
    if isinstance(spec, list):
        return [_without_words(e) for e in spec if not (isinstance(e, dict) and _style(e) == "cell")]
    return spec


def _style(layer: Spec) -> Any:
    return layer["mark"].get("style") if isinstance(layer.get("mark"), dict) else None


def _measure(spec: Spec) -> float:
    svg = load_converter().vegalite_to_svg(spec, vl_version=VERSION, allowed_base_urls=[])
    found = re.search(r'<svg[^>]* width="([\d.]+)"', svg)
    assert found
    return float(found[1])


def _scale(spec: Any, factor: float) -> Any:
    """Widths and heights of all panels, times a factor."""
    if isinstance(spec, list):
        return [_scale(each, factor) for each in spec]
    if not isinstance(spec, dict):
        return spec
    found: Spec = {}
    for key, value in spec.items():
        if key in ("width", "height") and isinstance(value, int | float):
            found[key] = value * factor
        elif key == "width" and isinstance(value, dict) and "step" in value:
            found[key] = {**value, "step": value["step"] * factor}
        elif key in ("spec", "layer", "hconcat", "vconcat", "concat", "width", "height"):
            found[key] = _scale(value, factor)
        else:
            found[key] = value
    return found


def write_figures(
    figures: Sequence[Figure], name: str, folder: Path, style: StyleName = "web", forms: Sequence[str] = ("svg", "png")
) -> list[Path]:
    """Write figures as `NAME-FIGURE.svg` and so on, and return the files.

    Raises:
        BncliError: without the extra `report`, or where the files cannot be written.
    """
    found = []
    for figure in figures:
        svg = _write_svg(figure, style)
        for form in forms:
            found.append(folder / f"{name}-{figure.name}.{form}")
            _put(found[-1], _convert(svg, form, style))
    return found


def require_plots(folder: Path) -> None:
    """Make sure that figures can be drawn and written, before hours of work go into them.

    Raises:
        BncliError: if they cannot.
    """
    load_converter()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise BncliError(f"--plot {folder}: cannot write figures: {there} is not a folder that can be written to")


def load_converter() -> ModuleType:
    """What draws a specification.

    Raises:
        BncliError: without the extra `report`.
    """
    try:
        import vl_convert
    except ImportError:
        raise BncliError("figures need vl-convert: pip install 'bncli[report]'") from None
    found: ModuleType = vl_convert
    return found
