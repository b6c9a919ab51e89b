"""What the flags of `bncli bench` ask to be checked, refused before anything is measured if it makes no sense."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bncli.config.bench import Bench, KernelClaim
from bncli.engine.environment import resolve_device
from bncli.errors import ConfigError
from bncli.limits import BENCH_MEASURES, Limit, limits_by_name, read_limit
from bncli.timing.cases import Case, matches, pair_cases

_TOLERATED = "+5%"  # where --fail-if says nothing else


@dataclass(frozen=True)
class GateAsked:
    """What is to be compared with what, and what is tolerated."""

    with_: Literal["nothing", "baseline", "itself", "other"]
    rules: tuple[Limit, ...]
    baseline: str  # name or file
    save: str  # name or file under which the ratios are saved; "" is not at all
    other: tuple[str, ...]  # the other interpreter, in words
    any_machine: bool
    store: Path


def device_asked(wanted: str, *, graph: bool) -> str:
    """Where cases are timed: cpu or cuda.

    Raises:
        ConfigError: for a device that is not there, or cannot do what is asked of it.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: must be auto, cpu or cuda, got {wanted!r}")
    found = "cuda" if resolve_device(wanted) == "cuda" else "cpu"
    if graph and found == "cpu":
        raise ConfigError("--graph: replays CUDA graphs, and this measures on the cpu")
    return found


def gate_asked(
    cases: Sequence[Case], fail_if: Sequence[str], baseline: str | None, save: str | None, against: str | None, *,
    aa: bool, any_machine: bool, store: Path,
) -> GateAsked:  # fmt: skip
    """The flags together.

    Raises:
        ConfigError: for flags that exclude each other, a rule without anything to compare with or for no case, or an
            interpreter that no shell could read.
    """
    given = {"--baseline": baseline, "--aa": aa, "--against": against}
    flags = [flag for flag, value in given.items() if value]
    if len(flags) > 1:
        raise ConfigError(f"{' and '.join(flags)}: give one of them; each says what is compared with what")
    if fail_if and not flags:
        raise ConfigError("--fail-if: compared with what? Add --baseline NAME, --against PYTHON or --aa")
    if any_machine and not baseline:
        raise ConfigError("--allow-other-machine: is about --baseline, which is not given")
    if save and against:
        raise ConfigError("--save-baseline: holds ratios to torch's batch norm, which --against does not measure")
    measure = "time" if against else "ratio"
    rules = tuple(read_limit(text, BENCH_MEASURES, slower=True) for text in fail_if or [f"{measure}:{_TOLERATED}"])
    for rule in rules:
        if (rule.measure == "time") != bool(against):
            fitting = "time" if against else "ratio or copy"
            raise ConfigError(f"--fail-if {rule}: {flags[0]} compares {fitting}")
    limits_by_name(rules, [case.name for case in cases], matches)
    try:
        other = tuple(shlex.split(against or ""))
    except ValueError as error:
        raise ConfigError(f"--against {against}: {str(error).lower()}") from None
    kinds: dict[str, Literal["baseline", "itself", "other"]] = {
        "--baseline": "baseline", "--aa": "itself", "--against": "other",
    }  # fmt: skip
    return GateAsked(
        kinds[flags[0]] if flags else "nothing", rules, baseline or "", save or "", other, any_machine, store,
    )  # fmt: skip


def claims_asked(check: bool, bench: Bench, cases: Sequence[Case], gate: GateAsked) -> tuple[KernelClaim, ...]:
    """The claims that --check is to judge: those about cases that are timed.

    Raises:
        ConfigError: if there are none, or if what they are held against is not measured.
    """
    if not check:
        return ()
    if gate.with_ == "other":
        raise ConfigError("--check: claims are about ratios to torch's batch norm, which --against does not measure")
    found = tuple(claim for claim in bench.claims if any(pair_cases(claim, cases)))
    if not found:
        raise ConfigError("--check: nothing is claimed about these cases; write it under `claims:` (docs/bench.md)")
    return found
