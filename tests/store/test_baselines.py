"""A baseline that is damaged, foreign or lacks what a gate asks of it is one line; one from before digests is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bncli.errors import DamageError, StoreError, UndecidedError
from bncli.session.regression import read_baseline
from bncli.store.folder import Store
from bncli.store.maintenance import verify

FIXTURES = Path(__file__).parents[1]
LEARNING = json.loads((FIXTURES / "fixtures" / "before_second_house" / "smoke" / "baselines" / "main.json").read_text())
TIMING = json.loads((FIXTURES / "timing" / "fixtures" / "baseline.json").read_text())
CASE = next(iter(TIMING["readings"]))
Change = Callable[[dict[str, Any]], object]


def copy(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document))
    return found


def first(document: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = document["runs"][0]
    return run


def curve(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(curve for curve in first(document)["curves"] if curve["quantity"] == name)
    return found


def keep(document: dict[str, Any], name: str) -> None:
    first(document)["curves"] = [curve(document, name)]


INCOMPLETE: dict[str, tuple[dict[str, Any], Change, str]] = {
    "empty": (LEARNING, lambda d: d.clear(), "schema None is not that of a baseline"),
    "another document": (LEARNING, lambda d: d.update(schema="bncli/shift/3"), "schema 'bncli/shift/3' is not"),
    "no runs": (LEARNING, lambda d: d.pop("runs"), "'runs' is missing"),
    "runs of nothing": (LEARNING, lambda d: d.update(runs=[]), "it has no runs"),
    "runs of null": (LEARNING, lambda d: d.update(runs=None), "'NoneType' object is not iterable"),
    "a run of null": (LEARNING, lambda d: d.update(runs=[None]), "'NoneType' object is not"),
    "no variant": (LEARNING, lambda d: first(d).pop("variant"), "'variant' is missing"),
    "a seed of text": (LEARNING, lambda d: first(d).update(seed="0"), "a run has no variant or no seed"),
    "no setting": (LEARNING, lambda d: first(d).update(setting=None), "a run has no setting"),
    "no values": (LEARNING, lambda d: first(d).pop("values"), "'values' is missing"),
    "a value without bounds": (
        LEARNING, lambda d: first(d)["values"]["steps_to_target"].pop("low"), "a value without bounds or reason",
    ),
    "a value of text": (LEARNING, lambda d: first(d)["values"]["steps_to_target"].update(value="50"), "no number"),
    "no spec": (LEARNING, lambda d: first(d).pop("spec"), "'spec' is missing"),
    "no end": (LEARNING, lambda d: first(d)["info"].pop("status"), "missing 1 required positional argument: 'status'"),
    "seconds of null": (LEARNING, lambda d: first(d)["info"].update(seconds=None), "or how long it took"),
    "no curves": (LEARNING, lambda d: first(d).pop("curves"), "'curves' is missing"),
    "a short curve": (LEARNING, lambda d: first(d)["curves"][0]["steps"].pop(), "more steps than values, or fewer"),
    "a curve of texts": (LEARNING, lambda d: first(d)["curves"][0].update(values=["a"]), "something else than numbers"),
    "a run without any curve": (LEARNING, lambda d: first(d).update(curves=[]), "loss was not measured at the steps"),
    "a run without accuracy": (LEARNING, lambda d: keep(d, "loss"), "accuracy was not measured at the steps"),
    "a curve twice": (LEARNING, lambda d: first(d)["curves"].append(first(d)["curves"][0]), "it has a number twice"),
    "an accuracy of 2": (LEARNING, lambda d: curve(d, "accuracy").update(values=[2.0] * 5), "accuracy at step 0 is 2.0"),
    "other steps": (LEARNING, lambda d: curve(d, "loss").update(steps=[1, 26, 51, 76, 99]), "loss was not measured at"),
    "a layer of controls": (LEARNING, lambda d: curve(d, "loss").update(layer="\x1b[2J"), "printed: \\x1b[2J"),
    "another recipe": (LEARNING, lambda d: first(d)["spec"]["training"].update(lr=3.0), "its spec is that of another"),
    "another id": (LEARNING, lambda d: first(d).update(id="a"), "a run has the id of another"),
    "a step of 301 digits": (LEARNING, lambda d: first(d)["info"].update(step=10**300), "bytes that are no whole number"),
    "a run twice": (LEARNING, lambda d: d["runs"].append(first(d)), "it has a run twice: none seed 0"),
    "a run less": (LEARNING, lambda d: d["runs"].pop(), "it has 2 runs of batch, of 3"),
    "a seed that is another's": (LEARNING, lambda d: first(d).update(seed=1), "it has a run twice: none seed 1"),
    "no arms": (LEARNING, lambda d: d.update(arms=[]), "it has runs of none, and no such arm"),
    "no measures": (LEARNING, lambda d: d.update(measures=[]), "a run lacks a measure of the study, or has another"),
    "no values of a measure": (LEARNING, lambda d: first(d)["values"].popitem(), "a run lacks a measure of the study"),
    "no study": (LEARNING, lambda d: d.pop("study"), "'study' is missing"),
    "no machine": (TIMING, lambda d: d.pop("machine"), "'machine' is missing"),
    "no readings": (TIMING, lambda d: d.update(readings={}), "it has no machine, no readings"),
    "a case without readings": (TIMING, lambda d: d["readings"][CASE].update(native=[]), "a case has no readings"),
    "a reading of text": (TIMING, lambda d: d["readings"][CASE].update(native=[["1", 2]]), "a reading is no number"),
    "half a reading": (TIMING, lambda d: d["readings"][CASE].update(native=[[1.0]]), "not enough values to unpack"),
}  # fmt: skip


@pytest.mark.parametrize("what", INCOMPLETE)
def test_an_incomplete_baseline_is_one_line_also_when_the_store_is_verified(what: str, tmp_path: Path) -> None:
    whole, change, why = INCOMPLETE[what]
    document = copy(whole)
    change(document)
    (tmp_path / "baselines").mkdir()
    place = tmp_path / "baselines" / "main.json"
    place.write_text(json.dumps(document))
    with pytest.raises(DamageError) as raised:
        Store(tmp_path).read_baseline("main")
    line = str(raised.value)
    assert line.startswith(f"{place}: cannot be read (")
    assert line.endswith("; save the baseline anew")
    assert why in line
    assert [checked.problem for checked in verify(tmp_path)] == [line]


@pytest.mark.parametrize("document", [LEARNING, TIMING], ids=["learning", "timing"])
def test_a_baseline_from_before_digests_is_read(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "main.json").write_text(json.dumps(document))
    assert Store(tmp_path).read_baseline(str(tmp_path / "main.json"))["schema"] in ("bncli/findings/3", 2)


def test_a_baseline_carries_a_digest_by_which_a_changed_number_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = store.write_baseline("main", TIMING)
    assert store.read_baseline("main") == TIMING
    text = place.read_text()
    number = repr(TIMING["readings"][CASE]["native"][0][0])
    place.write_text(text.replace(number, f"9{number}", 1))
    with pytest.raises(DamageError, match="it is not what was written"):
        store.read_baseline("main")


def test_a_baseline_that_is_not_there_is_another_matter(tmp_path: Path) -> None:
    for name in ("main", str(tmp_path / "no.json"), "x" * 200):
        with pytest.raises(UndecidedError, match="there is no such baseline; make one with --save-baseline"):
            Store(tmp_path).read_baseline(name)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda run: run["values"]["final_accuracy"].update(value=0.1), "final_accuracy of none seed 0 is 0.1, by its"),
        (lambda run: run["values"]["steps_to_target"].update(value=None), "steps_to_target of none seed 0 is None, by"),
        (lambda run: run["curves"][-1]["values"].__setitem__(-1, 0.1), "of none seed 0 is 0.8222000002861023, by its"),
    ],
)
def test_a_gate_refuses_a_baseline_whose_values_are_not_those_of_its_curves(
    change: Callable[[dict[str, Any]], object], why: str, tmp_path: Path
) -> None:
    document, place = copy(LEARNING), tmp_path / "main.json"
    document["runs"][0]["curves"].sort(key=lambda curve: str(curve["quantity"]) == "accuracy")
    place.write_text(json.dumps(document))
    assert read_baseline(Store(tmp_path), str(place), "bncli/findings/3")["name"] == "smoke"
    change(document["runs"][0])
    place.write_text(json.dumps(document))
    with pytest.raises(StoreError) as raised:
        read_baseline(Store(tmp_path), str(place), "bncli/findings/3")
    assert str(raised.value).startswith(f"{place}: not a whole baseline (")
    assert why in str(raised.value)
