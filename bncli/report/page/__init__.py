"""Findings as one page of HTML that holds all it needs: words, tables, charts; it loads nothing."""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template
from types import ModuleType
from typing import Any

from bncli.code_hash import VERSION as BNCLI
from bncli.errors import BncliError
from bncli.findings import Findings
from bncli.findings.shift import ShiftFindings
from bncli.report.data import ReportData
from bncli.report.figures import Figure, list_figures, load_converter, theme
from bncli.report.figures.files import VERSION
from bncli.report.page.parts import (
    PageContent,
    Section,
    bullets,
    paragraphs,
    text,
    write_checks,
    write_facts,
    write_notes,
    write_yaml,
)
from bncli.report.page.shift import read_shift
from bncli.report.page.study import read_study
from bncli.report.page.timing import read_timing

_HERE = Path(__file__).parent


def write_page(data: ReportData) -> str:
    """The whole page. Without the extra `report` it has no charts, and says so.

    Raises:
        BncliError: for runs that nobody compared.
    """
    content = _read(data)
    figures = list_figures(data)
    try:
        library = _bundle(load_converter()) if figures else ""
    except BncliError as error:
        library, reason = "", str(error)
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    stored = {"library": library, "figures": json.dumps(_charts(figures), allow_nan=False)} if library else {}
    body = "".join(_sections(data, content, _figures(figures, "" if library or not figures else reason)))
    return Template((_HERE / "page.html").read_text(encoding="utf-8")).substitute(
        policy=_policy(script, *([library] if library else [])),
        version=text(BNCLI),
        title=text(f"{content.question} · {data.name}"),
        name=text(data.name),
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        body=body,
        data="\n".join(f'<script type="application/octet-stream" id="{name}">{_pack(part)}</script>'
                       for name, part in stored.items()),
        script=script,
    )  # fmt: skip


def _read(data: ReportData) -> PageContent:
    if isinstance(data.findings, Findings):
        return read_study(data, data.findings)
    if isinstance(data.findings, ShiftFindings):
        return read_shift(data, data.findings)
    if data.findings is None:
        raise BncliError("a page shows what was found; these runs were not compared: bncli compare makes findings")
    return read_timing(data, data.findings)


def _sections(data: ReportData, content: PageContent, charts: str) -> list[str]:
    first, *more = content.answer or ("nothing could be compared",)
    setup = "".join(f'<p class="setup text">{text(line)}</p>' for line in content.setup if line)
    answer = (
        f'<div class="answer" id="answer" role="region" aria-label="Answer"><p>{text(first)}</p>{bullets(more)}</div>'
    )
    repeat = f'<pre class="command" tabindex="0">{text(data.command)}</pre>' if data.command else ""
    if data.study:
        repeat += (
            '<details class="wide"><summary>The whole configuration: a preset, to be saved as a file and run by its path'
            f'</summary><pre tabindex="0">{text(write_yaml(data.study))}</pre></details>'
        )
    sections = [
        Section("next", "What to do next", bullets(content.next_steps)),
        *content.tables,
        Section("warnings", "Warnings", bullets(content.warnings, "warnings")),
        Section("charts", "Charts", charts),
        *content.details,
        Section("checks", "Checks", write_checks(content.checks, "What had to hold, and whether it did")),
        Section("notes", "How to read the numbers", write_notes(content.notes)),
        Section("repeat", "How to repeat it", repeat + write_facts(content.facts)),
    ]
    shown = [section for section in sections if section.body]
    links = "".join(f'<li><a href="#{s.name}">{text(s.title)}</a></li>' for s in shown)
    return [
        f"<h1>{text(_sentence(content.question))}</h1>{setup}{answer}",
        f'<nav aria-label="On this page"><ul>{links}</ul></nav>',
        *(f'<section id="{s.name}" aria-labelledby="{s.name}-title"><h2 id="{s.name}-title">{text(s.title)}</h2>{s.body}'
          "</section>" for s in shown),
    ]  # fmt: skip


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _figures(figures: list[Figure], lacking: str) -> str:
    """Places for charts, with their words; `lacking` says why there are none."""
    if not figures or lacking:
        return paragraphs([f"The charts are missing: {lacking}; then write the page again."]) if lacking else ""
    places = "".join(
        f'<figure id="figure-{text(f.name)}"{_wide(f.spec)}><h3>{text(f.title)}</h3><figcaption>{text(f.caption)}'
        '</figcaption><div class="tools" hidden></div>'
        f'<div class="chart" tabindex="0" role="group" aria-roledescription="chart" aria-label="{text(f.alt)} '
        'Arrow keys read the values, plus and minus zoom, 0 resets."><p class="waits soft">The chart is being drawn.</p>'
        '</div><p class="reading" role="status"></p>'
        '<details><summary>Values as a table</summary><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(f.title)}: values"></div></details></figure>'
        for f in figures
    )
    return (
        '<noscript><p>The charts need JavaScript. Every number of the verdicts is in the tables of this page.</p></noscript>'
        '<p class="soft">Point at a chart to read its values, or move to it with the Tab key and use the arrow keys. Drag '
        "to move it, turn the wheel with Ctrl held down to zoom.</p>"
        f'<fieldset class="board" id="variants" hidden><legend>Variants that are drawn</legend></fieldset>'
        f'<div class="charts">{places}</div>'
    )  # fmt: skip


def _wide(spec: Mapping[str, Any]) -> str:
    return ' class="wide"' if any(key in spec for key in ("facet", "hconcat", "concat")) else ""


def _charts(figures: list[Figure]) -> dict[str, Any]:
    charts = [{"name": f.name, "title": f.title, "spec": f.spec} for f in figures]
    return {"theme": _join(theme("web"), theme("web", dark=True)), "figures": charts}


def _join(light: Any, dark: Any) -> Any:
    """Two themes as one, whose colours follow the page's."""
    if isinstance(light, Mapping):
        return {key: _join(value, dark[key]) for key, value in light.items()}
    if isinstance(light, list):
        return [_join(*pair) for pair in zip(light, dark, strict=True)]
    return light if light == dark else f"light-dark({light}, {dark})"


@cache
def _bundle(converter: ModuleType) -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that leaves only `vegaEmbed` behind."""
    snippet = "window.vegaEmbed = vegaEmbed;"
    return "(() => {" + str(converter.javascript_bundle(snippet, vl_version=VERSION)) + "})();"


def _pack(content: str) -> str:
    return base64.b64encode(gzip.compress(content.encode(), 9, mtime=0)).decode()


def _policy(*scripts: str) -> str:
    """What a browser may do with the page: run these scripts, and load nothing."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
