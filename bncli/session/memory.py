"""Whether runs fit the memory of this machine, by what they take at least."""

from collections.abc import Iterator, Sequence

from bncli.config.budget import written_bytes
from bncli.engine.environment import memory_of
from bncli.errors import ConfigError
from bncli.plan import Job, Run, bytes_of


def check_memory(runs: Sequence[Run], device: str) -> None:
    """Refuse a run that cannot be trained on this machine.

    Raises:
        ConfigError: with what it takes at least and what there is.
    """
    have, seen = memory_of(device), set[tuple[int, ...]]()
    for run in runs:
        shape = id(run.data), id(run.model), id(run.norm), id(run.training)  # the seeds of an arm share them
        if shape in seen:
            continue
        seen.add(shape)
        if have and (need := bytes_of(run)) > have:
            what = f"{run.variant}: a run of model {run.model.name!r} takes at least {written_bytes(need)} of memory"
            remedy = "use a smaller model, fewer channels in a group or a smaller training.batch_size"
            raise ConfigError(f"{what}, and there are {written_bytes(have)} here; {remedy}")


def warn_of_memory(jobs: Sequence[Job], at_once: int) -> Iterator[str]:
    """Say that the largest jobs together take more than this machine has, if so many run at once."""
    have = memory_of("cpu")
    needs = sorted((bytes_of(job.runs[0]) * len(job.runs) for job in jobs), reverse=True)
    if have and (need := sum(needs[:at_once])) > have:
        what = f"{written_bytes(need)} or more for {at_once} jobs at once, of {written_bytes(have)} there are"
        yield f"{what} (--jobs 1 and --engine plain, one run at a time, take less)"


def warn_of_ranks(runs: Sequence[Run], cores: int) -> Iterator[str]:
    """Say that a run has more ranks than there are cores: each is a process that imports torch."""
    if (ranks := max((run.training.ranks for run in runs), default=1)) > 4 * cores:
        yield f"training.ranks: {ranks} processes for each run, and there are {cores} cores here; take fewer"
