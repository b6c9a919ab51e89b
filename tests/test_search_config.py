"""What `search:` of a preset may say, and the line for what it may not."""

from typing import Any

import pytest

from bncli.config import budget
from bncli.config.study import study_of
from bncli.errors import ConfigError
from bncli.store.studies import study_id

LR = {"training.lr": {"log": [1e-3, 10]}}


def test_a_space_is_written_back_as_it_was_read(tiny: Any) -> None:
    over = {**LR, "training.optimizer.momentum": {"linear": [0, 0.99]}, "model.hidden": [[16], [16, 16]]}
    study = tiny(search={"over": over, "trials": 40, "prune": "halving"})
    dumped = study.model_dump(mode="json")
    assert dumped["search"]["over"] == over
    assert study_of(dumped) == study


def test_a_study_without_a_search_is_written_as_before_there_was_any(tiny: Any) -> None:
    assert "search" not in tiny().model_dump(mode="json")
    assert study_id(tiny(search={"over": LR}).model_dump(mode="json")) != study_id(tiny().model_dump(mode="json"))


def test_the_runs_of_a_search_are_counted_before_anything_is_planned(tiny: Any) -> None:
    whole, halved = ({"over": LR, "trials": 40, "seeds": 2, **prune} for prune in ({}, {"prune": "halving"}))
    assert budget.count_runs(tiny(search=whole)) == 2 * (40 * 2 + 3)
    assert budget.count_runs(tiny(search=halved)) == 2 * ((40 + 14 + 5) * 2 + 3)


def test_a_search_of_too_many_runs_is_refused_with_its_own_numbers(tiny: Any) -> None:
    with pytest.raises(
        ConfigError, match="search: 1 settings x 2 variants x 3 seeds and 10,000 trials x 100 seeds of a"
    ):
        tiny(search={"over": LR, "trials": 10_000, "seeds": 100})


def test_halving_looks_at_a_ninth_and_a_third_of_the_steps(tiny: Any) -> None:
    search = tiny(search={"over": LR, "prune": "halving"}).search
    assert search.ladder(1000) == (112, 334, 1000)
    assert search.ladder(9) == (1, 3, 9)
    assert tiny(search={"over": LR}).search.ladder(1000) == ()


def test_a_range_is_even_on_its_scale_and_keeps_to_its_ends(tiny: Any) -> None:
    over = tiny(search={"over": {**LR, "training.weight_decay": {"linear": [0, 0.5]}}}).search.over
    assert [over["training.lr"].at(share) for share in (0, 0.5, 0.75, 1)] == [0.001, 0.1, 1, 10]
    assert [over["training.weight_decay"].at(share) for share in (0, 0.25, 1)] == [0, 0.125, 0.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"over": {"training.lr": {"log": [0, 1]}}}}, "search.over.training.lr: log: both ends must be > 0, got [0, 1]; a list of values may hold 0"),
        ({"search": {"over": {"evaluation.split": ["validation", "test"]}, "trials": 2}}, "search.over.evaluation.split: a search chooses keys of the recipe and of the model, as training.lr or model.width, and trials must be scored on the same data"),
        ({"search": {"over": {"training": [{"lr": 1}, {"lr": 2}]}, "trials": 2}}, "search.over.training: a search chooses keys of the recipe"),
        ({"search": {"over": {"training.steps": [9, 18]}, "trials": 2, "prune": "halving"}}, "search.over.training.steps: trials of unlike length have no rungs in common; take prune out"),
        ({"search": {"over": {"training.lr": {"log": [10, 1]}}}}, "search.over.training.lr: log: the low end comes first and the high end above it, got [10, 1]"),
        ({"search": {"over": {"training.lr": {"linear": [1, 1]}}}}, "search.over.training.lr: linear: the low end comes first"),
        ({"search": {"over": {"training.lr": {"logg": [1, 2]}}}}, "search.over.training.lr: must be {log: [LOW, HIGH]}, {linear: [LOW, HIGH]} or a list of values, got {'logg': [1, 2]}"),
        ({"search": {"over": {"training.lr": {"log": [1, 2, 3]}}}}, "search.over.training.lr: must be {log: [LOW, HIGH]}"),
        ({"search": {"over": {"training.lr": 1}}}, "search.over.training.lr: must be {log: [LOW, HIGH]}"),
        ({"search": {"over": {"training.lr": []}}}, "search.over.training.lr: has nothing to choose from, got []; give two values or more"),
        ({"search": {"over": {}}}, "search.over: must not be empty"),
        ({"search": {}}, "search.over: is required"),
        ({"search": {"over": LR, "trials": 0}}, "search.trials: must be >= 1, got 0"),
        ({"search": {"over": LR, "sampler": "grid"}}, "search.sampler: must be one of 'halton', 'random' or 'tpe', got 'grid'"),
        ({"search": {"over": LR, "trails": 3}}, "search.trails: no such key; did you mean 'trials'?"),
        ({"search": {"over": {"training.rate": {"log": [1, 2]}}}}, "search.over.training.rate: no such key"),
        ({"search": {"over": {"training.momentum": {"linear": [0, 0.9]}}}}, "search.over.training.momentum: no such key; did you mean 'training.optimizer.momentum'?"),
        ({"sweep": {"training.momentum": [0, 0.9]}}, "sweep.training.momentum: no such key; did you mean 'training.optimizer.momentum'?"),
        ({"search": {"over": {"training.optimizer.momentum": {"linear": [0, 2]}}}}, "search.over.training.optimizer.momentum: must be < 1, got "),
        ({"search": {"over": {"training.batch_size": {"linear": [16, 512]}}}}, "search.over.training.batch_size: must be a whole number, got 322.545; give a list of whole numbers"),
        ({"search": {"over": {"seeds": {"linear": [1, 2]}}}}, "search.over.seeds: only data, model, training and evaluation can be searched"),
        ({"search": {"over": {"training.lr": [1, 1.0]}, "trials": 2}}, "search.over.training.lr: each value counts once"),
        ({"search": {"over": {"training.lr": [1, 2, 3]}}}, "search.trials: there are 3 points in all; at most so many, or a wider space"),
        ({"search": {"over": LR}, "sweep": {"training.lr": [1, 2]}}, "search.over.training.lr: training.lr is swept too; take one of them out"),
        ({"tune": {"over": {"training.lr": [1, 2]}}, "sweep": {"training.lr": [1, 2]}}, "tune.over.training.lr: training.lr is swept too"),
        ({"bisect": {}, "sweep": {"training.lr": [1, 2]}}, "bisect.over: training.lr is swept too"),
        ({"search": {"over": LR}, "variants": {"none": "none", "batch": {"norm": "batch", "training": {"lr": 1}}}}, "search.over.training.lr: variant 'batch' sets it too; search it or set it, not both"),
        ({"search": {"over": LR}, "bisect": {}}, "search: a study bisects or searches, not both"),
        ({"search": {"over": LR}, "tune": {"over": {"training.lr": [1, 2]}}}, "search: a study tunes or searches, not both"),
        ({"search": {"over": LR}, "seeds": [1000]}, "seeds: seeds from 1000 on are for the search; the report's must be below"),
        ({"search": {"over": LR}, "measures": ["usable_range"]}, "measures.0: 'usable_range' is measured by tune: or bisect: only"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_one_line_with_its_place(tiny: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        tiny(**changes)
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1
