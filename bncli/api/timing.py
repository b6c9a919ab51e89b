"""bench as a function."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bncli.api.commands import with_command
from bncli.config import Bench
from bncli.errors import expect, expect_text, expect_texts
from bncli.plugins import using
from bncli.presets import preset_path
from bncli.result import Result
from bncli.session.events import OnEvent, check_events, ignore
from bncli.timing.results import BenchRecord


@with_command("bench")
def bench(
    preset: str | Path | Bench | Mapping[str, Any] | None = None, *, norm: str | Sequence[str] = (),
    shape: str | Sequence[str] = (), dtype: str | Sequence[str] = (), pass_: str | Sequence[str] = (),
    layout: str | Sequence[str] = (), threads: int | str | Sequence[int | str] = (), compile: bool | None = None,
    vs: str | None = None, only: Sequence[str] = (), skip: Sequence[str] = (), kernels: Sequence[str] = (),
    truth: str | None = None, device: str = "auto", warm: bool = False, graph: bool = False,
    profile: bool = False, budget: float | None = None, time_limit: float | None = None,
    baseline: str | None = None, save_baseline: str | None = None, against: str | None = None, aa: bool = False,
    fail_if: Sequence[str] = (), allow_other_machine: bool = False, check: bool = False, plugins: Sequence[str] = (),
    store: str | Path = ".bncli", yes: bool = False, on_event: OnEvent = ignore,
) -> Result[BenchRecord]:  # fmt: skip
    """Time norms against torch's own batch norm and a plain copy of the same bytes.

    Args:
        preset: a shipped bench preset's name, a YAML file, a `Bench`, or a preset's keys with their values; None is
            bench-quick, or where `norm` is given those norms alone.
        norm: time these instead of a preset's norms, "batch,group(groups=8),mine.py:Norm" or a list.
        shape: inputs of these shapes, in the place of those of every grid, "32x64x56x56" or "N256C512", or a list.
        dtype: likewise f32, f64, bf16, f16.
        pass_: likewise train-forward, train-backward, train-both, eval-forward.
        layout: likewise nchw, channels_last.
        threads: likewise how many threads compute, on a CPU.
        compile: likewise whether torch.compile does.
        vs: time each case against this too, in the same process: `MODULE:NAME`, `FILE.py:NAME`, or a norm.
        only: keep cases with this in their name, or matching it (*).
        skip: leave such cases out.
        kernels: time these too, `MODULE:NAME` or `FILE.py:NAME`, functions of the number of channels.
        truth: what kernels must compute, a norm, `MODULE:NAME` or `FILE.py:NAME`; None is the preset's, else the norm
            of a kernel's name, else batch norm for one that is near it.
        device: auto, cpu or cuda.
        warm: leave the arguments in the cache instead of rotating copies.
        graph: on a GPU, time replayed CUDA graphs: kernels, not launches.
        profile: name the kernels that run in each case and its rivals, in `rows[0].profiles`, once all is timed.
        budget: seconds of measuring, instead of the preset's.
        time_limit: seconds after which a case that gives no answer is ended; None is 120.
        baseline: hold the ratios against this, a name in the store or a file.
        save_baseline: keep the ratios under this name.
        against: another interpreter, to compare its bncli and torch with these.
        aa: compare this code with itself.
        fail_if: what is too slow, "ratio:+5%", takes too much memory, "peak:+5%", or is too far from the truth in
            float64, "error:1e-5", in root mean squares of it.
        allow_other_machine: compare with another machine's baseline too.
        check: judge the preset's claims.
        plugins: files or modules that add norms.
        store: folder where baselines are kept.
        yes: measure also more than 1,000 cases.
        on_event: called with everything that happens (bncli.session.events).

    Returns:
        What was measured. A kernel that crashed, raised or gave no answer is among `findings.failures`, one whose
        results are wrong has `facts.correctness.faults`; both are failed `checks`.

    Raises:
        BncliError: for what the command line answers with exit code 2 or 4, but for kernels that fail.
        KeyboardInterrupt: of the kind BenchInterrupted, with what was measured in `record`.
    """
    from bncli.report.timing.gate import list_checks
    from bncli.session.bench import measure_plan
    from bncli.session.bench_plan import open_bench, plan_bench
    from bncli.timing.grids import Axes, choose_grids

    check_events(on_event)
    expect("store", store, store is not None, "a folder's path")
    expect_text("a folder's path", store=store)
    expect_text("a baseline's name or file, or None", save_baseline=save_baseline, baseline=baseline)
    expect_text("another Python interpreter, or None", against=against)
    expect_text("a norm, MODULE:NAME or FILE.py:NAME, or None", truth=truth)
    for name, seconds in (("budget", budget), ("time_limit", time_limit)):
        expect(name, seconds, seconds is None or isinstance(seconds, int | float), "seconds, or None")
    expect_text("a norm, MODULE:NAME or FILE.py:NAME, or None", vs=vs)
    expect("compile", compile, compile is None or isinstance(compile, bool), "True, False or None")
    expect("threads", threads, isinstance(threads, int | str | Sequence), "a whole number, or a list of them")
    counts = [threads] if isinstance(threads, int | str) else threads
    texts = {"norm": norm, "shape": shape, "dtype": dtype, "pass_": pass_, "layout": layout}
    listed = {name: [given] if isinstance(given, str) else given for name, given in texts.items()}
    expect_texts(**listed, only=only, skip=skip, kernels=kernels, fail_if=fail_if)
    with using(plugins):
        given = isinstance(preset, str | Path | Bench | Mapping | None)
        expect("preset", preset, given, "a preset's name, a file or a dict")
        axes = Axes(**listed, threads=[str(count) for count in counts], compile=compile)
        name, asked = open_bench(preset_path(str(preset)) if isinstance(preset, str | Path) else preset, axes)
        plan = plan_bench(
            asked, name, axes=axes, only=only, skip=skip, kernels=kernels, versus=vs, truth=truth, device=device,
            warm=warm, graph=graph, profile=profile, budget=budget, time_limit=time_limit, baseline=baseline,
            save_baseline=save_baseline, against=against, aa=aa, fail_if=fail_if,
            allow_other_machine=allow_other_machine, check=check, store=store, yes=yes,
        )  # fmt: skip
        record = measure_plan(plan, on_event)
        return Result(name, choose_grids(asked, axes)[0], record, (), Path(store), tuple(list_checks(record)))
