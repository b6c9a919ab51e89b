"""Batch normalisation over all ranks: exact against one process on their batches together, in two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_ranks import SHARES

from bncli.norms import norm

SCRIPT = Path(__file__).parent / "made_ranks.py"
UNIONS = [f"{kind} {locations}" for kind in SHARES for locations in ((), (3, 2))]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of two processes saw."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), folder / "rendezvous", folder / f"{rank}.json"], env=environment
        )
        for rank in range(2)
    ]
    try:
        assert [rank.wait(100) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", [*UNIONS, "cumulative"])
def test_outputs_gradients_second_gradients_and_statistics_are_those_of_one_process(seen, case):
    assert max(rank[case] for rank in seen) < 1e-12


@pytest.mark.parametrize("check", ["gradcheck", "gradgradcheck"])
def test_gradients_over_ranks_are_those_of_finite_differences(seen, check):
    assert [rank[check] for rank in seen] == [True, True]


def test_a_loss_scaled_by_the_share_of_the_examples_trains_in_ddp_as_one_process(seen):
    assert max(rank["wrapped"] for rank in seen) < 1e-12


def test_gradient_checkpointing_changes_nothing_over_ranks(seen):
    assert [rank["checkpointed"] for rank in seen] == [0.0, 0.0]


def test_a_rank_may_run_passes_alone(seen):
    assert [rank["alone"] for rank in seen] == [0.0, 0.0]


def test_one_value_in_all_ranks_is_refused_by_all(seen):
    assert {rank["refusal"] for rank in seen} == {"expected more than 1 value per channel when training, got 1"}


@pytest.mark.parametrize("training", [True, False])
def test_without_other_ranks_it_is_batch_to_the_last_bit(training):
    sync, batch = norm("sync", 3).train(training), norm("batch", 3).train(training)
    x = torch.randn(8, 3, 5, 5)
    assert torch.equal(sync(x), batch(x))
    assert sync.state_dict().keys() == batch.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(sync.buffers(), batch.buffers(), strict=True))
