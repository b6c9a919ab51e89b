"""Writes docs/papers.md, and the rows of docs/claims.md, from what presets measured.

    bncli compare PRESET --check --json FOLDER/PRESET.json     # for each preset
    python docs/papers.py FOLDER

What stands there of presets without a document in the folder stays as it is.
"""

import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from bncli.api.stored import read_report
from bncli.config import read_study
from bncli.findings import Findings, Judgement
from bncli.format import written_claim, written_detectable, written_judgement
from bncli.presets import preset_path
from bncli.report.data import ReportData
from bncli.report.figures import draw, list_figures
from bncli.report.markup import export_markdown
from bncli.report.sheet import lay_out

DOCS = Path(__file__).parent
FIGURES = {"bert": "tuning-lr"}  # preset and the name of its figure, in docs/figures
MARK = "<!-- {} -->"  # where a preset's section begins


def minutes(data: ReportData) -> int:
    """What its runs took, on two cores: those of a search too."""
    return max(1, round(sum(sum(run.result.info.seconds.values()) for run in data.runs if run.result) / 120))


def measured(judged: Judgement) -> str:
    """The number with its interval, and of how many pairs or runs it is."""
    return f"{written_judgement(judged)}, {judged.pairs} {'runs' if judged.claim.kind == 'level' else 'pairs'}"


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def section(data: ReportData) -> str:
    """The question, what the preset's head says of the paper and of our choices, and the tables."""
    name = data.name
    head = re.match(r"(?:#.*\n)+", preset_path(name).read_text())
    assert head
    assert isinstance(data.findings, Findings)
    said = re.sub(r"(?m)^# ?", "", head[0])
    laid = lay_out(data)
    tables = tuple(  # times were taken beside other work
        (title, [column for column in columns if column.title != "ms/step"]) for title, columns in laid.tables
    )
    sheet = replace(laid, tables=tables, setup=(), notes=(), warnings=(), checks=(), command="")
    shown = export_markdown(sheet).split("\n", 1)[1]
    lines = [
        MARK.format(name),
        f"## {name}",
        "",
        said,
        f"`bncli compare {name} --check`; about {minutes(data)} min.",
        shown,
    ]
    if name in FIGURES:
        figure = next(each for each in list_figures(data) if each.name == FIGURES[name])
        draw(figure, DOCS / "figures" / f"{name}.svg", "web")
        lines += [f"![{figure.alt}](figures/{name}.svg)", ""]
    if data.findings.claims:
        lines += ["| verdict | claim | measured | claimed by |", "|---|---|---|---|"]
        lines += [row(j.outcome, written_claim(j), measured(j), j.claim.source) for j in data.findings.claims]
    return "\n".join(lines).rstrip() + "\n\n"


def replace_sections(page: str, sections: dict[str, str]) -> str:
    """The page with these sections in the place of what it had, by name, and a table of contents in front of all."""
    head, *old = re.split(r"(?m)^(?=<!-- [\w-]+ -->$)", page)
    kept = {re.match(r"<!-- ([\w-]+)", each)[1]: each.rstrip() + "\n\n" for each in old}  # type: ignore[index]
    both = dict(sorted((kept | sections).items()))
    lines = ["| preset | asks | of its claims |", "|---|---|---|"]
    for name, text in both.items():
        counts = Counter(re.findall(r"(?m)^\| (confirmed|refuted|undecided) \|", text))
        found = ", ".join(
            f"{counts[outcome]} {outcome}" for outcome in ("confirmed", "refuted", "undecided") if counts[outcome]
        )
        lines.append(f"| [{name}](#{name}) | {read_study(preset_path(name)).question} | {found} |")
    head = head.split("\n| preset |")[0].rstrip()
    return "\n".join([head, "", *lines, "", *both.values()]).rstrip() + "\n"


def replace_rows(page: str, rows: dict[str, list[str]]) -> str:
    """The page with these rows, by preset, in its first tables of commands and of claims."""
    lines = page.splitlines()
    for name, own in rows.items():
        for group in ([row for row in own if "`bncli" in row], [row for row in own if "`bncli" not in row]):
            title = "| preset | command |" if "`bncli" in group[0] else "| preset | claim | measured |"
            start = next(at for at, line in enumerate(lines) if line.startswith(title)) + 2
            end = next(at for at in range(start, len(lines) + 1) if at == len(lines) or not lines[at].startswith("|"))
            body = [row for row in lines[start:end] if not row.startswith(f"| {name} |")]
            lines[start:end] = body + group
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read every document of the folder and write both pages."""
    reports = [read_report(path) for path in sorted(Path(sys.argv[1]).glob("*.json"))]
    rows = {
        data.name: [
            f"| {data.name} | `bncli compare {data.name} --check` | {minutes(data)} |",
            *(
                row(data.name, written_claim(j), measured(j), j.outcome, written_detectable(j) or "-", j.claim.source)
                for j in data.findings.claims  # type: ignore[union-attr]
            ),
        ]
        for data in reports
        if data.findings.claims  # type: ignore[union-attr]
    }
    papers, claims = DOCS / "papers.md", DOCS / "claims.md"
    papers.write_text(replace_sections(papers.read_text(), {data.name: section(data) for data in reports}))
    claims.write_text(replace_rows(claims.read_text(), rows))


if __name__ == "__main__":
    main()
