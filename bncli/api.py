"""The main command as a function: a preset's name in, findings out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bncli.findings import Findings


def compare(
    preset: str | Path = "quickstart", *, set: Mapping[str, Any] | None = None, variants: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None, store: str | Path = ".bncli", device: str = "auto",
    jobs: int | None = None, events: Callable[[Mapping[str, Any]], None] | None = None,
) -> Findings:  # fmt: skip
    """Do what `bncli compare` does, and return what it shows.

    Runs train in worker processes: call it under `if __name__ == "__main__":` in a script. Runs that the store has are
    not trained again; those that fail are missing from the findings, which warn of it.

    Args:
        preset: a shipped preset's name, or a YAML file.
        set: keys of the preset and values, {"training.lr": 0.1}; nothing here sweeps.
        variants: only these, or norms that the preset lacks; all if empty.
        seeds: how many, or which.
        store: folder of finished runs.
        device: auto, cpu, cuda or mps.
        jobs: worker processes; one a core if None.
        events: called with everything that happens, as `--events` writes it.

    Raises:
        BncliError: for what the command line answers with exit code 2.
    """
    from bncli.cli.events import Quiet, telling
    from bncli.cli.findings import findings_of
    from bncli.cli.session import open_session, train_study
    from bncli.presets import preset_path

    path = preset_path(str(preset))
    asked = str(seeds) if isinstance(seeds, int) else seeds
    sets = [f"{key}={json.dumps(value)}" for key, value in (set or {}).items()]
    session = open_session(path, ",".join(variants), asked, sets, device, "auto", jobs, Path(store), None)
    session, results = train_study(session, telling(events or (lambda event: None), Quiet))
    return findings_of(session, results)
