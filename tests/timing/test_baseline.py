"""Baselines: kept in the store, read back the same, and refused on another kind of machine."""

from dataclasses import replace
from pathlib import Path

import pytest

from bncli.errors import StoreError, UndecidedError
from bncli.store.folder import Store
from bncli.timing.baseline import Baseline, Machine, check_comparable, read_baseline
from bncli.timing.results import ProcessReading

ENVIRONMENT = {
    "processor": "Xeon",
    "system": "Linux x86_64",
    "device": "cpu",
    "torch": "2.13.0",
    "python": "3.11.7",
    "bncli": "0.1",
}
MACHINE = Machine.of(ENVIRONMENT, cores=2, warm=True)
READINGS = {"native": (ProcessReading(1.5, 1e-3), ProcessReading(1.25, 2e-3)), "copy": (ProcessReading(3.0, 5e-4),)}
BASELINE = Baseline("2026-11-23T08:00:00+00:00", MACHINE, {"batch/train-forward": READINGS})


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = store.write_baseline("main", BASELINE.to_json())
    assert place == tmp_path / "baselines" / "main.json"
    assert read_baseline(str(place), store.read_baseline("main")) == BASELINE


def test_a_baseline_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    place = str(tmp_path / "ci" / "main.json")
    Store(tmp_path / "store").write_baseline(place, BASELINE.to_json())
    assert read_baseline(place, Store(tmp_path / "elsewhere").read_baseline(place)) == BASELINE


def test_a_new_baseline_takes_the_place_of_the_old(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_baseline("main", BASELINE.to_json())
    store.write_baseline("main", replace(BASELINE, made="later").to_json())
    assert store.read_baseline("main")["made"] == "later"
    assert [place.name for place in (tmp_path / "baselines").iterdir()] == ["main.json"]


def test_a_missing_baseline_leaves_a_gate_undecided(tmp_path: Path) -> None:
    with pytest.raises(UndecidedError) as caught:
        Store(tmp_path).read_baseline("main")
    place = tmp_path / "baselines" / "main.json"
    assert str(caught.value) == f"{place}: there is no such baseline; make one with --save-baseline main"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"schema": 2, "readings": {"a": {"native": [[1.5, 0.0]]}}},
            "main.json: not a baseline of bncli (ValueError: a has a time that is not above 0); save it anew",
        ),
        ({"schema": 9}, "main.json: baseline of schema 9, this bncli reads 2; save it anew"),
        ({"schema": 2}, "main.json: not a baseline of bncli (KeyError: 'readings'); save it anew"),
        (
            {"schema": 2, "readings": {"a": 3}},
            "main.json: not a baseline of bncli (AttributeError: 'int' object has no attribute 'items'); save it anew",
        ),
    ],
)
def test_what_is_no_baseline_is_refused(document: dict[str, object], message: str) -> None:
    with pytest.raises(StoreError) as caught:
        read_baseline("main.json", document)
    assert str(caught.value) == message


def test_the_same_kind_of_machine_is_comparable_whatever_bncli_it_has() -> None:
    check_comparable(BASELINE, Machine.of({**ENVIRONMENT, "bncli": "0.2", "python": "3.11.9"}, cores=2, warm=True))


def test_another_kind_of_machine_is_not_comparable() -> None:
    other = Machine.of({**ENVIRONMENT, "processor": "EPYC", "torch": "2.14.1"}, cores=2, warm=False)
    with pytest.raises(UndecidedError) as caught:
        check_comparable(BASELINE, other)
    assert str(caught.value) == (
        "not comparable: the baseline was made on another kind of machine (processor 'Xeon', here 'EPYC'; torch '2.13.0',"
        " here '2.14.1'; arguments 'warm', here 'cold'); save one here, or pass --allow-other-machine"
    )


def test_replayed_cuda_graphs_are_not_comparable_with_launches() -> None:
    replayed = Machine.of(ENVIRONMENT, cores=2, warm=True, graph=True)
    with pytest.raises(UndecidedError, match=r"\(launches 'eager', here 'graph'\)"):
        check_comparable(BASELINE, replayed)
