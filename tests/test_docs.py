"""The documentation says what the code says."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pages
import pytest
import typer

import bncli
from bncli.catalogue import Option
from bncli.cli import app
from bncli.norms import NORMS
from bncli.report.cards import card

ROOT = Path(__file__).parent.parent
PAGE = pytest.mark.parametrize("page", pages.PAGES, ids=[str(each.relative_to(ROOT)) for each in pages.PAGES])


@PAGE
def test_output_that_is_shown_says_where_it_is_from(page: Path) -> None:
    assert [each.place for each in pages.outputs(page) if not each.kind] == [], pages.__doc__
    assert all(language for language, _ in pages.fences(page.read_text())), "a fence without a language"
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = [each for each in pages.outputs(page) if each.kind == "test"]
    assert [each.place for each in named if f"def {each.source}(" not in tests] == []


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@PAGE
def test_output_that_is_shown_is_printed(page: Path, tmp_path: Path) -> None:
    wrong = pages.check(page, tmp_path)
    assert not wrong, "\n\n".join(wrong)


def test_shown_output_is_held_against_what_is_printed() -> None:
    shown = ("a 1.5 b", "...", "c +2")
    assert pages.difference(shown, "a   7 b\n\nleft out\nc -3\n", exactly=False) == ""
    assert pages.difference(shown, "a 7 b\nc 3\nd\n", exactly=False) == "printed as well: d"
    assert pages.difference(shown, "a 7 x\n", exactly=False).startswith("not printed next: a 1.5 b\n")
    assert pages.difference(shown, "a 1.5 b\nc +3\n", exactly=True).startswith("not printed any more: c +2\n")


@PAGE
def test_links_lead_to_files_and_headings(page: Path) -> None:
    missing = []
    for link in pages.links(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in pages.anchors(target)):
            missing.append(link)
    assert missing == []


@PAGE
def test_commands_that_are_shown_exist_with_their_options_and_presets(page: Path) -> None:
    known = typer.main.get_command(app)
    for text in pages.commands(page):
        words = text.replace("[", " ").replace("]", " ").split()[1:]
        command = known
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        options = {option for each in (known, command) for parameter in each.params for option in parameter.opts}
        used = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert used <= options | {"--help"}, text
        if words and command.name in ("compare", "train", "shift-report", "bench"):
            preset = re.fullmatch(r"[a-z][a-z0-9-]*", words[0])
            assert preset is None or (ROOT / "presets" / f"{words[0]}.yaml").exists() or words[0] == "nonsense", text


@PAGE
def test_options_that_are_named_exist(page: Path) -> None:
    def collect(command: Any) -> set[str]:
        below = (collect(each) for each in getattr(command, "commands", {}).values())
        return set().union(*([*each.opts, *each.secondary_opts] for each in command.params), *below)

    of_others = {"--rounds", "--steps", "--no-peer"}  # of tests/performance/*.py, in docs/measurements.md
    of_others |= {"--ignore-existing", "--signal", "--time"}  # of rsync and sbatch
    named = re.findall(r"`(--[a-z][a-z-]*)", pages.without_fences(page.read_text()))
    assert set(named) - collect(typer.main.get_command(app)) - {"--help"} <= of_others


def test_generated_pages_are_what_the_catalogues_say() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_example_of_a_network_of_your_own_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = (ROOT / "docs" / "shift.md").read_text().split("```python\n")[1:]
    assert len(blocks) == 1
    exec(blocks[0].partition("```")[0], {})
    sites = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert sites == ["0/layer", "0/norm", "0/activation", "4/layer"]


def test_the_readmes_example_agrees_with_its_own_table() -> None:
    page = (ROOT / "README.md").read_text()
    said = re.search(r"(\w+) was fastest: .* in ([\d.]+)x the steps .* interval ([\d.]+) to ([\d.]+)\), better", page)
    assert said
    best, ratio, low, high = said.groups()
    (row,) = [line for line in page.splitlines() if line.startswith(f"     + {best} ")]
    assert f"   {ratio}x [{low}, {high}]  " in row
    assert f"`{ratio}x [{low}, {high}]` in the example means" in page


def test_the_shift_that_the_page_for_students_shows_agrees_with_its_own_table() -> None:
    page = (ROOT / "docs" / "students.md").read_text()
    none, batch = (
        [float(number) for number in re.findall(r"([\d.]+) ±", line)]
        for line in page.splitlines()
        if line.startswith("     hidden.2.0") and line.count("±") == 3
    )
    for words, column, larger in (("percentile drift is", 0, True), ("relative percentile drift is", 1, False)):
        told = re.search(rf"^    {words} ([\d.]+)x \[.*\] {'larger' if larger else 'smaller'}", page, re.MULTILINE)
        assert told
        found = batch[column] / none[column]
        assert float(told[1]) == pytest.approx(found if larger else 1 / found, rel=0.02)


def section_of(title: str) -> str:
    return (ROOT / "docs" / "yours.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_section_on_your_model_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    section = section_of("Your model")
    (block,) = section.split("```python\n")[1:]
    exec(block.partition("```")[0], {})
    assert capsys.readouterr().out.startswith("too few runs reached ")
    Path("net.py").write_text(Path("net.py").read_text().replace("def net", "def Net"))
    (command,) = [line.split()[1:] for line in section.splitlines() if line.startswith("    bncli ")]
    done = subprocess.run([sys.executable, "-m", "bncli", *command, "--dry-run"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "own: 20 runs (0 stored in .bncli)"), done.stderr
    assert "\n  1 of 1 norms replaced by group\n" in done.stdout


def test_the_sections_on_norms_replaced_by_hand_run_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "yours.md").read_text().partition("## Norms replaced, by hand\n")[2]
    page = page.partition("## Your norm\n")[0]
    names: dict[str, object] = {"bncli": bncli}
    for block in page.split("```python\n")[1:]:
        exec(block.partition("```")[0], names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == [line[4:] for line in page.splitlines() if line.startswith("    ")][2:5]
    assert printed[-1].startswith("1 BatchNorm2d -> batch 2048 2048 0.99")


def test_the_section_on_your_norm_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = (ROOT / "docs" / "yours.md").read_text().partition("## Your norm\n")[2].partition("\n## ")[0]
    assert section.count("\n") <= 32
    monkeypatch.chdir(tmp_path)
    (block,) = section.split("```python\n")[1:]
    exec(block.partition("```")[0], {"bncli": bncli})
    shown = [line[4:] for line in section.partition("print(")[2].splitlines() if line.startswith("    ")]
    assert capsys.readouterr().out.splitlines() == shown[:2]
    _, compare, shift_report, _ = [line.split()[1:] for line in shown[2:]]
    small = ["--seeds", "1", "--set", "training.steps=20", "--jobs", "1"]
    for command in (compare, [*shift_report, "--dry-run"]):
        done = subprocess.run([sys.executable, "-m", "bncli", *command, *small], capture_output=True, text=True)
        assert (done.returncode, "example-rms" in done.stdout) == (0, True), done.stderr


def test_the_section_on_your_data_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (ROOT / "docs" / "yours.md").read_text().partition("## Your data\n")[2].partition("\n## ")[0]
    assert section.count("\n") < 40
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in section.split("```python\n")[1:]:
        exec(block.partition("```")[0], names)
    (command,) = [line.split()[1:] for line in section.splitlines() if line.startswith("    bncli ")]
    small = ["--seeds", "1", "--variants", "none", "--set", "training.steps=20", "--jobs", "1"]
    done = subprocess.run([sys.executable, "-m", "bncli", *command, *small], capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("mine.npz")) == (0, 1), done.stderr


def test_the_section_on_your_loop_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    section = section_of("Your loop")
    (block,) = section.split("```python\n")[1:]
    exec(block.partition("```")[0], {})
    assert f"    {capsys.readouterr().out}" in section
    (command,) = [line.split()[1:] for line in section.splitlines() if line.startswith("    bncli ")]
    done = subprocess.run([sys.executable, "-m", "bncli", *command, "--dry-run"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "task: 40 runs (10 stored in .bncli)"), done.stderr


def test_the_section_on_your_results_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = (ROOT / "docs" / "yours.md").read_text().partition("## Your results\n")[2]
    monkeypatch.chdir(tmp_path)
    (block,) = section.split("```python\n")[1:]
    exec(block.partition("```")[0], {"bncli": bncli})
    assert f"    {capsys.readouterr().out}" in section


def test_ci_runs_the_test_command_that_the_readme_gives() -> None:
    line = (
        "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]' && .venv/bin/python -m pytest"
    )
    assert line in (ROOT / "README.md").read_text().splitlines()
    assert line in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("name", NORMS)
def test_a_card_gives_formula_and_every_option_with_its_range(name: str) -> None:
    text = card("norms", name, NORMS[name])
    assert NORMS[name].formula.split()[0] in text
    for key, option in NORMS[name].options.items():
        assert f"  {key}" in text
        assert "see its meaning" not in option.range()


def test_a_range_is_said_in_words() -> None:
    options = NORMS["iternorm"].options
    assert options["eps"].range() == "number > 0"
    assert options["momentum"].range() == "number > 0 and <= 1"
    assert options["affine"].range() == "true or false"
    assert NORMS["detached"].options["by"].range() == "centring or scaling or whitening"
    assert Option(int | None, None, "").range() == "whole number or null"
