"""Findings as a page: what stands in it, that nothing in it is markup by accident, and how large it is."""

import base64
import hashlib
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from bncli.config import read_study
from bncli.errors import BncliError
from bncli.findings import Check, Findings, Note, Tuning
from bncli.findings.shift import ShiftFindings
from bncli.presets import preset_path
from bncli.report.data import ReportData
from bncli.report.page import write_page
from bncli.report.page.parts import write_yaml
from bncli.report.study.table import columns
from bncli.report.timing.table import list_parts
from bncli.timing.results import BenchRecord
from tests.report.made_findings import figure1
from tests.report.made_reports import REPORTS, bench_report, shift_report, study_report

NASTY = "</script><script>alert(1)</script>\"'&\x1b[31m"
VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """A page as a browser reads it: its elements, tables and texts; an element that is not closed is refused."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.words.append(data)
            if {"td", "th"} & set(self.open):
                self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def small(**changes: Any) -> ReportData:
    """A report of findings made by hand, without runs."""
    return ReportData("figure1", replace(figure1(), **changes))


def test_the_table_has_the_numbers_that_a_terminal_shows() -> None:
    found = figure1()
    head, *rows = Page(write_page(small())).tables[0]
    shown = columns(found)
    assert head == ["verdict", *(column.title for column in shown[1:])]
    assert [row[1:] for row in rows] == [
        [cell.plain for cell in row[1:]] for row in zip(*(column.cells for column in shown), strict=True)
    ]
    assert [row[0] for row in rows] == ["reference", "+ better", "= equivalent", "- worse"]


def test_the_table_of_kernels_has_the_numbers_that_a_terminal_shows() -> None:
    data = bench_report()
    assert isinstance(data.findings, BenchRecord)
    shown, _, _ = list_parts(data.findings)
    rows = Page(write_page(data)).tables[0][1:]
    assert [row[1:] for row in rows] == [
        [cell.plain for cell in row[1:]] for row in zip(*(column.cells for column in shown), strict=True)
    ]
    assert [row[0] for row in rows] == ["+ faster", "= equal", "? inconclusive"]


@pytest.mark.parametrize("name", REPORTS)
def test_every_page_answers_and_says_what_to_do_and_how_to_repeat_it(name: str) -> None:
    data = REPORTS[name]()
    page = Page(write_page(data))
    titles = {attributes.get("id") for tag, attributes in page.elements if tag == "section"}
    assert {"next", "verdicts", "notes", "repeat"} <= titles
    assert data.command in page.text
    assert "Answer" in [attributes.get("aria-label") for _, attributes in page.elements]


def test_the_answer_comes_first_and_is_said_once() -> None:
    text = Page(write_page(small(answer="batch learns sooner", headlines=("batch learns sooner",)))).text
    assert text.count("batch learns sooner") == 1
    assert text.index("batch learns sooner") < text.index("Verdicts")


def test_warnings_notes_and_checks_are_there_in_words() -> None:
    notes = (Note("± is a spread", "A spread says how far runs lie apart."), Note("bare"))
    data = replace(
        small(notes=notes, warnings=("too few seeds",)), checks=(Check("as before", "failed", "2x", "regressed"),)
    )
    page = Page(write_page(data))
    for words in ("± is a spread", "A spread says how far runs lie apart.", "bare", "too few seeds"):
        assert words in page.text
    assert page.tables[-1][1] == ["regressed", "as before", "2x"]
    assert "<details><summary>± is a spread</summary><p>A spread" in write_page(data)


def test_what_is_inconclusive_says_how_many_seeds_would_decide() -> None:
    found = figure1()
    arms = [replace(arm, comparisons=tuple(replace(c, more_seeds=7 if c.verdict == "inconclusive" else None)
                                           for c in arm.comparisons)) for arm in found.arms]  # fmt: skip
    data = replace(small(arms=tuple(arms)), command="bncli compare figure1 --seeds 5 --check")
    assert "about 7 more seeds would decide: bncli compare figure1 --check --seeds 12" in Page(write_page(data)).text


def test_what_was_tuned_to_an_end_of_its_range_says_so() -> None:
    tuning = Tuning("batch", {}, "training.lr", "validation_accuracy", (0.1, 1.0), ({0: 0.8}, {0: 0.9}), (0.8, 0.9), 1.0,
                    True, 1.0, 1.0, (0.85, 0.9), 2, 0, 200)  # fmt: skip
    page = Page(write_page(small(tunings=(tuning,))))
    assert "batch: the best training.lr lies at the end of what was tried; widen the range" in page.text
    assert ["batch", "lr 1", "90.0", "validation accuracy", "1 to 1", "2", "200"] in [
        row for t in page.tables for row in t
    ]


def test_a_variant_that_never_reached_the_target_says_what_to_change() -> None:
    arms = tuple(replace(arm, reached=0 if arm.variant == "late" else arm.reached) for arm in figure1().arms)
    text = Page(write_page(small(arms=arms))).text
    assert "late never reached the target: raise training.steps or lower target.accuracy" in text


def test_where_all_is_decided_the_next_question_is_asked() -> None:
    arms = tuple(replace(arm, comparisons=arm.comparisons[:1]) for arm in figure1().arms)
    assert "Every comparison is decided." in Page(write_page(small(arms=arms))).text


def test_shift_is_answered_by_its_sentences_and_every_definition_is_explained() -> None:
    data = shift_report()
    assert isinstance(data.findings, ShiftFindings)
    told = tuple(replace(d, summary=f"what {d.name} is") for d in data.findings.definitions)
    text = Page(write_page(replace(data, findings=replace(data.findings, definitions=told)))).text
    assert "probed it does" in text
    assert "What each definition measures" in text
    assert f"{told[0].label}: what {told[0].name} is" in text


def test_kernels_are_answered_by_how_many_are_faster_and_by_the_fastest() -> None:
    text = Page(write_page(bench_report())).text
    assert "Of 3 cases on this machine, against torch's own batch norm: 1 faster, 1 equal, 1 inconclusive." in text
    assert "The fastest: batch takes 0.59x [0.58, 0.59] the time of torch's own batch norm" in text
    assert "1 of 3 cases are inconclusive. Measure longer" in text


def test_a_page_names_the_command_also_where_nobody_said_it() -> None:
    assert [Page(write_page(replace(REPORTS[name](), command=""))).text.count(command) > 0 for name, command in (
        ("study", "bncli compare figure1"), ("shift", "bncli shift-report study"), ("bench", "bncli bench bench-made"),
    )] == [True, True, True]  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_loads_nothing(name: str) -> None:
    page = Page(write_page(REPORTS[name]()))
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert not re.match(r"[a-z]+:|//", attributes.get("href") or "#")
    policy = next(a["content"] or "" for tag, a in page.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")


def test_the_policy_names_the_script_of_the_page() -> None:
    page = Page(write_page(small()))
    policy = next(a["content"] or "" for tag, a in page.elements if "http-equiv" in a)
    assert base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode() in policy


def test_names_are_never_markup() -> None:
    data = study_report(("none", NASTY))
    assert isinstance(data.findings, Findings)
    data = replace(data, name=NASTY, command=NASTY, checks=(Check(NASTY, "failed", NASTY, NASTY),),
                   findings=replace(data.findings, question=NASTY, setup=NASTY, answer=NASTY, warnings=(NASTY,),
                                    notes=(Note(NASTY, NASTY),), environment={NASTY: NASTY}))  # fmt: skip
    source = write_page(data)
    page = Page(source)
    assert "alert(1)" not in "".join(page.scripts)
    assert "\x1b" not in source
    assert "<script>alert" not in source
    assert page.text.count("</script><script>alert(1)</script>\"'&\\x1b[31m") > 10


def test_a_configuration_is_written_as_yaml_that_reads_the_same() -> None:
    study = {
        "a": {"b": [1, 2.5, None], "c": {}, "no": True, "d e": "x: y # z", "f.g": {"h": {"i": "é\n"}}},
        "j": [{"k": 1}],
    }
    assert yaml.safe_load(write_yaml(study)) == study
    assert write_yaml({"a": {"b": 1}, "c": [1, 2]}) == "a:\n  b: 1\nc: [1, 2]\n"


@pytest.mark.parametrize("preset", ["quickstart", "figure1-shift", "figure1-tuned"])
def test_the_configuration_on_a_page_is_a_preset(preset: str, tmp_path: Path) -> None:
    study, file = read_study(preset_path(preset)), tmp_path / "again.yaml"
    file.write_text(write_yaml(study.model_dump(mode="json")), encoding="utf-8")
    assert read_study(file) == study


def test_runs_that_nobody_compared_have_no_page() -> None:
    with pytest.raises(BncliError, match="these runs were not compared"):
        write_page(ReportData("figure1", None))


def test_without_the_extra_a_page_says_that_its_charts_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    page = Page(write_page(study_report()))
    assert "The charts are missing: figures need vl-convert: pip install 'bncli[report]'" in page.text
    assert len(page.scripts) == 1


def test_ten_variants_of_ten_seeds_take_less_than_one_and_a_half_megabytes() -> None:
    pytest.importorskip("vl_convert", reason="needs the extra: pip install 'bncli[report]'")
    source = write_page(study_report(("none", *(f"variant {i}" for i in range(9))), seeds=10, points=101))
    assert len(source.encode()) < 1_500_000
    assert 'id="figure-' in source


def test_a_page_is_the_same_whenever_it_is_written() -> None:
    assert write_page(shift_report()) == write_page(shift_report())
    assert json.dumps(write_page(small())) == json.dumps(write_page(small()))
