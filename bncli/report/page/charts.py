"""The charts of a page: places for them, what draws them, what they show; one look that follows light and dark."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

from bncli.report.figures import Figure, theme
from bncli.report.figures.files import VERSION
from bncli.report.page.parts import paragraphs, text


def place_charts(figures: Sequence[Figure], lacking: str = "") -> str:
    """Places for charts, with their words; `lacking` says why there are none."""
    if not figures or lacking:
        return paragraphs([f"The charts are missing: {lacking}; then write the page again."]) if lacking else ""
    places = "".join(
        f'<figure id="figure-{text(f.name)}"{_wide(f.spec)}><h3>{text(f.title)}</h3>'
        f'<figcaption>{text(f.caption)}</figcaption><div class="tools" hidden></div>'
        f'<div class="chart" tabindex="0" role="group" aria-roledescription="chart" aria-label="{text(f.alt)} '
        'Arrow keys read the values, plus and minus zoom, 0 resets."><p class="waits soft">This chart is drawn by'
        ' JavaScript.</p></div><p class="reading" role="status"></p>'
        '<details><summary>Values as a table</summary><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(f.title)}: values"></div></details></figure>'
        for f in figures
    )
    return (
        "<noscript><p>The charts need JavaScript. The numbers behind every verdict are in the tables of this page.</p>"
        '</noscript><p class="hint soft">Point at a chart to read its values, or go to it by the Tab key and use the'
        " arrow keys. Drag to move it; turn the wheel with Ctrl held down to zoom.</p>"
        '<fieldset class="board" id="variants" hidden><legend>Variants that are drawn</legend></fieldset>'
        f'<div class="charts">{places}</div>'
    )  # fmt: skip


@cache
def bundle_library(converter: ModuleType) -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that leaves only `vegaEmbed` behind."""
    snippet = "window.vegaEmbed = vegaEmbed;"
    return "(() => {" + str(converter.javascript_bundle(snippet, vl_version=VERSION)) + "})();"


def pack_charts(figures: Sequence[Figure], library: str) -> str:
    """What draws the charts and what they show, compressed: half a megabyte instead of one and a half."""
    charts = [{"name": f.name, "title": f.title, "spec": f.spec} for f in figures]
    shown = {"theme": _join(theme("web"), theme("web", dark=True)), "figures": charts}
    parts = {"library": library, "figures": json.dumps(shown, allow_nan=False)}
    return "\n".join(
        f'<script type="application/octet-stream" id="{name}">{_pack(part)}</script>' for name, part in parts.items()
    )


def _join(light: Any, dark: Any) -> Any:
    """Two themes as one, whose colours follow the page's."""
    if isinstance(light, Mapping):
        return {key: _join(value, dark[key]) for key, value in light.items()}
    if isinstance(light, list):
        return [_join(*pair) for pair in zip(light, dark, strict=True)]
    return light if light == dark else f"light-dark({light}, {dark})"


def _pack(content: str) -> str:
    return base64.b64encode(gzip.compress(content.encode(), 9, mtime=0)).decode()


def _wide(spec: Mapping[str, Any]) -> str:
    """Panels in three columns and more take the whole width of a page."""
    return ' class="wide"' if "hconcat" in spec or spec.get("columns", 1) > 2 else ""
