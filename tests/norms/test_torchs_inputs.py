"""Our norms where torch has the same: its own test inputs, its sizes, what its converters make of them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import replace_all_batch_norm_modules_

from bncli import norm
from bncli.errors import ConfigError


def test_on_torchs_own_inputs_every_norm_equals_torchs_or_says_why_not():
    script = Path(__file__).parent / "torchs_inputs.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["wrong"] == {}
    assert found["refused"] == 12  # instance norms of an example without the axis of examples
    assert found["equal"] >= 90  # torch 2.13: 114


@pytest.mark.parametrize("channels", [8.0, 0, -1, "64", True, None, [2, 3], torch.tensor(2.5)])
def test_sizes_that_are_none_are_one_line(channels):
    wanted = re.escape(f"norm 'batch': channels must be a whole number >= 1, got {channels!r}")
    with pytest.raises(ConfigError, match=f"^{wanted}$"):
        norm("batch", channels)


@pytest.mark.parametrize("size", [np.int64(8), np.uint8(8), torch.tensor(8), np.array(8)])
def test_sizes_may_be_integers_of_any_type(size):
    assert norm("batch", size).running_mean.shape == (8,)
    assert norm("group", 16, groups=size).groups == 8
    assert norm("layer", (2, size), over="last").weight.shape == (2, 8)


def test_several_sizes_are_for_the_last_axes():
    with pytest.raises(ConfigError, match=r"^norm 'rms': expected one number of channels, got \(2, 3\); .*over='last'"):
        norm("rms", (2, 3))
    with pytest.raises(ValueError, match=r"^expected \(3,\) in the last axes, got input of shape \(2, 4\)$"):
        norm("layer", 3, over="last")(torch.ones(2, 4))


@pytest.mark.parametrize("name", ["layer", "rms"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_over_channels_each_location_is_by_itself(name, layout):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 5, 3).to(memory_format=layout)
    module = norm(name, 6, over="channels")
    module.weight.data.uniform_()
    y = module(x)
    tokens = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[name](6, eps=module.eps)
    tokens.load_state_dict(module.state_dict())
    torch.testing.assert_close(y, tokens(x.movedim(1, -1)).movedim(-1, 1))
    assert y.is_contiguous(memory_format=layout)
    assert norm(name, 6, over="channels")(x[:, :, 0, 0]).allclose(norm(name, 6)(x[:, :, 0, 0]), atol=1e-6)


def test_batch_norm_that_tracks_nothing_may_be_converted_by_torch():
    module = norm("batch", 6).eval()
    x = torch.randn(12, 6) + 3
    replace_all_batch_norm_modules_(module)
    torch.testing.assert_close(module(x), norm("batch", 6, track_running_stats=False).eval()(x))
    assert module(x).mean().abs() < 1e-6


def test_batch_norm_is_made_a_synchronised_one_by_torch():
    module = norm("batch", 6, eps=1e-3, affine="scale")
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    assert isinstance(synchronised, nn.SyncBatchNorm)
    assert synchronised.weight is module.weight
    assert synchronised.bias is None
    assert synchronised.running_var is module.running_var
    with pytest.raises(AttributeError, match="'ZCA' object has no attribute 'num_features'"):
        nn.SyncBatchNorm.convert_sync_batchnorm(norm("zca", 6))


def test_momentum_none_is_torchs_word_for_cumulative():
    assert norm("batch", 6, momentum=None).momentum == "cumulative"


def test_batch_norm_that_is_to_track_no_longer_leaves_its_statistics_as_torchs_does():
    ours, torchs = norm("batch", 3), nn.BatchNorm1d(3)
    first, x = torch.randn(2, 6, 3, 4) * 3 + 1
    for module in (ours, torchs):
        module(first)
        module.track_running_stats = False
    torch.testing.assert_close(ours(x), torchs(x))
    torch.testing.assert_close(ours.state_dict(), torchs.state_dict())
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))


def test_instance_norm_that_is_to_track_no_longer_normalises_by_the_example():
    module = norm("instance", 3, track_running_stats=True)
    first, x = torch.randn(2, 6, 3, 4) * 3 + 1
    module(first)
    kept = module.running_mean.clone()
    module.track_running_stats = False
    torch.testing.assert_close(module(x), norm("instance", 3)(x))
    torch.testing.assert_close(module.eval()(x), norm("instance", 3)(x))
    assert module.running_mean.equal(kept)


def test_batch_norm_without_its_statistics_normalises_by_the_batch_as_torchs_does():
    ours, torchs, x = norm("batch", 3), nn.BatchNorm1d(3), torch.randn(6, 3)
    for module in (ours, torchs):
        replace_all_batch_norm_modules_(module)
        module.eval()
    assert torch.equal(ours(x), torchs(x))


RUNNING = ["batch-mean", "ghost", "renorm", "zca", "iternorm", "deconv", "evonorm-b0", "switchable"]


@pytest.mark.parametrize("name", RUNNING)
def test_a_norm_that_needs_its_statistics_says_so_when_they_are_taken_away(name):
    module = norm(name, 6)
    with pytest.raises(
        ConfigError, match=r"^\w+: running_mean cannot be None, as the norm needs its running statistics;"
    ):
        module.running_mean = None
    with pytest.raises(ConfigError, match=r"^\w+: track_running_stats cannot be False, as the norm needs"):
        module.track_running_stats = False
    with pytest.raises(ConfigError, match="as the norm needs its running statistics"):
        replace_all_batch_norm_modules_(module)
    module(torch.randn(8, 6))
