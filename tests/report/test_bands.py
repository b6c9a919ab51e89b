"""Percentile bands in characters."""

import io
import math

import pytest
from rich.console import Console

from bncli.report.bands import Band, BandPlot, PlottedLine, band_lines, curve_lines, nice_ticks

STEPS = [0, 25_000, 50_000]
FLAT = Band("none", STEPS, [-1] * 3, [0] * 3, [1] * 3)
WIDER = Band("batch", STEPS, [-2] * 3, [0] * 3, [2] * 3)


def drawn(*bands, room=80, height=5, plain=True):
    return [line.plain for line in band_lines(bands, room, height, plain=plain)]


def test_a_band_is_three_lines_on_one_scale():
    assert drawn(FLAT, room=40) == [
        "                    none",
        " 1 |....................................",
        "   |",
        " 0 |************************************",
        "   |",
        "-1 |....................................",
        "   +------------------------------------",
        "    0                       50,000 steps",
    ]


def test_panels_share_the_scale_and_stand_side_by_side():
    lines = drawn(FLAT, WIDER)
    assert lines[1].split("|")[1].strip() == ""  # none ends below the top, where batch has its upper line
    assert set(lines[1].split("|")[2]) == {"."}
    assert lines[0].split() == ["none", "batch"]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("room", [30, 60, 80, 121])
def test_no_line_is_longer_than_the_room(room, plain):
    lines = drawn(FLAT, WIDER, FLAT, WIDER, FLAT, room=room, plain=plain)
    assert max(map(len, lines)) <= room


def test_panels_that_do_not_fit_come_below():
    lines = drawn(FLAT, WIDER, room=40)
    assert lines[0].strip() == "none"
    assert lines[8:10] == ["", "                   batch"]


def test_a_braille_character_has_four_dots_downwards_and_two_across():
    (row,) = drawn(FLAT, room=31, height=1, plain=False)[1:2]
    # of heights 1, 0 and -1: the first, third and fourth pair of dots
    assert set(row.partition("│")[2]) == {chr(0x2800 + 0x01 + 0x08 + 0x04 + 0x20 + 0x40 + 0x80)}


def test_a_steep_line_has_no_gaps():
    rising = Band("up", [0, 1], [0, 1], [0, 1], [0, 1])
    rows = [row.partition("|")[2] for row in drawn(rising, room=15, height=30)[1:31]]
    assert all("*" in row for row in rows)


def test_in_plain_characters_everything_is_ascii():
    assert all(line.isascii() for line in drawn(FLAT, WIDER, room=33))


def test_the_console_decides_between_braille_and_plain():
    def printed(encoding):
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        Console(file=file, width=40).print(BandPlot([FLAT], height=5))
        file.seek(0)
        return file.read()

    assert printed("ascii").splitlines() == drawn(FLAT, room=40)
    assert "│" in printed("utf-8")


def test_what_is_not_finite_is_left_out():
    broken = Band("none", [0, 1, 2], [math.nan] * 3, [0, math.nan, math.nan], [1, 1, math.inf])
    lines = drawn(broken, room=40)
    assert "." in lines[1]
    assert len(lines) == 8


def test_nothing_finite_is_said():
    assert drawn(Band("none", [0], [math.nan], [math.nan], [math.nan])) == ["no finite values to draw"]


def test_a_single_step_and_a_constant_are_drawn():
    assert "*" in "".join(drawn(Band("none", [0], [1], [1], [1])))


def test_a_long_label_is_cut():
    assert drawn(Band("x" * 99, STEPS, [0] * 3, [0] * 3, [1] * 3), room=40)[0].strip() == "x" * 34 + "."


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-2.3, 2.6, [-2, -1, 0, 1, 2]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1e-3, 5e-3, [0.001, 0.002, 0.003, 0.004, 0.005]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low, high, expected):
    assert nice_ticks(low, high, 5) == pytest.approx(expected)


def test_curves_in_one_panel_are_told_apart_by_letters_and_share_places_in_turn():
    steps = [0, 50, 100]
    one, other = PlottedLine("none", steps, [0, 50, 100], "100 %"), PlottedLine("batch", steps, [0, 50, 100])
    lines = [line.plain for line in curve_lines([one, other], 40, 6, letters=True)]
    assert lines[-1] == " a none 100 %   b batch"
    assert lines[-2].split() == ["0", "100", "steps"]
    drawn = "".join(line.partition("|")[2] for line in lines[:6])
    assert {"a", "b"} <= set(drawn)
    assert max(map(len, lines)) <= 40


def test_a_curve_that_ends_before_the_others_is_not_drawn_on():
    whole, short = PlottedLine("a", [0, 100], [0, 1]), PlottedLine("b", [0, 50], [1, 1])
    rows = [line.plain.partition("|")[2] for line in curve_lines([whole, short], 60, 6, letters=True)[:6]]
    assert max(row.rfind("b") for row in rows) < 35


def test_curves_of_nothing_finite_are_no_lines():
    assert curve_lines([PlottedLine("a", [0, 1], [math.nan, math.inf])], 60, letters=True) == []
