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
BATCH_WHITENING = ("zca", "pca", "zca-cor", "cholesky", "iternorm", "deconv")
# to be mended within issue 15, then gone
WANTING = {
    "in_two_processes": BATCH_WHITENING,
    **dict.fromkeys(("takes_gradients_of_any_layout", "may_be_overwritten", "works_within_autocast"), BATCH_WHITENING),
    "keeps_one_layout_in_training_and_evaluation": (*BATCH_WHITENING, "detached", "detached whitening"),
    **dict.fromkeys(
        ("is_loaded_after_to_empty", "follows_writes_to_data"),
        (*BATCH_WHITENING, "instance-whitening", "switchable-whitening"),
    ),
}


def pairs(habits):
    return [
        pytest.param(
            name,
            habit,
            id=f"{name}-{habit.__name__}",
            marks=[pytest.mark.xfail] * (name in WANTING.get(habit.__name__, ())),
        )
        for name in MAKES
        for habit in habits
    ]


@pytest.mark.parametrize(("name", "habit"), pairs(HABITS))
def test_a_norm(name, habit):
    habit(MAKES[name])


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "habit"), pairs(SLOW_HABITS))
def test_a_norm_under_a_compiler(name, habit):
    habit(MAKES[name])


def test_every_norm_trains_in_two_processes():
    wrong = train_in_two_processes(MAKES)
    assert wrong.keys() == set(WANTING["in_two_processes"]), wrong
