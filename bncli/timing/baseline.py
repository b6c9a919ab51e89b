"""Baselines: the readings that a gate compares with, and the machine they were taken on."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bncli.errors import StoreError, UndecidedError
from bncli.timing.results import ProcessReading, ProcessReadings

SCHEMA = 2


@dataclass(frozen=True)
class Machine:
    """The kind of machine and the conditions that ratios hold for. What is not here (its name, its load) may differ."""

    processor: str
    cores: int
    system: str
    device: str
    torch: str
    python: str  # major.minor: small cases are largely the interpreter's time
    arguments: str  # warm or cold
    launches: str  # eager or graph: how a GPU gets its kernels

    @staticmethod
    def of(environment: Mapping[str, Any], cores: int, *, warm: bool, graph: bool = False) -> "Machine":
        """From the fingerprint that runs are stored with (`engine.environment`)."""
        version = ".".join(str(environment["python"]).split(".")[:2])
        facts = {key: str(environment[key]) for key in ("processor", "system", "device", "torch")}
        modes = {"arguments": "warm" if warm else "cold", "launches": "graph" if graph else "eager"}
        return Machine(**facts, cores=cores, python=version, **modes)


@dataclass(frozen=True)
class Baseline:
    """What was measured, where and when."""

    made: str  # ISO 8601, UTC
    machine: Machine
    readings: ProcessReadings
    peaks: Mapping[str, int] = field(default_factory=dict)  # case -> bytes, where known; not in older baselines

    def to_json(self) -> dict[str, Any]:
        """Plain data that JSON takes."""
        return {"schema": SCHEMA, **{key: value for key, value in asdict(self).items() if key != "peaks" or value}}


def read_baseline(place: str, document: Mapping[str, Any]) -> Baseline:
    """The inverse of `Baseline.to_json`; `place` is where it was read, for what is said if it is not one.

    Raises:
        StoreError: if it is not a baseline, or one of another schema.
    """
    schema = document.get("schema")
    if schema != SCHEMA:
        raise StoreError(f"{place}: baseline of schema {schema!r}, this bncli reads {SCHEMA}; save it anew")
    try:
        readings = {
            case: {
                rival: tuple(ProcessReading(float(ratio), float(seconds)) for ratio, seconds in values)
                for rival, values in of_case.items()
            }
            for case, of_case in document["readings"].items()
        }
        for case, of_case in readings.items():
            if not all(0 < value < math.inf for taken in of_case.values() for reading in taken for value in reading):
                raise ValueError(f"{case} has a time that is not above 0")
        peaks = {case: int(peak) for case, peak in document.get("peaks", {}).items()}
        return Baseline(str(document["made"]), Machine(**document["machine"]), readings, peaks)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{place}: not a baseline of bncli ({type(error).__name__}: {error}); save it anew") from None


def check_comparable(baseline: Baseline, machine: Machine) -> None:
    """Pass if the baseline was made on this kind of machine, under these conditions.

    Raises:
        UndecidedError: with what differs.
    """
    then, now = asdict(baseline.machine), asdict(machine)
    differing = [f"{key} {then[key]!r}, here {now[key]!r}" for key in then if then[key] != now[key]]
    if differing:
        raise UndecidedError(
            f"not comparable: the baseline was made on another kind of machine ({'; '.join(differing)});"
            " save one here, or pass --allow-other-machine"
        )
