"""Every norm of activations beside other people's code: layouts, wrappers, compilers, processes ."""

from functools import partial

import pytest

from bncli.norms import NORMS, norm
from bncli.norms.contract.candidates import Candidate
from bncli.norms.contract.neighbours import HABITS, SLOW_HABITS
from bncli.norms.contract.processes import train_in_two_processes

CHANNELS = 8

MAKES = {
    name: partial(norm, name, CHANNELS, **({"groups": 2} if "groups" in row.options else {}))
    for name, row in NORMS.items()
    if row.side == "activation"
}
MAKES |= {  # what options make of them
    f"{name} {kind}": partial(norm, name, CHANNELS, **options)
    for name, kind, options in (
        ("batch", "cumulative", {"momentum": "cumulative"}),
        ("batch", "untracked", {"track_running_stats": False}),
        ("batch", "fast", {"impl": "fast"}),
        ("batch", "shift", {"affine": "shift"}),
        ("renorm", "corrected", {"plain_steps": 0, "rmax_steps": 1, "dmax_steps": 1}),
        ("instance", "tracked", {"track_running_stats": True}),
        ("group", "scale", {"groups": 4, "affine": "scale"}),
        ("layer", "channels", {"over": "channels"}),
        ("rms", "channels", {"over": "channels"}),
        ("detached", "whitening", {"by": "whitening"}),
        ("online", "differentiated", {"differentiate": True}),
    )
}
CANDIDATES = {name: Candidate(make, CHANNELS) for name, make in MAKES.items()}


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__)
@pytest.mark.parametrize("name", CANDIDATES)
def test_a_norm(name, habit):
    habit(CANDIDATES[name])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, tracing a Function
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # its compiler's own, and
@pytest.mark.filterwarnings("ignore:.*torch._prims_common.check:FutureWarning")  # again
@pytest.mark.nightly
@pytest.mark.parametrize("habit", SLOW_HABITS, ids=lambda habit: habit.__name__)
@pytest.mark.parametrize("name", CANDIDATES)
def test_a_norm_under_a_compiler(name, habit):
    habit(CANDIDATES[name])


def test_every_norm_trains_in_two_processes():
    assert train_in_two_processes(CANDIDATES) == {}
