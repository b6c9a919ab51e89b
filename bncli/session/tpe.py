"""The sampler `tpe`: Optuna's tree-structured Parzen estimator, asked in batches and told from our own records."""

import random
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bncli.config.search import Range, Search
from bncli.errors import ConfigError
from bncli.session.samplers import TrialPoint

START = 10  # points spread evenly before the estimator has anything to go by; Optuna's own number
BATCH = 5  # asked at once: busy workers, and all but the last few trials known to each


def require_optuna() -> Any:
    """Optuna.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import optuna
    except ImportError:
        remedy = "pip install 'bncli[search]', or take halton or random, which need nothing"
        raise ConfigError(f"search.sampler: tpe needs Optuna, which is not installed: {remedy}") from None
    return optuna


def ask_tpe(search: Search, told: Sequence[tuple[TrialPoint, float | None]], asked: int, many: int) -> list[TrialPoint]:
    """`many` points to be tried together (Bergstra et al. 2011; Watanabe 2023, arXiv:2304.11127).

    They follow from the arguments and Optuna's version: the study in its memory is built anew, with a sampler of a
    seed of its own. Points of one batch keep their distance: each counts as a bad one for those after it.

    Args:
        search: its space and its seed.
        told: the trials so far, in order, with their scores; higher is better, None: it gave no number.
        asked: how many points were asked for so far.
        many: how many are wanted.
    """
    optuna = require_optuna()
    kinds = {key: _distribution(optuna, kind) for key, kind in search.over.items()}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            seed = random.Random(f"{search.sampler_seed} {asked}").getrandbits(32)
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True, constant_liar=True)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            for point, score in told:
                how = {"state": optuna.trial.TrialState.FAIL} if score is None else {"value": score}
                params = {key: _inner(search.over[key], value) for key, value in point.items()}
                study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, **how))
            found = [study.ask(kinds).params for _ in range(many)]
    finally:
        optuna.logging.set_verbosity(level)
    return [{key: _outer(kind, params[key]) for key, kind in search.over.items()} for params in found]


def _distribution(optuna: Any, kind: Range | Sequence[Any]) -> Any:
    """Ascending numbers in a list are neighbours; other values are not."""
    if isinstance(kind, Range):
        return optuna.distributions.FloatDistribution(kind.low, kind.high, log=kind.scale == "log")
    numbers = all(type(value) in (int, float) for value in kind)
    if numbers and all(a < b for a, b in pairwise(kind)):
        return optuna.distributions.IntDistribution(0, len(kind) - 1)
    return optuna.distributions.CategoricalDistribution(range(len(kind)))


def _inner(kind: Range | Sequence[Any], value: Any) -> float | int:
    return value if isinstance(kind, Range) else [*kind].index(value)


def _outer(kind: Range | Sequence[Any], value: Any) -> Any:
    return kind.rounded(value) if isinstance(kind, Range) else kind[int(value)]
