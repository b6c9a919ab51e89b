"""What a study accepts trains and evaluates: every norm in every model, with batches of every small size."""

import zlib
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest

from bncli.config.study import study_of
from bncli.engine.train import train
from bncli.errors import ConfigError
from bncli.norms import NORMS
from bncli.plan import Job, runs_of

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    *(("digits", {"name": "mlp", "hidden": hidden}) for hidden in ([1], [3], [5], [8], [])),
    ("digits", {"name": "mlp", "hidden": [6], "placement": "post"}),
    ("digits", {"name": "deep-mlp", "depth": 2, "width": 7}),
    ("digits", {"name": "residual-mlp", "width": 6, "blocks": 1}),
    ("digits", {"name": "residual-mlp", "width": 1, "blocks": 1}),
    ("linear-map", {"name": "deep-linear", "depth": 2, "width": 3}),
    ("offset", {"name": "shift"}),
    ("digits", {"name": "shift"}),
    ("digits", {"name": "convnet", "channels": [3]}),
    ("digits", {"name": "convnet", "channels": [1]}),
    ("digits", {"name": "convnet", "channels": [4, 8, 6], "placement": "post"}),
    ("digits", {"name": "convnet", "channels": [4], "head": "flatten"}),
    ("digits", {"name": "resnet", "depth": 8, "channels": [3, 5, 6]}),
    ("digits", {"name": "resnet", "depth": 8, "channels": [2, 2, 4], "shortcut": "projection"}),
    ("digits", {"name": "inception-bn", "divisor": 32}),
    ("digits", {"name": "transformer", "width": 6, "depth": 1, "placement": "post"}),
    ("digits", {"name": "transformer", "width": 4, "depth": 1, "statistics": "position", "qk_norm": True}),
    ("digits", {"name": "transformer", "width": 1, "heads": 1, "depth": 1, "activation": "swiglu"}),
    ("digits", {"name": "transformer", "width": 8, "depth": 1, "placement": "sandwich", "positions": "rotary"}),
    (
        "digits",
        {"name": "transformer", "width": 4, "depth": 1, "placement": "none", "final_norm": True, "causal": True},
    ),
]
EVALUATED = [{}, {"statistics": "batch"}, {"statistics": "precise", "precise_batches": 2}]


def options_of(norm: str) -> Iterator[dict[str, Any]]:
    """Its defaults, and every other value of one option that has few."""
    yield {}
    for key, option in NORMS[norm].options.items():
        if key in ("groups", "group_size", "ghost_size"):
            yield from ({key: value} for value in (1, 2, 3, 6, 8))
        elif option.type is bool:
            yield {key: not option.default}
        elif get_origin(option.type) is Literal:
            yield from ({key: value} for value in get_args(option.type) if value != option.default)


def studies() -> Iterator[dict[str, Any]]:
    for data, model in NETWORKS:
        for norm in NORMS:
            for options in options_of(norm):
                for batch in (1, 2, 3, 4, 5, 33):
                    for evaluation in EVALUATED:
                        yield {
                            "data": data, "model": model, "training": {"steps": 1, "batch_size": batch},
                            "evaluation": {"every": 1, "split": "validation", **evaluation},
                            "variants": {"a": {"norm": {"name": norm, **options}}}, "reference": "a", "seeds": 1,
                            "measures": ["final_loss"],
                        }  # fmt: skip


def ends(one_in: int, part: int = 0) -> dict[str, int]:
    """How one study in so many ended; which, `part` of as many says."""
    counts: dict[str, int] = {}
    for tree in studies():
        if zlib.crc32(repr(tree).encode()) % one_in != part:
            continue
        end = "refused"
        try:
            study = study_of(tree)
        except ConfigError:
            pass
        else:
            try:
                end = train(Job(tuple(runs_of(study, "cpu", "plain"))))[0].info.status
            except Exception as error:
                raise AssertionError(f"{tree}: {error}") from error
            assert end in ("done", "diverged"), tree
        counts[end] = counts.get(end, 0) + 1
    return counts


def test_what_is_accepted_trains_one_in_1200() -> None:
    counts = ends(1200)
    assert counts["done"] > 15
    assert counts["refused"] > 5


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(8))
def test_what_is_accepted_trains(part: int) -> None:
    assert ends(8, part)["done"] > 3_000


def test_a_parameter_that_a_step_does_not_use_is_left_alone() -> None:
    tree = next(
        tree for tree in studies() if tree["variants"]["a"]["norm"] == {"name": "frn"} and "channels" in tree["model"]
    )
    (run,) = runs_of(study_of(tree | {"training": {"steps": 2, "batch_size": 4}}), "cpu", "plain")
    assert train(Job((run,)))[0].info.status == "done"  # frn learns an eps that maps do without
