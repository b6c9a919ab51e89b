"""Draws figures: a Vega-Lite specification to SVG and PNG, by vl-convert (extra `report`), without a network."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from bncli.errors import BncliError

VERSION = "5.20"  # of Vega-Lite, among those that vl-convert carries


def draw(spec: Mapping[str, Any], path: Path) -> list[Path]:
    """Write `path` with the endings .svg and .png, and return both.

    Raises:
        BncliError: without the extra `report`, or where the files cannot be written.
    """
    converter = _converter()
    svg = converter.vegalite_to_svg(dict(spec), vl_version=VERSION, allowed_base_urls=[])
    png = converter.vegalite_to_png(dict(spec), vl_version=VERSION, scale=2, allowed_base_urls=[])
    files = [path.with_name(f"{path.name}.{ending}") for ending in ("svg", "png")]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files[0].write_text(svg, encoding="utf-8")
        files[1].write_bytes(png)
    except OSError as error:
        raise BncliError(f"{path.parent}: cannot write figures: {error.strerror}") from None
    return files


def _converter() -> ModuleType:
    try:
        import vl_convert
    except ImportError:
        raise BncliError("figures need vl-convert: pip install 'bncli[report]'") from None
    found: ModuleType = vl_convert
    return found
