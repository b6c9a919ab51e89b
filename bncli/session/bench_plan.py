"""What a bench session is asked: which cases, how, and held against what; refused before anything is measured.

Light, so that a mistake is answered at once: nothing here imports torch.
"""

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bncli.config.bench import MOST_SECONDS, Bench, KernelClaim
from bncli.config.budget import MANY_CASES, count_covariances, written_bytes
from bncli.config.reading import read_bench
from bncli.engine.environment import memory_of, resolve_device
from bncli.errors import ConfigError
from bncli.limits import BENCH_FACTS, BENCH_MEASURES, Limit, limits_by_name, read_limit
from bncli.presets import preset_path
from bncli.timing.cases import (
    BYTES,
    Case,
    TimedNorm,
    choose_cases,
    choose_truth,
    count_tensors,
    expand_cases,
    matches,
    pair_cases,
)
from bncli.timing.grids import Axes, check_rival, choose_grids, read_norm

GateBase = Literal["nothing", "baseline", "itself", "other", "rival"]
NO_AXES = Axes()
TIME_LIMIT = 120.0  # seconds for a case to be built, checked, compiled and warmed up: a hundred times what most take
_TOLERATED = "+5%"  # where --fail-if says nothing else


@dataclass(frozen=True)
class BenchPlan:
    """Everything that a bench session does, settled."""

    name: str  # of the preset
    question: str
    cases: tuple[Case, ...]
    device: str  # cpu or cuda
    budget: float  # seconds of measuring, shared by all cases
    warm: bool  # arguments in the cache
    graph: bool  # CUDA graphs are replayed
    profile: bool  # the kernels that run are named
    truth: TimedNorm | None  # what the results of kernels must be, as far as somebody has said so
    time_limit: float  # seconds after which a case that gives no answer is ended
    compared: GateBase  # what the gate holds the cases against
    limits: tuple[Limit, ...]  # what the gate tolerates; none: there is no gate
    baseline: str  # name or file
    save_baseline: str  # name or file under which the ratios are kept; "" is not at all
    other: tuple[str, ...]  # the other interpreter, in words
    allow_other_machine: bool
    claims: tuple[KernelClaim, ...]  # to be judged
    only: tuple[str, ...]  # patterns by which cases were chosen
    skip: tuple[str, ...]
    store: Path  # where baselines are
    flags: Mapping[str, str] = field(default_factory=dict)  # what named a kernel, where that is not --kernel

    @property
    def checks_anything(self) -> bool:
        """Whether there will be a verdict that can fail."""
        return bool(self.limits or self.claims)

    @property
    def rivals(self) -> dict[str, str]:
        """What the time of a case is compared with, by measure of a limit."""
        rival = self.cases[0].rival
        return {**BENCH_MEASURES, **({"ratio": rival.label} if rival else {})}

    def limits_on(self, measures: Collection[str], names: Collection[str]) -> list[Limit]:
        """The limits on one of these measures that are for one of these cases, which have not failed."""
        return [
            limit
            for limit in self.limits
            if limit.measure in measures
            and any(limit.pattern == name or matches(name, limit.pattern) for name in names)
        ]


def open_bench(preset: Path | Bench | Mapping[str, Any] | None, axes: Axes) -> tuple[str, Bench | None]:
    """A bench preset with its name; of none, where norms are given, what `choose_grids` makes of those alone.

    Raises:
        ConfigError: with every mistake in the preset.
    """
    if preset is None and axes.norm:
        return "bench", None
    source = preset_path("bench-quick") if preset is None else preset
    return source.stem if isinstance(source, Path) else "bench", read_bench(source)


def plan_bench(
    preset: Bench | None, name: str, *, axes: Axes = NO_AXES, only: Sequence[str] = (), skip: Sequence[str] = (),
    kernels: Sequence[str] = (), versus: str | None = None, truth: str | None = None, device: str = "auto",
    warm: bool = False, graph: bool = False, profile: bool = False, budget: float | None = None,
    time_limit: float | None = None,
    baseline: str | None = None, save_baseline: str | None = None, against: str | None = None, aa: bool = False,
    fail_if: Sequence[str] = (), allow_other_machine: bool = False, check: bool = False,
    store: str | Path = ".bncli", yes: bool = False,
) -> BenchPlan:  # fmt: skip
    """Settle what `bncli.bench` is asked, with its arguments; without a preset `axes` have norms.

    Raises:
        ConfigError: for a pattern or a rule that is for no case, arguments that exclude each other, a rule or a claim
            without anything to compare with, an interpreter that no shell could read, or a device that is not there or
            cannot do what is asked of it.
    """
    where = _find_device(device, graph=graph)
    preset, own = choose_grids(preset, axes)
    rival = None if versus is None else read_norm(versus, "--vs")
    cases = choose_cases(expand_cases(preset, where, [*own, *kernels], rival), only, skip)
    if rival:
        check_rival(rival, cases)
    for flag, seconds in (("--budget", budget), ("--time-limit", time_limit)):
        if seconds is not None and not 0 < seconds <= MOST_SECONDS:
            raise ConfigError(f"{flag}: must be > 0 and at most {MOST_SECONDS} seconds (a week), got {seconds!r}")
    if len(cases) > MANY_CASES and not yes:
        raise ConfigError(f"{len(cases):,} cases, more than {MANY_CASES:,}; choose by --only, or add --yes if meant")
    _check_memory(cases, where)
    given = {"--baseline": baseline, "--aa": aa, "--against": against}
    flags = [flag for flag, value in given.items() if value]
    if len(flags) > 1:
        raise ConfigError(f"{' and '.join(flags)}: give one of them; each says what is compared with what")
    if rival and against:
        raise ConfigError("--vs and --against: give one of them; --against times the same cases in both environments")
    if allow_other_machine and not baseline:
        raise ConfigError("--allow-other-machine: is about --baseline, which is not given")
    if save_baseline and against:
        raise ConfigError("--save-baseline: holds ratios to torch's batch norm, which --against does not measure")
    flag = next(iter(flags), "--vs" if rival and fail_if else "")
    kinds: dict[str, GateBase] = {
        "--baseline": "baseline", "--aa": "itself", "--against": "other", "--vs": "rival", "": "nothing",
    }  # fmt: skip
    return BenchPlan(
        name=name,
        question=preset.question,
        cases=tuple(cases),
        device=where,
        budget=budget or preset.budget,
        warm=warm or preset.warm or graph,
        graph=graph,
        profile=profile,
        truth=choose_truth(preset, truth, cases),
        time_limit=time_limit or TIME_LIMIT,
        compared=kinds[flag],
        limits=_read_limits(fail_if, cases, flag),
        baseline=baseline or "",
        save_baseline=save_baseline or "",
        other=_split(against or ""),
        allow_other_machine=allow_other_machine,
        claims=_choose_claims(preset, cases, against=bool(against)) if check else (),
        only=tuple(only),
        skip=tuple(skip),
        store=Path(store),
        flags={**dict.fromkeys(own, "--norm"), **({rival[0]: "--vs"} if rival else {})},
    )


def _check_memory(cases: Sequence[Case], device: str) -> None:
    have = memory_of(device)
    for case in dict.fromkeys([*cases, *(case.rival for case in cases if case.rival)]):
        held = 0 if case.is_kernel else count_covariances(case.norm, dict(case.options), *case.shape[1::-1])
        need = count_tensors(case.pass_) * case.size_byte + held * BYTES[case.dtype]
        if have and need > have:
            what = f"{case.name} takes at least {written_bytes(need)} of memory"
            raise ConfigError(f"{what}, and there are {written_bytes(have)} here; give a smaller shape")


def _find_device(wanted: str, *, graph: bool) -> str:
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: must be auto, cpu or cuda, got {wanted!r}")
    found = "cuda" if resolve_device(wanted) == "cuda" else "cpu"
    if graph and found == "cpu":
        raise ConfigError("--graph: replays CUDA graphs, and this measures on the cpu")
    return found


def _read_limits(texts: Sequence[str], cases: Sequence[Case], flag: str) -> tuple[Limit, ...]:
    """The limits, each about what `flag` compares, and for some case; of errors they need none."""
    allowed = {
        "": [], "--baseline": ["ratio", "copy", "peak"], "--aa": ["ratio", "copy"], "--against": ["time", "peak"],
        "--vs": ["ratio", "peak"],
    }[flag]  # fmt: skip
    if not texts and not flag:
        return ()
    known = (*BENCH_MEASURES, *BENCH_FACTS)
    limits = tuple(read_limit(text, known, slower=True) for text in texts or [f"{allowed[0]}:{_TOLERATED}"])
    for limit in limits:
        if limit.measure not in ("error", *allowed):
            what = f"{flag} compares {' or '.join(allowed)}" if flag else (
                "compared with what? Add --baseline NAME, --against PYTHON, --vs KERNEL or --aa"
            )  # fmt: skip
            raise ConfigError(f"--fail-if {limit}: {what}")
    limits_by_name(limits, [case.name for case in cases], matches)
    return limits


def _split(against: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(against))
    except ValueError as error:
        raise ConfigError(f"--against {against}: {str(error).lower()}") from None


def _choose_claims(preset: Bench, cases: Sequence[Case], *, against: bool) -> tuple[KernelClaim, ...]:
    """The claims about cases that are timed."""
    if against:
        raise ConfigError("--check: claims are about ratios to torch's batch norm, which --against does not measure")
    found = tuple(claim for claim in preset.claims if any(pair_cases(claim, cases)))
    if not found:
        raise ConfigError("--check: nothing is claimed about these cases; write it under `claims:` (docs/bench.md)")
    return found
