"""Where `bncli bench` writes what it has found: `--json`, `--export FORMAT:PATH`, `--github`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bncli.cli.bench_gate import GateAsked
from bncli.cli.files import write
from bncli.config.bench import KernelClaim
from bncli.errors import BncliError, ConfigError, unknown
from bncli.report.timing.exports import EXPORTS
from bncli.timing.results import BenchRecord


@dataclass(frozen=True)
class Installation:
    """One file to be written."""

    flag: str  # as it was given, for messages
    format: str
    path: str  # - is stdout
    append: bool = False


def places_of(exports: Sequence[str], json: str | None, *, github: bool) -> list[Installation]:
    """What the flags ask for, checked before anything is measured.

    Raises:
        ConfigError: for an unknown format, a missing path or folder, or a summary that GitHub has not asked for.
    """
    places = [Installation(f"--json {json}", "json", json)] if json else []
    for text in exports:
        form, colon, path = text.partition(":")
        if form not in EXPORTS:
            raise ConfigError(f"--export {text}: {unknown('format', form, EXPORTS)}")
        if not colon or not path:
            raise ConfigError(f"--export {text}: expected FORMAT:PATH, as in {form}:bench.{_suffix(form)}")
        places.append(Installation(f"--export {text}", form, path))
    if github:
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if not summary:
            raise ConfigError(
                "--github: GITHUB_STEP_SUMMARY is not set; GitHub Actions sets it, elsewhere use --export"
            )
        places.append(Installation("--github", "md", summary, append=True))
    for place in places:
        if place.path != "-" and not Path(place.path).parent.is_dir():
            raise ConfigError(f"{place.flag}: there is no folder {Path(place.path).parent}")
        if Path(place.path).is_dir():
            raise ConfigError(f"{place.flag}: {place.path} is a folder; name a file in it")
    return places


def write_all(record: BenchRecord, places: Sequence[Installation]) -> None:
    """Write every file; of what was cut short nothing was judged, so no JUnit, which would read as passed.

    Raises:
        BncliError: if one cannot be written; the others are.
    """
    failed = list[str]()
    for place in places:
        if place.format == "junit" and not record.whole:
            continue
        try:
            write(place.path, EXPORTS[place.format](record), place.flag, append=place.append)
        except BncliError as error:
            failed.append(str(error))
    if failed:
        raise BncliError("\n".join(failed))


def refuse_junit_of_nothing(places: Sequence[Installation], gate: GateAsked, claims: Sequence[KernelClaim]) -> None:
    """Raise a ConfigError where nothing is checked: JUnit's XML of no tests reads as passed."""
    if any(place.format == "junit" for place in places) and gate.with_ == "nothing" and not claims:
        raise ConfigError("--export junit: nothing is checked; add --baseline NAME, --against PYTHON, --aa or --check")


def _suffix(form: str) -> str:
    return {"csv": "csv", "md": "md", "junit": "xml"}.get(form, "json")
