"""Findings as a piece of HTML, for notebooks."""

from html import escape

from bncli.findings import Findings
from bncli.report.study.table import columns


def page_part(findings: Findings) -> str:
    """Headlines, the table and the warnings, without a page around them."""
    found = columns(findings) if findings.arms else []
    heads = "".join(f"<th>{escape(column.title)}</th>" for column in found)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell.plain)}</td>" for cell in row) + "</tr>"
        for row in zip(*(column.cells for column in found), strict=True)
    )
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in findings.headlines)
    doubts = "".join(f"<p><small>warning: {escape(warning)}</small></p>" for warning in findings.warnings)
    title = f"<p><b>{escape(findings.name)}: {escape(findings.question)}</b><br>{escape(findings.setup)}</p>"
    return f"<div>{title}{said}<table><tr>{heads}</tr>{rows}</table>{doubts}</div>"
