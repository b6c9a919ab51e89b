"""Runs made by hand are called as tests say, not by the hash of a spec."""

import pytest

import bncli.store.pack
from tests.store.made_store import name_run


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a made spec say what its run is called."""
    monkeypatch.setattr(bncli.store.pack, "run_id", name_run)
