"""Whether a case's results are right: held against a truth in float64, on inputs that are fresh at every call, the last
time on those that are timed.

The candidate is called first, when memory holds no result of the truth that it could find; then the truth, twice: as it
is, and on inputs moved by as much as the case's number format rounds, which says how far off rounding alone may be.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bncli.errors import ConfigError
from bncli.timing.build import (
    DTYPES,
    Norm,
    build_norm,
    compile_norm,
    draw_fresh_inputs,
    draw_inputs,
    quote_error,
)
from bncli.timing.calls import (
    GRADIENT,
    OUTPUT,
    SECOND,
    CallResults,
    call_norm,
    find_broken,
    find_idle,
    is_off,
    is_same,
    list_asked,
)
from bncli.timing.cases import Case, TimedNorm, find_truth, is_foreign
from bncli.timing.results import Correctness
from bncli.timing.state import (
    Shared,
    copy_statistics,
    describe_statistics,
    lend_statistics,
    list_parameters,
    list_statistics,
    share_state,
)
from bncli.timing.tolerance import ResultError, measure_error, measure_nearness

_CALLS = 4
_ALIKE = 0.99  # correlation with batch norm from which a kernel that has no other truth is taken for one


def check_results(
    case: Case, told: TimedNorm | None = None, flag: str = "--kernel"
) -> tuple[Correctness, dict[str, str]]:
    """Call a case's norm a few times, and hold what it gives, and its gradients, against the truth.

    Args:
        case: what is checked; this process's threads become the case's.
        told: what anybody's code is held against; else `find_truth` says it, or a kernel's nearness to batch norm.
        flag: what named it.

    Returns:
        What was found, and for each number that is None why.

    Raises:
        WrongError: for an output that is no tensor like the input, or has no gradient in training.
        ConfigError: for a kernel or a truth that cannot be had, or a truth that cannot take the input.
    """
    torch.set_num_threads(case.threads)
    norm, asked, faults = build_norm(case, flag), find_truth(case, told), list[str]()
    batch = replace(case, norm="batch", options=(), dtype="f64", compiled=False) if case.is_kernel else None
    truth = asked or batch
    runs = _list_runs(truth, case.dtype) if truth else []
    state = share_state(norm, [run.norm for run in runs])
    before = copy_statistics(runs[0].norm, {name: name for name in list_statistics(runs[0].norm)}) if runs else {}
    warm = _warm_up(case, norm, state) if case.pass_ == "eval-forward" else None
    calls, why = list(_call_candidate(case, norm, state, faults)), "it is float64 itself"
    if truth:
        noise = _read_noise(case)
        try:
            found = _compare(case, norm, calls, runs, state, before, warm)
        except Exception as error:
            if told and is_foreign(case.norm):
                on = f"--truth {truth.label}: on the input of {case.name}"
                raise ConfigError(f"{on}: {quote_error(error)}") from None
            why = f"its truth, {truth.label}, cannot be had ({type(error).__name__})"
        else:
            if not torch.equal(noise, _read_noise(case)):
                why = "it draws noise, and other numbers in float64"
            elif asked or found.nearness >= _ALIKE:
                asked_for = {GRADIENT + name for name in list_asked(norm, state.parameters)}
                lacking = sorted(found.names & asked_for - calls[0].results.keys())
                against = f"{truth.label} in float64"
                faults += [f"it gives no {name}" for name in lacking]
                faults += _describe(against, calls, found.errors)
                faults += found.stray if is_foreign(case.norm) else []
                if faults and not asked:
                    faults.append(f"--truth names what it must compute, if that is not {truth.label}")
                is_itself = truth.norm == case.norm and is_foreign(case.norm)
                return _conclude(case, "" if is_itself else against, found.errors, faults, "")
            else:
                why = "no norm has its name, nor is it near batch norm: say by --truth what is right"
    broken = find_broken(calls) or [idle for idle in [find_idle(calls)] if idle and case.is_kernel]
    return _conclude(case, "", {}, [*faults, *broken], why)


@dataclass(frozen=True)
class _Run:
    """One run of a truth: in float64, in float64 with its inputs rounded, or in the format of the case."""

    case: Case
    norm: Norm
    unit: float = 0.0  # by what share inputs are moved up or down


def _list_runs(truth: Case, dtype: str) -> list[_Run]:
    unit, plain = torch.finfo(DTYPES[dtype]).eps / 2, replace(truth, dtype=dtype)
    kinds = [(truth, 0.0), (truth, unit), (plain, 0.0)]
    return [_Run(case, build_norm(case, "--truth"), unit) for case, unit in kinds]


def _warm_up(case: Case, norm: Norm, state: Shared, run: _Run | None = None) -> dict[str, Tensor] | None:
    """Train a norm, or a run of the truth, for two calls, so that its running statistics are some.

    Returns:
        Its statistics after the first; None where it cannot be trained.
    """
    if not isinstance(norm, nn.Module):
        return None
    moved = list[dict[str, Tensor]]()
    with suppress(Exception), torch.no_grad():  # it may be made for evaluation alone
        norm.train()
        for number in (_CALLS, _CALLS + 1):
            inputs = draw_fresh_inputs(case, number)
            norm((_move(inputs, run, number) if run else inputs)[0])
            moved.append(copy_statistics(norm, _name_statistics(state, run)))
    norm.eval()
    return moved[0] if len(moved) == 2 else None


def _name_statistics(state: Shared, run: _Run | None) -> Mapping[str, str]:
    return {name: name for name in list_statistics(run.norm)} if run else state.statistics


def _draw(case: Case, number: int) -> tuple[Tensor, Tensor]:
    """The inputs of a call: of the last those that are timed."""
    x, g = draw_fresh_inputs(case, number) if number < _CALLS - 1 else draw_inputs(case)
    return x.detach(), g


def _call_candidate(case: Case, norm: Norm, state: Shared, faults: list[str]) -> Iterator[CallResults]:
    """Call a norm with fresh values in the same memory, and inspect what it does to that; adds to `faults`."""
    call, parameters = compile_norm(norm) if case.compiled else norm, list_asked(norm, state.parameters)
    x, g = (each.clone() for each in _draw(case, 0))
    given, earlier = {each.untyped_storage().data_ptr() for each in (x, g)}, list[tuple[str, Tensor, Tensor]]()
    for number in range(_CALLS):
        fresh = _draw(case, number)
        x.data.copy_(fresh[0])  # in autograd's eyes nothing has changed
        g.copy_(fresh[1])
        blocks = [torch.full_like(g, torch.nan) for _ in range(4)]
        del blocks  # memory that the norm takes and does not write shows what it is
        found = call_norm(case, call, parameters, x, g, twice=case.pass_ == "train-backward")
        second = {name: found.pop(f"second {name}") for name in list(found) if f"second {name}" in found}
        kept = {name: value.clone() for name, value in found.items()}
        seen = {
            "it writes into its input": not is_same(x.detach(), fresh[0]),
            "it writes into the gradient of its output": not is_same(g, fresh[1]),
            "it gives no gradient of its input": case.pass_ != "eval-forward" and f"{GRADIENT}x" not in found,
        }
        rewritten = [name for name, *both in earlier if not is_same(*both)]
        seen |= {f"it writes into its {name} of an earlier call": True for name in rewritten}
        for name, value in second.items():
            seen[f"a second backward pass gives another {name} than its own"] = is_off(found[name], value / SECOND, g)
        faults += [fault for fault, is_so in seen.items() if is_so and fault not in faults]
        own = [name for name in found if found[name].untyped_storage().data_ptr() not in given]
        earlier += [(name, found[name], kept[name]) for name in own]
        yield CallResults(*fresh, kept, copy_statistics(norm, state.statistics))


def _move(inputs: tuple[Tensor, Tensor], run: _Run, seed: int) -> tuple[Tensor, Tensor]:
    """In the run's format, each value moved up or down at random by the run's unit."""
    chance = torch.Generator(inputs[0].device).manual_seed(seed)
    x, g = (each.to(DTYPES[run.case.dtype]) for each in inputs)
    if run.unit:
        x, g = (
            each * (1 + run.unit * torch.randn(each.shape, generator=chance, device=each.device).sign())
            for each in (x, g)
        )
    return x, g


@dataclass(frozen=True)
class _Comparison:
    """A candidate beside its truth."""

    errors: Mapping[str, Sequence[ResultError]]  # of every result that both have, one a call
    nearness: float  # the highest correlation of their outputs in a call
    names: frozenset[str]  # of the truth's results
    stray: Sequence[str]  # what its statistics do otherwise


def _compare(
    case: Case, norm: Norm, calls: Sequence[CallResults], runs: Sequence[_Run], state: Shared,
    before: Mapping[str, Tensor], warm: Mapping[str, Tensor] | None,
) -> _Comparison:  # fmt: skip
    """Run the truth on the inputs of every call, one after the other: all of it at once is too much for memory."""
    errors, nearness, names, stray = dict[str, list[ResultError]](), list[float](), set[str](), list[str]()
    label = runs[0].case.label
    if warm is not None:
        moved = [_warm_up(case, run.norm, state, run) or {} for run in runs]
        stray = describe_statistics(label, before, warm, moved[0])
        if not stray and is_foreign(case.norm):  # another momentum, then, is no mistake
            lend_statistics(norm, [run.norm for run in runs], state)
    for number, call in enumerate(calls):
        exact, rounded, *plain = (_call_truth(run, call, number) for run in runs)
        if number == 0 and case.pass_ != "eval-forward":
            theirs = copy_statistics(runs[0].norm, _name_statistics(state, runs[0]))
            stray = describe_statistics(label, before, call.statistics, theirs)
        if number < _CALLS - 1:  # on inputs alike in all channels many norms are alike
            nearness.append(measure_nearness(call.results[OUTPUT], exact[OUTPUT]))
        names |= exact.keys()
        for name in call.results.keys() & exact.keys():
            errors.setdefault(name, []).append(
                measure_error(
                    case.dtype, call.results[name].reshape(exact[name].shape), exact[name],
                    [each[name] for each in (rounded, *plain) if name in each],
                )
            )  # fmt: skip
    return _Comparison(errors, max(nearness), frozenset(names), stray)


def _call_truth(run: _Run, call: CallResults, number: int) -> dict[str, Tensor]:
    parameters = list_asked(run.norm, {name: name for name in list_parameters(run.norm)})
    try:
        return call_norm(run.case, run.norm, parameters, *_move((call.x, call.g), run, number))
    except Exception:
        if run.case.dtype == "f64":
            raise
        return {}  # it is made for float64 alone


def _describe(truth: str, calls: Sequence[CallResults], errors: Mapping[str, Sequence[ResultError]]) -> Iterator[str]:
    """What of it is beyond rounding, each in words; of a wrong output the gradients say nothing more."""
    for name in sorted(errors, key=lambda name: (name != OUTPUT, name)):
        beyond = [number for number, error in enumerate(errors[name], 1) if error.share > 1]
        if not beyond:
            continue
        worst = max(errors[name], key=lambda error: error.share)
        if name == OUTPUT and math.isfinite(worst.value) and (idle := find_idle(calls)):
            yield idle
            return
        said = (
            f"its {name} differs from {truth}{f' {worst.how}' if worst.how else ''} by {worst.value:.1e},"
            f" and rounding explains {worst.tolerance:.1e}"
            if math.isfinite(worst.value) else f"its {name} is not finite"
        )  # fmt: skip
        every = len(beyond) == len(errors[name])
        yield said + ("" if every else f", in call {' and '.join(map(str, beyond))} of {len(errors[name])}")
        if name == OUTPUT:
            return


def _conclude(
    case: Case, truth: str, errors: Mapping[str, Sequence[ResultError]], faults: Sequence[str], why: str
) -> tuple[Correctness, dict[str, str]]:
    """Of output and gradients the error that is furthest off for its tolerance, and why there is none."""
    gradients = [error for name in errors if name != OUTPUT for error in errors[name]]
    pairs = {"output": errors.get(OUTPUT, ()), "gradient": gradients}
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for key, found in pairs.items():
        worst = max(found, key=lambda error: error.share, default=None)
        known = worst if worst and math.isfinite(worst.value) and math.isfinite(worst.tolerance) else None
        values |= {
            f"{key}_error": known.value if known else None,
            f"{key}_tolerance": known.tolerance if known else None,
        }
        if not known:
            said = why or (
                "its results are not finite" if worst and worst.share else "the truth has none that is finite"
            )
            passes = key == "gradient" and case.pass_ == "eval-forward"
            reasons[f"{key}_error"] = "evaluation has no gradient" if passes else said
    if len(reasons) == len(pairs):
        reasons["error"] = reasons["output_error"]
    return Correctness(truth, **values, faults=tuple(faults)), reasons


def _read_noise(case: Case) -> Tensor:
    """The state of the generator that a norm would draw from."""
    return torch.cuda.get_rng_state() if case.device == "cuda" else torch.get_rng_state()
