"""Every norm of activations beside other people's code: layouts, wrappers, compilers, processes (neighbours.py)."""

from functools import partial

import pytest
from neighbours import CHANNELS, HABITS, SLOW_HABITS, train_in_two_processes

from bncli.norms import NORMS, norm

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


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__)
@pytest.mark.parametrize("name", MAKES)
def test_a_norm(name, habit):
    habit(MAKES[name])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, tracing a Function
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # its compiler's own, and
@pytest.mark.filterwarnings("ignore:.*torch._prims_common.check:FutureWarning")  # again
@pytest.mark.nightly
@pytest.mark.parametrize("habit", SLOW_HABITS, ids=lambda habit: habit.__name__)
@pytest.mark.parametrize("name", MAKES)
def test_a_norm_under_a_compiler(name, habit):
    habit(MAKES[name])


def test_every_norm_trains_in_two_processes():
    assert train_in_two_processes(MAKES) == {}
