"""What the commands that train a study share: their options as arguments of `bncli.api`, and `--dry-run`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def prepare(
    preset: str, variants: str, seeds: str | None, sets: Sequence[str] | None, device: str, engine: str,
    jobs: int | None, executor: str, time_limit: float | None, plugins: Sequence[str] | None, store: Path,
    data_dir: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """The arguments of a function of `bncli.api`, from those of a command.

    BNCLI_COMPILE=0 turns tracing off, for looking at faults.

    Raises:
        ConfigError: if there is no such preset: a mistyped name is answered before anything heavy is imported.
    """
    from bncli.presets import preset_path

    untraced = engine == "auto" and os.environ.get("BNCLI_COMPILE") == "0"
    return {
        "preset": preset_path(preset), "variants": variants, "seeds": seeds, "set": sets or (), "device": device,
        "engine": "untraced" if untraced else engine, "jobs": jobs, "executor": executor, "time_limit": time_limit,
        "plugins": plugins or (), "store": store, "data_dir": data_dir,
    }  # fmt: skip


def show_plan(how: dict[str, Any], *, aa: bool = False, fresh: bool = False, probed: bool = False) -> None:
    """Print what a command would do."""
    from bncli.api import open_study
    from bncli.plugins import using
    from bncli.session.study import describe_plan

    with using(how.pop("plugins")):
        print(describe_plan(open_study(**how, aa=aa, fresh=fresh, probed=probed)))
