"""The executor for debuggers: jobs run in this very process, and it is left as it was."""

import threading
from pathlib import Path

import pytest

import bncli


def test_a_study_trains_in_this_process_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    from bncli.engine import train as engine

    original = engine.train

    def watched(*arguments: object) -> object:
        seen.append(threading.current_thread().name)
        return original(*arguments)  # type: ignore[arg-type]

    how = {"training.steps": 20, "evaluation.every": 10}
    here, apart = tmp_path / "here", tmp_path / "apart"
    elsewhere = bncli.train("smoke", set=how, device="cpu", store=apart, jobs=1)
    assert seen == []
    monkeypatch.setattr("bncli.engine.train.train", watched)
    in_thread = bncli.train("smoke", set=how, device="cpu", store=here, executor="thread")
    assert {name.partition("_")[0] for name in seen} == {"bncli"}
    for ours, theirs in zip(in_thread.runs, elsewhere.runs, strict=True):
        assert ours.result is not None
        assert theirs.result is not None
        assert ours.result.records == theirs.result.records
