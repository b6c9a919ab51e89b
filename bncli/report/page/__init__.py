"""Findings as one page of HTML that holds all it needs: words, tables, charts; it loads nothing."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

from bncli.code_hash import VERSION
from bncli.errors import BncliError
from bncli.findings import Findings
from bncli.findings.shift import ShiftFindings
from bncli.report.data import ReportData
from bncli.report.figures import Figure, list_figures, load_converter
from bncli.report.page.charts import bundle_library, pack_charts, place_charts
from bncli.report.page.parts import (
    PageContent,
    Section,
    bullets,
    fold,
    text,
    write_checks,
    write_facts,
    write_notes,
    write_yaml,
)
from bncli.report.page.shift import read_shift
from bncli.report.page.study import read_study
from bncli.report.page.timing import read_timing


def write_page(data: ReportData) -> str:
    """The whole page. Without the extra `report` it has no charts, and says so.

    Raises:
        BncliError: for runs that nobody compared.
    """
    saved = "" if data.command or not data.study else f"{data.name}.yaml"
    data = replace(data, command=data.command or _name_command(data, saved))
    return compose_page(data, _read(data), list_figures(data))


def compose_page(data: ReportData, content: PageContent, figures: Sequence[Figure]) -> str:
    """The page of any content, with its figures; of `data` the name, the command and the configuration."""
    library = lacking = ""
    try:
        library = bundle_library(load_converter()) if figures else ""
    except BncliError as error:
        lacking = str(error)
    script = _read_part("page.js")
    return Template(_read_part("page.html")).substitute(
        policy=_write_policy(script, *([library] if library else [])),
        version=text(VERSION),
        title=text(f"{content.question} · {data.name}"),
        name=text(data.name),
        style=_read_part("page.css"),
        body=_write_body(data, content, place_charts(figures, lacking)),
        data=pack_charts(figures, library) if library else "",
        script=script,
    )


def _read_part(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _name_command(data: ReportData, saved: str) -> str:
    """What makes such findings, where nobody has said how these were made: from the configuration, once it is saved."""
    shift, study = (isinstance(data.findings, kind) for kind in (ShiftFindings, Findings))
    return f"bncli {'shift-report' if shift else 'compare' if study else 'bench'} {saved or data.name}"


def _read(data: ReportData) -> PageContent:
    if isinstance(data.findings, Findings):
        return read_study(data, data.findings)
    if isinstance(data.findings, ShiftFindings):
        return read_shift(data, data.findings)
    if data.findings is None:
        raise BncliError("a page shows what was found; these runs were not compared: bncli compare makes findings")
    return read_timing(data, data.findings)


def _write_body(data: ReportData, content: PageContent, charts: str) -> str:
    first, *more = content.answer or ("nothing could be compared",)
    setup = "".join(f'<p class="setup text">{text(line)}</p>' for line in content.setup if line)
    answer = f'<div class="answer" role="region" aria-label="Answer"><p>{text(first)}</p>{bullets(more)}</div>'
    repeat = f'<pre class="command" tabindex="0">{text(data.command)}</pre>' if data.command else ""
    if data.command.endswith(f" {data.name}.yaml"):
        repeat += f"<p>Save the configuration below as {text(data.name)}.yaml first.</p>"
    if data.study:
        configuration = f'<pre tabindex="0">{text(write_yaml(data.study))}</pre>'
        repeat += fold("The whole configuration: a preset to save and to run by its path", configuration)
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
    question = content.question[:1].upper() + content.question[1:]
    body = "".join(f'<section id="{s.name}"><h2>{text(s.title)}</h2>{s.body}</section>' for s in shown)
    navigation = f'<nav aria-label="On this page"><ul>{links}</ul></nav>'
    return f"<h1>{text(question)}</h1>{setup}{answer}{navigation}{body}"


def _write_policy(*scripts: str) -> str:
    """What a browser may do with the page: run these scripts, and load nothing."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
