"""Figures as files: SVG, PDF and PNG by vl-convert, in the width of a style."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bncli.errors import BncliError
from bncli.files import replace_text
from bncli.report.figures.parts import Figure
from bncli.report.figures.style import STYLES, StyleName, theme

VERSION = "5.20"  # of Vega-Lite, among those that vl-convert carries


def draw(figure: Figure, path: Path, style: StyleName = "web") -> None:
    """Write one figure as its path's ending says: .svg, .pdf or .png.

    Raises:
        BncliError: without the extra `report`, for another ending, or where the file cannot be written.
    """
    content = render(figure, path.suffix.removeprefix("."), style)
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
    if form not in ("svg", "pdf", "png"):
        raise BncliError(f"figures are written as svg, pdf or png, not as {form!r}")
    converter = load_converter()
    spec = {**figure.spec, "config": theme(style) | {"background": "white"}}
    how: dict[str, Any] = {"vl_version": VERSION, "allowed_base_urls": []}
    if form == "svg":
        return str(converter.vegalite_to_svg(spec, **how))
    if form == "pdf":
        return bytes(converter.vegalite_to_pdf(spec, **how))
    return bytes(converter.vegalite_to_png(spec, scale=STYLES[style].scale, **how))


def write_figures(
    figures: Sequence[Figure], name: str, folder: Path, style: StyleName = "web", forms: Sequence[str] = ("svg", "png")
) -> list[Path]:
    """Write figures as `NAME-FIGURE.svg` and so on, and return the files.

    Raises:
        BncliError: without the extra `report`, or where the files cannot be written.
    """
    found = []
    for figure in figures:
        for form in forms:
            found.append(folder / f"{name}-{figure.name}.{form}")
            draw(figure, found[-1], style)
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
