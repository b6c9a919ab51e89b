"""A study looked at several times: until it is decided, as planned, or extended at whim; the store remembers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bncli
from bncli.config import Study, read_study
from bncli.errors import ConfigError
from bncli.findings import Looks
from bncli.session.study import open_session
from bncli.session.training import remember, unplanned_looks
from bncli.store.studies import Look, Studies, study_id

Tiny = Callable[..., Study]
HOW: dict[str, Any] = {
    "executor": "thread",
    "device": "cpu",
    "engine": "untraced",
    "set": {"training.steps": 20, "evaluation.every": 10},
}
DECIDED = {"until": "decided", "max": 10}


def look(seeds: int, moment: int, looks: tuple[int, ...] = (), first: int = 0) -> Look:
    time = f"2026-03-02T14:05:{moment:02}Z"
    return Look("study", tuple(range(first, first + seeds)), "cpu", 4, 4, 0, "", time, looks)


def looked_at(study: Study, store: Path, *looks: Look, seeds: Any = None) -> tuple[int, ...]:
    session = open_session(study, seeds=seeds, store=store, device="cpu")
    remember(session)
    for each in looks:
        Studies(store).add_look(study_id(study.model_dump(mode="json")), each)
    return unplanned_looks(session)


def test_seeds_until_decided_are_all_of_them_with_fixed_looks(tiny: Tiny) -> None:
    study = tiny(seeds={"until": "decided", "max": 20})
    assert (study.seeds, study.looks) == (tuple(range(20)), (5, 8, 10, 15, 20))
    assert tiny(seeds={"until": "decided"}).looks == (5, 8, 10, 15, 20, 30, 50)
    assert tiny(seeds={"until": "decided", "max": 12}).looks == (5, 8, 10, 12)
    assert tiny(seeds={"until": "decided", "max": 3}).looks == (3,)
    assert tiny(seeds=3).looks == ()


def test_a_study_with_looks_is_read_again_as_it_was(tiny: Tiny) -> None:
    study = tiny(seeds=DECIDED, sweep={"training.lr": [0.1, 0.5]})
    assert read_study(study) == study
    assert [at.seeds for _, at in study.settings()] == [study.seeds] * 2


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ({"until": "bored"}, "study: seeds: must be {until: decided, max: 50}, got {'until': 'bored'}"),
        ({"until": "decided", "most": 5}, "study: seeds: must be {until: decided, max: 50}, got {'until': 'decided', "),
        (
            {"until": "decided", "max": "x"},
            "study: seeds: must be a number of seeds, a range like 0..9 or a list, got 'x'",
        ),
    ],
)
def test_other_ways_to_say_it_are_refused(seeds: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_study({"variants": {"none": "none"}, "reference": "none", "seeds": seeds})
    assert str(error.value).startswith(message)


def test_looks_of_another_number_of_seeds_are_refused(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"looks: none of \[5, 8\] is the number of seeds, 3"):
        tiny(seeds=3, looks=[5, 8])
    with pytest.raises(ConfigError, match=r"must be ascending numbers of seeds, got \[8, 5\]"):
        tiny(seeds=8, looks=[8, 5])


def test_until_decided_is_asked_for_on_the_way_in_too(tiny: Tiny) -> None:
    asked = [open_session(tiny(), until="decided", seeds=seeds).study for seeds in (None, 8, "8", range(8))]
    assert [study.looks for study in asked] == [(5, 8, 10, 15, 20, 30, 50), *[(5, 8)] * 3]
    assert open_session(tiny(), seeds=DECIDED).study.looks == (5, 8, 10)  # type: ignore[arg-type] # as YAML has it
    assert open_session(tiny(seeds=DECIDED), seeds=4).study.looks == ()
    with pytest.raises(ConfigError, match="--until: must be decided, got 'bored'"):
        open_session(tiny(), until="bored")


def test_more_looks_are_the_same_study(tiny: Tiny) -> None:
    assert study_id(tiny(seeds=DECIDED).model_dump(mode="json")) == study_id(tiny().model_dump(mode="json"))


def test_runs_of_one_look_and_of_the_next_share_no_job(tiny: Tiny) -> None:
    session = open_session(tiny(seeds=DECIDED), device="cpu")
    look_of = [{0 if run.seed < 5 else 1 if run.seed < 8 else 2 for run in job.runs} for job in session.jobs]
    assert all(len(looks) == 1 for looks in look_of)
    first = session.first(5)
    assert {job.id for job in first.jobs} <= {job.id for job in session.jobs}
    assert {run.seed for run in first.runs} == set(range(5))


def test_a_study_that_is_decided_early_trains_no_more_seeds(tmp_path: Path) -> None:
    found = bncli.compare("smoke", until="decided", seeds=10, store=tmp_path, **HOW | {"set": {
        "training.steps": 40, "measures": ["final_accuracy"]}})  # fmt: skip
    assert found.study.seeds == tuple(range(5))
    assert len(found.runs) == 10
    assert found.findings.looks == Looks(planned=(5, 8, 10))
    assert [c.verdict for c in found.findings.arms[1].comparisons] == ["better"]


def test_a_study_that_stays_open_is_looked_at_to_the_last_seed_and_says_the_same_again(tmp_path: Path) -> None:
    how = {**HOW, "set": {"training.steps": 2, "evaluation.every": 1}}  # the target is out of reach: nothing decides
    first, again = (bncli.compare("smoke", until="decided", seeds=6, store=tmp_path, **how) for _ in range(2))
    (study,) = Studies(tmp_path).list()
    assert {look.seeds for look in study.looks} == {tuple(range(5)), tuple(range(6))}
    assert {look.looks for look in study.looks} == {(5, 6)}
    assert first.findings == again.findings


def test_a_first_report_and_its_repetition_pay_nothing(tiny: Tiny, tmp_path: Path) -> None:
    assert looked_at(tiny(), tmp_path) == ()
    assert looked_at(tiny(), tmp_path, look(3, 1)) == ()


def test_an_extension_after_a_report_is_known(tiny: Tiny, tmp_path: Path) -> None:
    assert looked_at(tiny(), tmp_path, look(3, 1), look(5, 2), seeds=8) == (3, 5)
    assert looked_at(tiny(), tmp_path, seeds=5) == (3,)  # said again as it was said then
    assert looked_at(tiny(), tmp_path, seeds=3) == ()


def test_fewer_seeds_after_more_are_another_look_too(tiny: Tiny, tmp_path: Path) -> None:
    assert looked_at(tiny(), tmp_path, look(8, 1), seeds=5) == (8,)


def test_one_seed_and_fresh_seeds_are_no_look_at_these(tiny: Tiny, tmp_path: Path) -> None:
    assert looked_at(tiny(), tmp_path, look(1, 1), look(4, 2, first=10), seeds=5) == ()


def test_planned_looks_pay_by_their_plan_only_under_that_plan(tiny: Tiny, tmp_path: Path) -> None:
    plan = (5, 8, 10)
    assert looked_at(tiny(seeds=DECIDED), tmp_path, look(5, 1, plan), look(8, 2, plan)) == ()
    assert looked_at(tiny(), tmp_path, seeds=20) == (5, 8)
    assert looked_at(tiny(seeds=DECIDED), tmp_path, look(6, 3)) == (6,)


def test_compare_says_that_a_study_was_extended(tmp_path: Path) -> None:
    bncli.compare("smoke", seeds=2, store=tmp_path, **HOW)
    found = bncli.compare("smoke", seeds=3, store=tmp_path, **HOW).findings
    assert found.looks == Looks(unplanned=(2,))
    assert any("it allows for the reports with 2 seeds before this one" in note.text for note in found.notes)


def test_a_gate_needs_a_fixed_number_of_seeds(tmp_path: Path) -> None:
    for gate in ({"aa": True}, {"baseline": "main"}, {"save_baseline": "main"}):
        with pytest.raises(ConfigError, match="--until decided: a gate needs a fixed number of seeds"):
            bncli.compare("smoke", until="decided", store=tmp_path, **HOW, **gate)


def test_a_look_without_a_plan_is_written_as_before(tiny: Tiny, tmp_path: Path) -> None:
    looked_at(tiny(), tmp_path, look(3, 1))
    (file,) = tmp_path.glob("studies/*/looks/*.json")
    assert '"looks"' not in file.read_text()
