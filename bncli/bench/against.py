"""The relative gate: one case in two environments, chunk by chunk in turns, so that both meet the same machine."""

import random
from collections.abc import Iterator, Sequence

from bncli.bench.clock import WallClock
from bncli.bench.protocol import Job
from bncli.bench.remote import Start, Worker
from bncli.bench.results import CaseResult
from bncli.bench.schedule import take_turns
from bncli.bench.timed import Effort, Timed
from bncli.errors import BncliError


def against(
    here: Start, there: Start, jobs: Sequence[Job], effort: Effort, pairs: int, chance: random.Random
) -> Iterator[CaseResult]:
    """Measure every job in so many pairs of processes, one here, one there, as contenders of one schedule.

    The case here is "case", there it is "against": the ratio to it is what `judge` takes without a baseline, under
    rules on `time`.

    Raises:
        BncliError: if the two environments are the same, or a job cannot be done in one of them.
    """
    for _ in range(pairs):
        with here() as our, there() as their:
            check_differs(our, their)
            for job in chance.sample(jobs, len(jobs)):
                seed = chance.randrange(2**32)
                with our.opened(job, effort, seed) as mine, their.opened(job, effort, seed) as theirs:
                    contenders: dict[str, Timed] = {"case": mine["case"], "against": theirs["case"]}
                    yield take_turns(job.name, contenders, WallClock(), effort, chance)


def check_differs(here: Worker, there: Worker) -> None:
    """Pass if the two environments differ in bncli's place or version, torch or Python.

    Raises:
        BncliError: if they are the same; PYTHONPATH makes them so, where both inherit it.
    """
    if here.place == there.place:
        raise BncliError(
            f"--against: both environments are {here.place.described()}; name another interpreter, or another checkout"
            " as --against 'env PYTHONPATH=/its/folder python'"
        )
