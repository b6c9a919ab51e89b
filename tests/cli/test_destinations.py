"""`--export` and its short forms: what cannot be written is said before anything is trained, the rest goes where it should."""

import json
from pathlib import Path

import pytest

from bncli import api
from bncli.cli.destinations import Destination, read_destinations, write_destinations
from bncli.errors import ConfigError
from bncli.report.exports import ReportKind
from tests.cli.conftest import Command
from tests.report.test_exports import DATA


def places(*exports: str, kind: ReportKind = "study", **short: str) -> list[tuple[str, str]]:
    found = read_destinations(kind, "quickstart", exports, **short)  # type: ignore[arg-type]
    return [(each.format, each.path) for each in found]


@pytest.mark.usefixtures("bncli")
def test_without_a_path_a_file_is_called_after_the_preset_and_no_two_formats_share_one() -> None:
    assert places("csv", "latex", "markdown", "md:x.md", "json:-", "junit", "github") == [
        ("csv", "quickstart.csv"), ("latex", "quickstart.tex"), ("markdown", "quickstart.md"), ("markdown", "x.md"),
        ("json", "-"), ("junit", "quickstart.xml"), ("github", "-"),
    ]  # fmt: skip
    assert [path for _, path in places("json", "gha", "bmf", "pytest-benchmark", kind="bench")] == [
        "quickstart.json", "quickstart-gha.json", "quickstart-bmf.json", "quickstart-pytest-benchmark.json",
    ]  # fmt: skip


@pytest.mark.usefixtures("bncli")
def test_short_forms_are_exports() -> None:
    assert places(json="a.json", markdown="b.md") == [("json", "a.json"), ("markdown", "b.md")]


@pytest.mark.parametrize(
    ("command", "options", "line"),
    [
        ("compare", ["--export", "cvs"], "--export cvs: no format is called 'cvs'; did you mean 'csv'?"),
        (
            "compare",
            ["--export", "gha:x"],
            "--export gha:x: cannot hold a comparison; choose one of json, csv, markdown",
        ),
        ("compare", ["--export", "csv:no/x"], "--export csv:no/x: there is no folder no"),
        ("compare", ["--export", "csv:."], "--export csv:.: . is a folder; name a file in it"),
        ("compare", ["--export", "svg:-"], "--export svg:-: is a file for each figure; name a folder"),
        (
            "compare",
            ["--export", "svg:tiny.yaml/x"],
            "--export svg:tiny.yaml/x: cannot write figures: tiny.yaml is not a",
        ),
        ("compare", ["--export", "junit"], "--export junit: nothing is checked; add --check, --baseline NAME or --aa"),
        ("compare", ["--github"], "--github: GITHUB_STEP_SUMMARY is not set; GitHub Actions sets it"),
        (
            "compare",
            ["--json", "-", "--export", "csv:-"],
            "--export csv:-, --json -: stdout can hold one of them; name",
        ),
        ("compare", ["--json", "-", "--events", "-"], "--events -, --json -: stdout can hold one of them; name files"),
        ("compare", ["--history", "no/x.jsonl"], "--history no/x.jsonl: there is no folder no"),
        (
            "train",
            ["--export", "svg"],
            "--export svg: cannot hold runs that nobody compared; choose one of json, csv, ",
        ),
        ("train", ["--export", "junit:x.xml"], "--export junit:x.xml: cannot hold runs that nobody compared; "),
        ("shift-report", ["--export", "bmf"], "--export bmf: cannot hold a shift report; choose one of json, csv, "),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_trained(
    command: str, options: list[str], line: str, bncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    for name in ("compare", "train", "shift_report"):
        monkeypatch.setattr(api, name, lambda **_: pytest.fail("something is trained"))
    code, text, said = bncli(command, "smoke", "--device", "cpu", *options)
    assert (code, text) == (2, "")
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_all_mistakes_are_said_at_once(bncli: Command) -> None:
    with pytest.raises(ConfigError) as caught:
        places("cvs", "csv:no/x", "svg:-")
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_bncli_chose_is_named_on_stderr(
    bncli: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = read_destinations("study", "figure1", ["csv", "json:x.json"])
    write_destinations(DATA["study"], found)
    assert capsys.readouterr().err == "--export csv: wrote figure1.csv\n"
    assert json.loads((tmp_path / "x.json").read_text())["checks"][0]["word"] == "refuted"


@pytest.mark.usefixtures("bncli")
def test_on_github_the_summary_is_added_to_and_lines_stand_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    write_destinations(DATA["study"], read_destinations("study", "figure1", [], github=True))
    assert (tmp_path / "summary.md").read_text().startswith("before\n### figure1: ")
    assert capsys.readouterr().out == "::error::accuracy & such (50 %25)\n"
    write_destinations(DATA["study"], read_destinations("study", "figure1", ["csv:-"], github=True))
    assert "::error::" not in capsys.readouterr().out


def test_a_place_that_takes_lines_for_github_leaves_room_for_the_table() -> None:
    assert Destination("--export csv:-", "csv", "-").takes_stdout
    assert not Destination("--github", "github", "-").takes_stdout
