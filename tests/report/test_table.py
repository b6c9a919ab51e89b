"""Findings on terminals of several widths, line by line."""

import dataclasses
import re

import pytest

from bncli.findings import Note
from bncli.report.study.table import show
from report.made_findings import console, figure1, printed

WIDE = """\
figure1: does batch normalisation train the paper's MNIST network in fewer steps?
mnist · mlp 784-100-100-100-10 sigmoid · batch 60 · sgd lr 0.1 · 50,000 steps · 5 paired seeds · cpu

batch was fastest: it reached 95 % test accuracy in 0.41x the steps of none (95 % interval 0.36 to 0.47)

   variant      reached   steps to 95 %   steps relative to none   final accuracy   points against none   ms/step
   none (ref)       5/5    12,500 ± 310   1                          97.1 ± 0.1 %   -                        0.61
 + batch            5/5     5,100 ± 280   0.41x [0.36, 0.47]         97.5 ± 0.1 %   +0.4 [+0.2, +0.6]        0.74
 = zca              5/5    12,510 ± 320   1.00x [0.98, 1.02]         97.1 ± 0.1 %   +0.0 [-0.1, +0.2]        1.90
 - late             1/5     not reached   ≥ 3.86x                    50.0 ± 2.0 %   n/a                       n/a

"""

SPLIT = """\
   variant      reached   steps to 95 %   steps relative to none
   none (ref)       5/5    12,500 ± 310   1
 + batch            5/5     5,100 ± 280   0.41x [0.36, 0.47]
 = zca              5/5    12,510 ± 320   1.00x [0.98, 1.02]
 - late             1/5     not reached   ≥ 3.86x

     variant      final accuracy   points against none   ms/step
     none (ref)     97.1 ± 0.1 %   -                        0.61
 +   batch          97.5 ± 0.1 %   +0.4 [+0.2, +0.6]        0.74
 ?   zca            97.1 ± 0.1 %   +0.0 [-0.1, +0.2]        1.90
 n/a late           50.0 ± 2.0 %   n/a                       n/a
"""

STACKED = """\
none (ref)
  reached                 5/5
  steps to 95 %           12,500 ± 310
  steps relative to none  1
  final accuracy          97.1 ± 0.1 %
  points against none     -
  ms/step                 0.61
+ batch
  reached                 5/5
  steps to 95 %           5,100 ± 280
  steps relative to none  0.41x [0.36, 0.47]
  final accuracy          97.5 ± 0.1 %
  points against none     +0.4 [+0.2, +0.6]
  ms/step                 0.74
"""


def shown(width, findings=None, explain=False, **options):
    into = console(width, **options)
    show(findings or figure1(), into, explain=explain)
    return printed(into)


def test_at_160_columns_there_is_one_table():
    assert shown(160)[: len(WIDE.splitlines())] == WIDE.splitlines()


def test_at_110_columns_there_is_one_table_with_narrower_gaps():
    assert (
        " + batch           5/5    5,100 ± 280  0.41x [0.36, 0.47]        97.5 ± 0.1 %  +0.4 [+0.2, +0.6]       0.74"
        in (shown(110))
    )


def test_at_80_columns_there_is_a_table_a_measure():
    lines = shown(80)
    start = lines.index(SPLIT.splitlines()[0])
    assert lines[start : start + 11] == SPLIT.splitlines()


def test_at_60_columns_there_is_a_list():
    lines = shown(60)
    start = lines.index("none (ref)")
    assert lines[start : start + 14] == STACKED.splitlines()


def test_footnotes_and_warnings_follow_the_table():
    assert shown(160)[10:] == [
        "",
        "sign: verdict on steps to 95 % (+ better, - worse, = equivalent)",
        "± is the standard deviation over seeds",
        "",
        "warning: late: 4 of 5 runs diverged (seed 0 at step 300)",
    ]


def test_where_each_measure_has_a_table_a_sign_judges_its_own():
    assert (
        "sign: verdict on what its table is about (+ better, - worse, = equivalent, ? inconclusive, n/a not comparable)"
    ) in " ".join("\n".join(shown(80)).split())


def test_four_footnotes_are_shown_and_all_with_a_paragraph_each_on_demand():
    notes = tuple(Note(f"note {i}", f"paragraph {i}" if i else "") for i in range(7))
    found = dataclasses.replace(figure1(), notes=notes)
    lines = shown(160, found)
    start = lines.index("note 0")
    assert lines[start : start + 5] == [
        *(f"note {i}" for i in range(4)),
        "3 more notes, and a paragraph on each: --explain",
    ]
    lines = shown(160, found, explain=True)
    start = lines.index("note 0")
    assert lines[start : start + 5] == ["note 0", "note 1", "    paragraph 1", "note 2", "    paragraph 2"]
    assert "    paragraph 6" in lines
    assert not any("--explain" in line for line in lines)


def test_one_more_footnote_is_one():
    found = dataclasses.replace(figure1(), notes=tuple(Note(f"note {i}") for i in range(5)))
    assert "1 more note, and a paragraph on each: --explain" in shown(160, found)


def with_verdicts(*verdicts):
    """Findings whose arms have these verdicts on the first measure."""
    found = figure1()
    arms = [
        dataclasses.replace(arm, comparisons=(dataclasses.replace(arm.comparisons[0], verdict=verdict),))
        for arm, verdict in zip(found.arms[1:], verdicts, strict=False)
    ]
    return dataclasses.replace(found, arms=(found.arms[0], *arms), headlines=found.headlines[: len(arms)])


def test_headlines_follow_the_answer_only_where_the_table_does_not_say_it():
    def said(found, **options):
        lines = shown(160, found, **options)
        return lines[3 : lines.index("", 3)]

    found = with_verdicts("better", "inconclusive", "not comparable")
    assert said(found) == [found.answer, *found.headlines[1:]]
    assert said(found, explain=True) == [found.answer, *found.headlines]
    assert said(with_verdicts("inconclusive")) == [found.answer]
    assert said(dataclasses.replace(found, headlines=("for all",))) == [found.answer]
    assert said(dataclasses.replace(found, answer="")) == list(found.headlines)


@pytest.mark.parametrize("width", [160, 100, 80, 60, 45, 30])
def test_no_number_is_broken_at_any_width(width):
    text = "\n".join(shown(width))
    for whole in ("12,500 ± 310", "5,100 ± 280", "0.41x [0.36, 0.47]", "97.5 ± 0.1 %", "+0.4 [+0.2, +0.6]", "≥ 3.86x"):
        assert whole in text
    assert re.search(r"\b95 % test", text.replace("\n", " "))
    assert "…" not in text


@pytest.mark.parametrize("width", [160, 110, 80, 60, 45, 30])
def test_no_line_is_wider_than_the_console(width):
    assert max(map(len, shown(width))) <= width


def test_colours_come_from_the_console_alone():
    coloured = "\n".join(shown(160, force_terminal=True, color_system="standard", legacy_windows=False, no_color=False))
    assert "\x1b[1;32m+\x1b[0m" in coloured
    assert "\x1b[" not in "\n".join(shown(160))


def test_no_color_prints_the_same_lines_without_colour(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    lines = shown(160, force_terminal=True, color_system="standard", legacy_windows=False)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", "\n".join(lines))
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines] == shown(160)


def test_names_are_printed_as_they_stand():
    findings = dataclasses.replace(figure1(), name="[bold]x[/bold]", answer="[red]a[/red] :smile:")
    lines = shown(160, findings)
    assert lines[0].startswith("[bold]x[/bold]: does")
    assert "[red]a[/red] :smile:" in lines


def test_swept_settings_have_their_own_columns():
    found = figure1()
    arms = tuple(
        dataclasses.replace(arm, setting={"training.lr": lr, "model.hidden": 16})
        for lr in (0.1, 0.5)
        for arm in found.arms[:2]
    )
    lines = shown(160, dataclasses.replace(found, arms=arms))[5:10]
    assert [line[:36] for line in lines] == [
        "   variant       lr   hidden   reach",
        "   none (ref)   0.1       16       5",
        " + batch        0.1       16       5",
        "   none (ref)   0.5       16       5",
        " + batch        0.5       16       5",
    ]


def test_one_arm_alone_has_nothing_to_be_compared_with():
    found = figure1()
    lines = shown(80, dataclasses.replace(found, arms=found.arms[:1], headlines=(), answer=""))
    assert " variant      reached   steps to 95 %   final accuracy   ms/step" in lines
    assert " none (ref)       5/5    12,500 ± 310     97.1 ± 0.1 %      0.61" in lines


def test_findings_without_arms_are_shown():
    assert shown(80, dataclasses.replace(figure1(), arms=(), headlines=(), answer=""))[0].startswith("figure1")


def test_a_list_names_the_swept_setting():
    found = figure1()
    arms = tuple(dataclasses.replace(arm, setting={"training.lr": 0.5}) for arm in found.arms[:2])
    lines = shown(50, dataclasses.replace(found, arms=arms))
    start = lines.index("none (ref)")
    assert lines[start + 1] == "  lr                      0.5"
