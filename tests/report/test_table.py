"""Findings on terminals of several widths, line by line."""

import dataclasses
import re

import pytest

from bncli.report.study.table import show
from report.made_findings import console, figure1, printed

WIDE = """\
figure1: does batch normalisation train the paper's MNIST network in fewer steps?
mnist · mlp 784-100-100-100-10 sigmoid · batch 60 · sgd lr 0.1 · 50,000 steps · 5 paired seeds · cpu

batch reached 95 % test accuracy in 0.41x [0.36, 0.47] the steps of none (5 paired seeds, indicative)

   variant      reached   steps to 95 %   vs none              final accuracy   vs none             ms/step
   none (ref)       5/5    12,500 ± 310   1                      97.1 ± 0.1 %   -                      0.61
 + batch            5/5     5,100 ± 280   0.41x [0.36, 0.47]     97.5 ± 0.1 %   +0.4 [+0.2, +0.6]      0.74
 = zca              5/5    12,510 ± 320   1.00x [0.98, 1.02]     97.1 ± 0.1 %   +0.0 [-0.1, +0.2]      1.90
 - late             1/5     not reached   ≥ 3.86x                50.0 ± 2.0 %   n/a                     n/a

"""

SPLIT = """\
   variant      reached   steps to 95 %   vs none
   none (ref)       5/5    12,500 ± 310   1
 + batch            5/5     5,100 ± 280   0.41x [0.36, 0.47]
 = zca              5/5    12,510 ± 320   1.00x [0.98, 1.02]
 - late             1/5     not reached   ≥ 3.86x

     variant      final accuracy   vs none             ms/step
     none (ref)     97.1 ± 0.1 %   -                      0.61
 +   batch          97.5 ± 0.1 %   +0.4 [+0.2, +0.6]      0.74
 ?   zca            97.1 ± 0.1 %   +0.0 [-0.1, +0.2]      1.90
 n/a late           50.0 ± 2.0 %   n/a                     n/a
"""

STACKED = """\
none (ref)
  reached         5/5
  steps to 95 %   12,500 ± 310
  vs none         1
  final accuracy  97.1 ± 0.1 %
  vs none         -
  ms/step         0.61
+ batch
  reached         5/5
  steps to 95 %   5,100 ± 280
  vs none         0.41x [0.36, 0.47]
  final accuracy  97.5 ± 0.1 %
  vs none         +0.4 [+0.2, +0.6]
  ms/step         0.74
"""


def shown(width, findings=None, **options):
    into = console(width, **options)
    show(findings or figure1(), into)
    return printed(into)


def test_at_160_columns_there_is_one_table():
    assert shown(160)[: len(WIDE.splitlines())] == WIDE.splitlines()


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
        "+ better, - worse, = equivalent, ? inconclusive, n/a not comparable; the sign before a variant judges the "
        "first measure of its table",
        "P(better than none) on steps to 95 %, share of pairs: batch 1.00, zca 0.50, late 0.00",
        "P(better than none) on final accuracy, share of pairs: batch 1.00, zca 0.60",
        "± is the standard deviation over seeds",
        "",
        "warning: late: 4 of 5 runs diverged (seed 0 at step 300)",
    ]


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
    findings = dataclasses.replace(figure1(), name="[bold]x[/bold]", headlines=("[red]a[/red] :smile:",))
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
    lines = shown(80, dataclasses.replace(found, arms=found.arms[:1], headlines=()))
    assert " variant      reached   steps to 95 %   final accuracy   ms/step" in lines
    assert " none (ref)       5/5    12,500 ± 310     97.1 ± 0.1 %      0.61" in lines


def test_findings_without_arms_are_shown():
    assert shown(80, dataclasses.replace(figure1(), arms=(), headlines=()))[0].startswith("figure1")


def test_a_list_names_the_swept_setting():
    found = figure1()
    arms = tuple(dataclasses.replace(arm, setting={"training.lr": 0.5}) for arm in found.arms[:2])
    lines = shown(50, dataclasses.replace(found, arms=arms))
    start = lines.index("none (ref)")
    assert lines[start + 1] == "  lr              0.5"
