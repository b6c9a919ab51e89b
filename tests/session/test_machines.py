"""What findings say of runs that several machines have trained."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bncli.config import Study
from bncli.session.analysis import analyse_session
from bncli.session.study import open_session
from bncli.session.training import train

Tiny = Callable[..., Study]


def warnings_of(study: Study, store: Path, changes: Mapping[str, str]) -> str:
    """With one run as another machine would have trained it."""
    session, results = train(open_session(study, store=store, executor="thread", device="cpu"))
    key = session.runs[0].id
    there = {**results[key].info.environment, **changes}
    results[key] = replace(results[key], info=replace(results[key].info, environment=there))
    return "\n".join(analyse_session(session, results).warnings)


def test_unlike_machines_are_warned_of_where_times_are_compared_and_never_where_steps_are(
    tiny: Tiny, tmp_path: Path
) -> None:
    other = {"machine": "node7", "processor": "another", "threads": "64"}
    steps, times = tiny(measures=["final_loss"]), tiny(measures=["final_loss", "seconds_per_step"])
    assert "machines" not in warnings_of(steps, tmp_path, other)
    said = warnings_of(times, tmp_path, other)
    assert "times are compared over machines that differ in processor (" in said
    assert "another" in said
    assert "machines" not in warnings_of(times, tmp_path, {"machine": "node7"})


@pytest.mark.parametrize("measure", ["final_loss", "seconds_per_step"])
def test_another_torch_is_warned_of_wherever(tiny: Tiny, tmp_path: Path, measure: str) -> None:
    said = warnings_of(tiny(measures=[measure]), tmp_path, {"torch": "1.0", "machine": "node7"})
    assert "the runs were made in environments that differ in torch" in said
