"""One way out for everything: a format is a row, and all of them give the numbers of the terminal's table."""

import csv
import json
import re
import subprocess
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from rich.text import Text

import bncli
from bncli.errors import BncliError
from bncli.findings import ArmCurve, Check
from bncli.format import written_comparison, written_summary
from bncli.report.data import ReportData
from bncli.report.exports import FORMATS, KIND_NAMES, ReportKind, kind_of, render, require_format, write_figures
from bncli.report.layout import Column
from bncli.report.markup import escape_latex
from bncli.report.sheet import Sheet
from bncli.report.study.table import columns
from bncli.report.timing.gate import list_checks
from bncli.result import Result
from bncli.timing.results import BenchRecord
from tests.report.made_bench import record
from tests.report.made_findings import figure1
from tests.report.made_shift import LAYERS, findings

CHECK = Check("accuracy & such", "failed", "50 %", "refuted")
DATA: dict[ReportKind, Any] = {
    "study": ReportData("figure1", figure1(), {"seeds": [0]}, (), (CHECK,), "bncli compare figure1"),
    "shift": ReportData("study", findings(LAYERS), {}, (), (), "bncli shift-report study"),
    "bench": ReportData("bench-made", record(), {}, (), tuple(list_checks(record())), "bncli bench"),
    "runs": ReportData("smoke", None, {}, (), (), "bncli train smoke"),
    "sheet": Sheet("history", (), ("it stepped",), (("x", (Column("a", (Text("1"),)),)),)),
}
HAS_PAGE = find_spec("bncli.report.page") is not None
TEXTS = [(form, kind) for form, row in FORMATS.items() for kind in row.functions if not row.is_folder]


@pytest.mark.parametrize(("form", "kind"), TEXTS)
def test_every_format_holds_what_its_row_says(form: str, kind: ReportKind) -> None:
    if form == "html" and not HAS_PAGE:
        pytest.skip("the page is not there yet")
    require_format(form, kind)
    assert isinstance(render(DATA[kind], form), str)


def test_every_kind_of_findings_is_known() -> None:
    assert {kind: kind_of(data) for kind, data in DATA.items()} == {kind: kind for kind in KIND_NAMES}


@pytest.mark.parametrize(
    ("form", "kind", "message"),
    [
        ("cvs", "study", r"^no format is called 'cvs'; did you mean 'csv'\?"),
        ("gha", "study", r"^cannot hold a comparison; choose one of json, csv, markdown, text, latex, html, svg, "),
        (
            "svg",
            "runs",
            r"^cannot hold runs that nobody compared; choose one of json, csv, markdown, text, latex, html",
        ),
    ],
)
def test_a_format_that_cannot_be_is_refused(form: str, kind: ReportKind, message: str) -> None:
    with pytest.raises(BncliError, match=message):
        render(DATA[kind], form)


def test_markdown_says_answer_table_warnings_and_checks_in_that_order() -> None:
    text = str(render(DATA["study"], "markdown"))
    places = [
        text.index(part)
        for part in (
            "### figure1: does batch", (figure1().answer or figure1().headlines[0])[:30], "|  | variant | reached |",
            "| + | batch | 5/5 | 5,100 ± 280 | 0.41x [0.36, 0.47] |", "- warning: late: 4 of 5", "| refuted | accuracy",
            "bncli compare figure1",
        )
    ]  # fmt: skip
    assert places == sorted(places)


def test_csv_has_raw_numbers_a_line_an_arm() -> None:
    none, batch, _, late = csv.DictReader(str(render(DATA["study"], "csv")).splitlines())
    assert (none["is_reference"], none["steps_to_target_mean"], none["steps_to_target_std"]) == (
        "True",
        "12500.0",
        "310.0",
    )
    assert [batch[f"steps_to_target_{key}"] for key in ("estimate", "low", "high", "verdict")] == [
        "0.408", "0.361", "0.468", "better",
    ]  # fmt: skip
    assert (late["steps_to_target_mean"], late["steps_to_target_low"]) == ("", "3.856")


def test_csv_of_shift_has_a_line_a_cell() -> None:
    rows = list(csv.DictReader(str(render(DATA["shift"], "csv")).splitlines()))
    assert len(rows) == 2 * 5 * len(LAYERS)
    batch = next(row for row in rows if row["variant"] == "batch")
    assert (batch["mean"], batch["estimate"], batch["side"], batch["layer"]) == ("0.15", "0.2", "less", "hidden.0")


def test_latex_keeps_its_tables_whole_whatever_names_are_in_them() -> None:
    evil = r"50 % of_{all} & \more #1 ~ ^ $x$"
    made = figure1()
    arms = (made.arms[0].__class__(**{**vars(made.arms[0]), "variant": evil}), *made.arms[1:])
    data = ReportData(evil, made.__class__(**{**vars(made), "arms": arms}), {}, (), (), evil)
    body = [line for line in str(render(data, "latex")).splitlines() if not line.startswith("%")]
    rows = [line for line in body if line.endswith(r"\\")]
    (ways,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", "\n".join(body))
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(ways)}
    assert len(rows) == 1 + len(arms)
    bare = re.sub(r"\\[\\{}&%$#_]", "", "\n".join(body))
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#_~^]", re.sub(r"\\label\{.*\}", "", bare))
    assert re.search(r"\\label\{tab:[\w-]+\}", "\n".join(body))


@pytest.mark.skipif(not which("pdflatex"), reason="LaTeX is not installed")
@pytest.mark.parametrize("kind", KIND_NAMES)
def test_latex_compiles(kind: ReportKind, tmp_path: Path) -> None:
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}"
    (tmp_path / "x.tex").write_text(f"{head}\n{render(DATA[kind], 'latex')}\\end{{document}}\n")
    done = subprocess.run(["pdflatex", "-halt-on-error", "x.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_latex_goes_without_curves_of_block_characters() -> None:
    columns = (Column("variant", (Text("batch"),)), Column("curve", (Text("▁▄█"),)))
    text = str(render(Sheet("runs", (), (), (("", columns),)), "latex"))
    assert "batch \\\\" in text
    assert "▁" not in text


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("97.1 ± 0.1 %", r"97.1 $\pm$ 0.1 \%"),
        ("-0.03 [-0.05, -0.01]", "$-$0.03 [$-$0.05, $-$0.01]"),
        ("mlp 784-100-10", "mlp 784-100-10"),
        ("≤ 0.43x", r"$\leq$ 0.43x"),
    ],
)
def test_latex_writes_what_the_table_writes(text: str, latex: str) -> None:
    assert escape_latex(text) == latex


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Result[bncli.Findings]:
    """A real study, small."""
    changes = {"training.steps": 20, "evaluation.every": 10}
    return bncli.compare("smoke", seeds=2, set=changes, jobs=1, device="cpu", store=tmp_path_factory.mktemp("store"))


def test_numbers_are_equal_in_every_format(studied: Result[bncli.Findings]) -> None:
    found = studied.findings
    table = [cell.plain.strip() for column in columns(found) for cell in column.cells if cell.plain.strip()]
    markdown = [part.strip().replace("\\", "") for part in re.split(r"(?<!\\)\||\n", studied.to_markdown())]
    latex = studied.to_latex().replace(r"$\pm$", "±").replace(r"\%", "%").replace("$-$", "-").replace(r"\\", "&")
    parts = [part.strip() for part in re.split(r"[&\n]", latex)]
    html = studied._repr_html_()
    for cell in table:
        assert cell in markdown
        assert cell in parts
        assert f"<td>{cell}</td>" in html
    lines = list(csv.DictReader(str(render(studied.data(), "csv")).splitlines()))
    document = json.loads(studied.to_json())
    compared = 0
    for arm, line, told in zip(found.arms, lines, document["arms"], strict=True):
        for measure, summary, number in zip(found.measures, arm.summaries, told["summaries"], strict=True):
            assert line[f"{measure.name}_mean"] == ("" if number["mean"] is None else repr(number["mean"]))
            assert summary.mean == number["mean"]
            assert written_summary(summary, measure.unit) in table
        for measure, c in zip(found.measures, arm.comparisons, strict=not arm.is_reference):
            verdict = next(
                v for v in document["verdicts"] if (v["variant"], v["measure"]) == (arm.variant, measure.name)
            )
            assert (verdict["estimate"], verdict["low"], verdict["high"]) == (c.estimate, c.low, c.high)
            assert line[f"{measure.name}_estimate"] == ("" if c.estimate is None else repr(c.estimate))
            assert line[f"{measure.name}_verdict"] == verdict["verdict"]
            assert written_comparison(c, measure) in table
            compared += 1
    assert compared


def test_a_result_knows_the_command_that_makes_it_again(studied: Result[bncli.Findings]) -> None:
    expected = "bncli compare smoke --seeds 2 --set training.steps=20 --set evaluation.every=10 --device cpu"
    assert studied.command == expected
    assert json.loads(studied.to_json())["command"] == expected


@pytest.mark.parametrize("kind", [kind for kind in KIND_NAMES if kind != "sheet"])
def test_notebooks_show_whatever_was_found(kind: ReportKind, tmp_path: Path) -> None:
    data = DATA[kind]
    result = Result(data.name, bncli.read_study("smoke"), data.findings, (), tmp_path)
    assert result._repr_html_().startswith("<div><p><b>")
    assert isinstance(data.findings, BenchRecord) == ("0.59x [0.58, 0.59]" in result._repr_html_())


def test_plain_text_says_each_row_in_words_with_its_columns() -> None:
    lines = str(render(DATA["study"], "text")).splitlines()
    (batch,) = [line for line in lines if "variant batch" in line]
    assert batch == (
        "better; variant batch; reached 5/5; steps to 95 % 5,100 ± 280; steps relative to none 0.41x [0.36, 0.47]; "
        "final accuracy 97.5 ± 0.1 %; points against none +0.4 [+0.2, +0.6]; ms/step 0.74"
    )
    assert "warning: late: 4 of 5 runs diverged (seed 0 at step 300)" in lines
    assert "refuted: accuracy & such (50 %)" in lines
    assert not [c for line in lines for c in line if "\u2580" <= c <= "\u28ff"]  # nothing is drawn


def test_a_note_that_begins_with_a_sign_begins_no_list_in_markdown() -> None:
    text = str(render(Sheet("t", (), ("- no list", "1. no list"), (), ("[ ] no box", "+ no list")), "markdown"))
    assert r"\- no list" in text
    assert r"1\. no list" in text
    assert r"- \[ ] no box" in text
    assert r"- \+ no list" in text


@pytest.mark.skipif(find_spec("vl_convert") is None, reason="needs the extra report")
def test_names_with_control_characters_are_drawn(tmp_path: Path) -> None:
    named = replace_names(figure1(), {"batch": "c\x1b[31mred", "zca": "two\nlines"})
    drawn = write_figures(ReportData("x", named), ("svg",), tmp_path)
    assert all("\x1b" not in path.read_text() for path in drawn)


def replace_names(found: Any, names: dict[str, str]) -> Any:
    curves = tuple(
        ArmCurve(names.get(arm.variant, arm.variant), {}, "accuracy", "fraction", (0, 10), (0.1, 0.9), (0.1, 0.8),
                 (0.2, 0.95), (0.0, 1.0))
        for arm in found.arms
    )  # fmt: skip
    arms = tuple(replace(arm, variant=names.get(arm.variant, arm.variant)) for arm in found.arms)
    return replace(found, arms=arms, curves=curves)
