"""`bncli show` and `ls studies`: what is stored is shown again, whole or not, and nothing is trained or written."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import bncli as library
from bncli.cli.completion import complete_study
from bncli.engine import train
from bncli.session import training
from tests.cli.conftest import Command
from tests.report.made_bench import record
from tests.report.test_exports import DATA
from tests.report.test_reading import as_read
from tests.store.made_store import content

CHANGES = {"training.steps": 20, "evaluation.every": 10}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two stores, `a` and `b`: of one study, and of it and another."""
    folder = tmp_path_factory.mktemp("stores")
    how: dict[str, Any] = {"seeds": 2, "jobs": 1, "device": "cpu"}
    library.compare("smoke", set=CHANGES, store=folder / "a", **how)
    shutil.copytree(folder / "a", folder / "b")
    probed = {**CHANGES, "probes.metrics": ["w1", "location-drift"], "probes.every": 5}
    library.shift_report("smoke", set=probed, store=folder / "b", **how)
    return folder


@pytest.fixture
def folder(stores: Path, tmp_path: Path, bncli: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in the current folder, where nothing can be trained."""
    shutil.copytree(stores, tmp_path, dirs_exist_ok=True)

    def refuse(*_: object) -> None:
        raise AssertionError("something is trained")

    monkeypatch.setattr(train, "train", refuse, raising=False)
    monkeypatch.setattr(training, "run_jobs", refuse)
    monkeypatch.setenv("BNCLI_STORE", "a")
    return tmp_path


def test_a_study_is_shown_as_it_was_by_name_and_by_id_and_the_store_stays_as_it_was(
    folder: Path, bncli: Command
) -> None:
    before = content(folder / "a")
    _, listed, _ = bncli("ls", "studies", "--json", "-")
    (study,) = json.loads(listed)["studies"]
    code, compared, _ = bncli("show", "smoke", "--export", "json:-")
    assert code == 0
    _, first, _ = bncli("show")
    assert bncli("show", "smoke")[1] == first
    assert bncli("show", study["id"][:6])[1] == first
    assert "batch  " in first
    assert "2 paired seeds" in first
    assert len(json.loads(compared)["runs"]) == 4
    assert content(folder / "a") == before


def test_what_show_writes_is_what_compare_wrote(folder: Path, bncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("smoke", "--seeds", "2", "--device", "cpu", *(f"--set={key}={value}" for key, value in CHANGES.items()))
    code, text, _ = bncli("compare", *options, "--json", "-")
    assert code == 0
    compared, shown = json.loads(text), json.loads(bncli("show", "--json", "-")[1])
    assert {**compared, "command": ""} == {**shown, "command": ""}
    (folder / "x.json").write_text(text)
    assert json.loads(bncli("show", "x.json", "--json", "-")[1]) == compared
    assert bncli("show", "x.json")[1] == bncli("show")[1]


def test_a_probed_study_is_shown_as_a_shift_report_unless_asked_otherwise(folder: Path, bncli: Command) -> None:
    assert "percentile" not in bncli("show", "--store", "b", "--as", "study")[1]
    assert "\nprobed: " in bncli("show", "--store", "b")[1]
    _, text, _ = bncli("show", "--store", "b", "--export", "json:-")
    assert json.loads(text)["schema"] == "bncli/shift/3"
    code, _, line = bncli("show", "--as", "shift")
    assert (code, line) == (2, "smoke: was trained without probes; `bncli shift-report` trains with them\n")


def test_an_incomplete_study_is_shown_with_what_is_there(folder: Path, bncli: Command) -> None:
    first, *_ = sorted((folder / "a" / "runs").iterdir())
    shutil.rmtree(first)
    code, text, _ = bncli("show")
    assert code == 0
    assert "warning: incomplete: 3 of 4 runs are in the store, and what is said is of those" in text
    (listed,) = json.loads(bncli("ls", "studies", "--json", "-")[1])["studies"]
    assert (listed["stored"], listed["planned"], listed["complete"]) == (3, 4, False)
    shutil.rmtree(folder / "a" / "runs")
    code, _, line = bncli("show")
    assert (code, line.count("\n")) == (2, 1)
    assert line.startswith("smoke: none of the 4 runs of the study is in a")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["smok"], "no study is called 'smok'; did you mean 'smoke'? (known: smoke), nor a preset; `bncli ls studies`"),
        (["figure1"], "figure1: none of the 10 runs of the study is in a; `bncli compare` trains them"),
        (["no.json"], "no.json: cannot be read (no.json is missing); write it anew by --json"),
        (["wrong.json"], "wrong.json: document of schema 'x/1', this bncli reads bncli/findings/3, "),
        (["broken.json"], "broken.json: cannot be read (Expecting property name"),
        (["smoke", "a", "b"], "show: takes one or two, got 3: smoke, a, b"),
        (
            ["a", "b", "--json", "-"],
            "--json -: cannot hold what stands side by side, or a history; choose one of csv, ",
        ),
        (["none.jsonl"], "none.jsonl: cannot be read (No such file or directory); --history writes one"),
        (["smoke", "--as", "bench"], "--as: must be study or shift, got 'bench'"),
        (["smoke", "--store", "c"], "c: there is no store of bncli"),
        (["smoke", "--export", "cvs"], "--export cvs: no format is called 'cvs'; did you mean 'csv'?"),
        (["smoke", "--export", "junit"], "--export junit: nothing is checked; add --check"),
        (["bench.json", "smoke"], "bench.json, smoke: timings of kernels and a comparison measure nothing in common"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(folder: Path, bncli: Command, arguments: list[str], line: str) -> None:
    (folder / "wrong.json").write_text('{"schema": "x/1"}')
    (folder / "broken.json").write_text("{")
    (folder / "bench.json").write_text(json.dumps(as_read(DATA["bench"])))
    code, text, said = bncli("show", *arguments)
    assert (code, text) == (2, "")
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_documents_of_bench_and_of_shift_are_shown(folder: Path, bncli: Command) -> None:
    for kind, part in (("bench", "0.59x [0.58, 0.59]"), ("shift", "0.15 ±0.07 ↓"), ("study", "5,100 ± 280")):
        (folder / f"{kind}.json").write_text(json.dumps(as_read(DATA[kind])))  # type: ignore[index]
        code, text, said = bncli("show", f"{kind}.json", "--export", "csv")
        assert (code, said) == (0, f"--export csv: wrote {DATA[kind].name}.csv\n")  # type: ignore[index]
        assert part in text
    assert "refuted" in bncli("show", "study.json")[1]


def test_two_documents_stand_side_by_side_with_what_differs_in_what_was_asked(folder: Path, bncli: Command) -> None:
    document = json.loads(bncli("show", "--json", "-")[1])
    other = json.loads(json.dumps(document))
    other["study"]["training"]["lr"] = 0.125
    for arm in other["arms"]:
        arm["summaries"][1]["mean"] += 0.25
    for name, each in (("x.json", document), ("y.json", other)):
        (folder / name).write_text(json.dumps(each))
    code, text, _ = bncli("show", "x.json", "y.json")
    assert code == 0
    assert "A: x.json\nB: y.json\n" in text
    (row,) = [line for line in text.splitlines() if line.startswith(" batch   final accuracy")]
    assert row.endswith("+25.0")
    assert "training.lr: 0.5 in A, 0.125 in B" in text
    assert "both ask the same" in bncli("show", "x.json", "smoke")[1]


def test_two_stores_are_held_side_by_side_in_every_study_of_both(folder: Path, bncli: Command) -> None:
    code, text, _ = bncli("show", "a", "b")
    assert code == 0
    assert "A: smoke in a\nB: smoke in b\n" in text
    assert text.count("A: ") == 1
    shutil.rmtree(folder / "a" / "studies")
    code, _, line = bncli("show", "a", "b")
    assert (code, line) == (2, "a and b hold no study in common; `bncli ls studies --store` lists each\n")


def test_two_timings_are_compared_by_case(folder: Path, bncli: Command) -> None:
    (folder / "bench.json").write_text(json.dumps(as_read(DATA["bench"])))
    _, text, _ = bncli("show", "bench.json", "bench.json")
    name = record().rows[0].case.name
    (row,) = [line for line in text.splitlines() if line.startswith(f" {name}") and "time / native" in line]
    assert row.split("native")[1].split() == ["0.59x", "[0.58,", "0.59]", "0.59x", "[0.58,", "0.59]", "1.00x"]


@pytest.mark.usefixtures("made")
def test_bench_appends_a_line_a_run_and_show_draws_them(tmp_path: Path, bncli: Command) -> None:
    for _ in range(2):
        code, _, said = bncli("bench", "tiny.yaml", "--warm", "--only", "batch", "--history", "gate.jsonl")
        assert code == 0, said
    Path("gate.jsonl").write_text(Path("gate.jsonl").read_text().rstrip("\n"))  # as an editor may leave it
    bncli("bench", "tiny.yaml", "--warm", "--only", "batch", "--history", "gate.jsonl")
    assert len(Path("gate.jsonl").read_text().splitlines()) == 3
    code, text, _ = bncli("show", "gate.jsonl", "--export", "csv:gate.csv", "--export", "html:gate.html")
    assert code == 0
    assert text.startswith("history gate\nnothing has stepped\n\ntiny on ")
    assert next(csv.DictReader(Path("gate.csv").read_text().splitlines()))["runs"] == "3"
    assert "<td>3</td>" in Path("gate.html").read_text()
    code, _, said = bncli("bench", "tiny.yaml", "--history", "no/gate.jsonl")
    assert (code, said) == (2, "--history no/gate.jsonl: there is no folder no\n")


def test_compare_appends_what_its_gate_needs(folder: Path, bncli: Command) -> None:
    options = ("smoke", "--seeds", "2", "--device", "cpu", *(f"--set={key}={value}" for key, value in CHANGES.items()))
    for _ in range(2):
        assert bncli("compare", *options, "--history", "gate.jsonl")[0] == 0
    line = json.loads((folder / "gate.jsonl").read_text().splitlines()[0])
    assert [len(row["values"]) for row in line["rows"]] == [2] * 4
    assert line["commit"] == ""
    code, text, _ = bncli("show", "gate.jsonl")
    assert code == 0
    assert text.startswith("history gate\nnothing has stepped\n\nsmoke on ")


def test_the_shell_completes_names_and_ids_of_stored_studies(folder: Path, bncli: Command) -> None:
    (study,) = json.loads(bncli("ls", "studies", "--json", "-")[1])["studies"]
    assert complete_study("") == ["smoke"]
    assert complete_study(study["id"][:3]) == [study["id"][:12]]
    assert complete_study("z") == []


@pytest.mark.parametrize("damage", [{"arms": [], "measures": []}, {"measures": []}, {"environment": 3}])
def test_a_document_that_lacks_what_a_table_is_made_from_is_a_line(
    damage: dict[str, Any], tmp_path: Path, bncli: Command
) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({**as_read(DATA["study"]), **damage}))
    code, _, said = bncli("show", str(file), "--html", str(tmp_path / "a.html"))
    assert code in (0, 2)
    assert code == 0 or said.startswith(f"{file}: not a whole document (")


def test_a_history_line_with_what_is_no_number_is_left_out(tmp_path: Path, bncli: Command) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"time": "2026", "rows": [{"value": NaN}]}\n')
    _, _, said = bncli("show", str(file))
    assert f"{file}:1: no line of a history (ValueError: NaN is no number); it is left out" in said


def test_two_exports_cannot_have_one_file(folder: Path, bncli: Command) -> None:
    code, _, said = bncli("show", "smoke", "--store", "a", "--export", "csv:x", "--export", "json:x")
    assert (code, said) == (2, "--export csv:x, --export json:x: x can hold one of them; name a file for each\n")
