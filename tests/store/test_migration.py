"""Stores and documents of schema 1, made by the code before, are read as if they had been written today."""

import gzip
import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bncli.store.folder
from bncli.analysis.regression import regressions
from bncli.config import read_study
from bncli.norms import NORMS
from bncli.plan import Run, runs_of
from bncli.presets import preset_path
from bncli.records import CurveKey, RunResult, StudyRun
from bncli.report.study.json import run_document
from bncli.store.folder import Store
from bncli.store.maintenance import verify
from bncli.store.pack import migrate_findings

FOLDER = Path(__file__).parents[1] / "fixtures" / "before_second_house"
STUDIES = {"quickstart": preset_path("quickstart"), "probed": FOLDER / "probed.yaml", "smoke": preset_path("smoke")}


@pytest.fixture(autouse=True)
def as_if_no_number_had_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms whose numbers have changed since answer with no run of before; how such a run is read is asked here."""
    for name, row in NORMS.own.items():
        monkeypatch.setitem(NORMS.own, name, replace(row, numerics=2))


def document_of(name: str) -> dict[str, Any]:
    """As the code before wrote it."""
    if name == "smoke":
        found: dict[str, Any] = json.loads((FOLDER / "smoke" / "baselines" / "main.json").read_text())
    else:
        found = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    return found


def planned(name: str) -> list[Run]:
    """What is asked for today."""
    return runs_of(read_study(STUDIES[name], (), [], None), "cpu")


def named_before(key: CurveKey) -> tuple[str, str]:
    """The quantity and the layer that schema 1 gave a curve."""
    statistic = f"unit {key.index}" if key.index is not None else key.statistic
    return ":".join(filter(None, (key.metric, statistic))), "/".join(filter(None, (key.layer, key.place)))


def curves_of(run: RunResult) -> Iterator[tuple[CurveKey, str, list[int], list[float]]]:
    for key, unit in {record.key: record.unit for record in run.records}.items():
        yield key, unit, *run.curve(*key)


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_planned_today_was_stored_before(name: str) -> None:
    store = Store(FOLDER / name)
    runs = planned(name)
    assert [run.id for run in runs if run.id not in store] == []
    assert len(runs) == len(list((FOLDER / name / "runs").iterdir()))
    for run in runs:
        assert store.read(run.id).spec == json.loads(json.dumps(run.spec()))


@pytest.mark.parametrize("name", STUDIES)
def test_every_number_is_that_of_the_document_written_then(name: str) -> None:
    store = Store(FOLDER / name)
    for written in document_of(name)["runs"]:
        run = store.read(written["id"])
        before = {(c["quantity"], c["layer"]): (c["unit"], c["steps"], c["values"]) for c in written["curves"]}
        now = {named_before(key): tuple(rest) for key, *rest in curves_of(run)}
        assert now == before
        assert len(before) == len(written["curves"]) > 5


def test_a_unit_a_place_and_a_statistic_are_fields() -> None:
    run = Store(FOLDER / "probed").read(planned("probed")[0].id)
    keys = {record.key for record in run.records}
    assert {
        CurveKey("accuracy"),
        CurveKey("parameter_norm", "readout.weight"),
        CurveKey("percentile_15", "hidden.0.0", "norm", "median"),
        CurveKey("percentile_85", "hidden.1.0", "activation", index=1),
        CurveKey("w1", "hidden.0.0", "layer", "p90"),
        CurveKey("w1", "hidden.0.0", "layer", "null"),
        CurveKey("condition-number", "hidden.1.0", "norm"),
        CurveKey("gradient-shift", "readout"),
        CurveKey("loss-range"),
    } <= keys
    assert not [key for key in keys if {":", "/"} & set("".join(key[:4]))]


def test_reading_rewrites_no_file(tmp_path: Path) -> None:
    place = tmp_path / "store"
    shutil.copytree(FOLDER / "probed", place)
    files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    Store(place).read_all(run.id for run in planned("probed"))
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == files


def test_a_run_read_of_schema_1_is_written_and_read_as_schema_2(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    for run in planned("probed"):
        result = Store(FOLDER / "probed").read(run.id)
        store.write(result)
        assert store.read(run.id) == result
        with zipfile.ZipFile(tmp_path / "runs" / run.id / "curves.npz") as archive:
            assert "quantity.npy" not in archive.namelist()


def test_where_the_code_before_kept_a_pack_runs_are_read_from_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bncli.store.folder, "PACKED_FROM", 2)
    place = tmp_path / "store"
    shutil.copytree(FOLDER / "probed", place)
    ids = [run.id for run in planned("probed")]
    (place / "pack.npz").write_bytes(b"of before")
    for _ in ("from folders", "from copies"):
        found = Store(place).read_all(ids)
        assert [Counter(found[key].records) == Counter(Store(place).read(key).records) for key in ids] == [True] * len(
            ids
        )
        assert not (place / "pack.npz").exists()
    assert [checked.problem for checked in verify(place) if checked.problem] == []


Change = Callable[[dict[str, Any]], None]


def raise_a_loss(document: dict[str, Any]) -> None:
    document["runs"][0]["curves"][1]["values"][2] += 1e-9


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda document: None, ["identical"] * 2), (raise_a_loss, ["changed", "identical"])],
)
def test_a_baseline_of_before_holds_runs_of_before_and_a_change_of_one_number_is_seen(
    change: Change, words: list[str]
) -> None:
    store = Store(FOLDER / "smoke")
    before = store.read_baseline("main")
    runs = [
        run_document(StudyRun(run.variant, run.setting, run.seed, run.id, store.read(run.id)))
        for run in planned("smoke")
    ]
    for run, old in zip(runs, before["runs"], strict=True):
        run["values"] = old["values"]
    now = {**before, "runs": runs}
    change(before)
    assert [check.word for check in regressions(now, before, [])] == words


def test_a_migrated_document_says_nothing_else_than_before() -> None:
    before = document_of("smoke")
    now = migrate_findings(before)
    assert now["schema"] == "bncli/findings/3"
    changed = ("schema", "runs", "arms", "verdicts", "notes", "answer", "curves")
    assert {**now, **dict.fromkeys(changed, 0)} == {**before, **dict.fromkeys(changed, 0)}
    assert [note["text"] for note in now["notes"]] == before["notes"]
    for new, old in zip(now["arms"], before["arms"], strict=True):
        for summary, was in zip(new["summaries"], old["summaries"], strict=True):
            assert [summary["mean"] or summary["median"], summary["std"]] == [was["centre"], was["spread"]]
    for new, old in zip(now["verdicts"], before["verdicts"], strict=True):
        assert new["probability_of_improvement"] == old["superiority"]
    for new, old in zip(now["runs"], before["runs"], strict=True):
        assert {**new, "curves": 0} == {**old, "curves": 0}
        for curve, written in zip(new["curves"], old["curves"], strict=True):
            key = CurveKey(*(curve[name] for name in CurveKey._fields))
            assert named_before(key) == (written["quantity"], written["layer"])
            assert [curve[name] for name in ("unit", "steps", "values")] == [
                written[name] for name in ("unit", "steps", "values")
            ]


def test_other_documents_are_left_as_they_are() -> None:
    document = {"schema": "bncli/bench/1", "runs": [{"curves": [{"quantity": "x"}]}]}
    assert migrate_findings(document) is document
