"""What planning must know of networks that somebody else wrote: asked once of a process that has torch, and kept."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from bncli.code_hash import fingerprint
from bncli.engine.work import python_path
from bncli.errors import ConfigError, DataError, Problem
from bncli.files import cache_folder, read_json, write_atomically
from bncli.models import MODELS
from bncli.models.foreign import NetworkFacts, facts_from
from bncli.plan import Run, facts_key
from bncli.plugins import registered, ship

SECONDS = 600  # for all that is asked at once


def resolve(runs: Iterable[Run], data_dir: Path | None = None) -> None:
    """Have the facts of every foreign network that runs are of, each with its norm, in `MODELS`.

    Raises:
        ConfigError: for every variant whose norm cannot stand in its network, or that takes no training step.
    """
    asked = {key: run for run in reversed([*runs]) if (key := facts_key(run))}
    lacking = {key: run for key, run in asked.items() if MODELS.facts(key) is None and not _remembered(key)}
    if lacking:
        for key, facts in zip(lacking, _ask([*lacking.values()], data_dir), strict=True):
            MODELS.learn(key, facts)
            if not facts.problem:
                with suppress(OSError, DataError):  # found out again next time
                    place = _place(key)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(place, json.dumps(asdict(facts)), durable=False)
    problems = dict[str, Problem]()
    for key, run in reversed(asked.items()):
        if known := MODELS.facts(key):
            for line in known.problem.splitlines():
                problems.setdefault(line, Problem(("variants", run.variant), line))
    if problems:
        raise ConfigError(*problems.values())


def _remembered(key: str) -> bool:
    """Whether the facts are kept from an earlier command of this code, this torch and this machine."""
    with suppress(OSError, ValueError, KeyError, TypeError, DataError):
        MODELS.learn(key, facts_from(read_json(_place(key))))
        return True
    return False


def _place(key: str) -> Path:
    return cache_folder() / "networks" / fingerprint() / f"{key}.json"


def _ask(runs: Sequence[Run], data_dir: Path | None) -> list[NetworkFacts]:
    """Facts in the order of the runs, found by another process."""
    command = [sys.executable, "-c", "from bncli.engine.facts import main; main()"]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    told = pickle.dumps((list(runs), ship(registered()), data_dir))
    try:
        done = subprocess.run(
            command, input=told, stdout=subprocess.PIPE, env=environment, timeout=SECONDS, check=False
        )
        lines, end = done.stdout.decode().splitlines(), f"its process ended with exit status {done.returncode}"
    except subprocess.TimeoutExpired as error:
        lines, end = (error.stdout or b"").decode().splitlines(), f"it took over {SECONDS} seconds"
    found = [facts_from(json.loads(line)) for line in lines]
    lost = [NetworkFacts(problem=f"model {run.model.name} with norm {run.norm.name}: {end}") for run in runs]
    return [*found, *lost[len(found) :]]
