"""One command's measurement: the cases run with progress on stderr, and what is known when it is interrupted."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bncli.bench.cases import Case
from bncli.bench.clock import Clock, CudaClock, WallClock
from bncli.bench.modules import factory
from bncli.bench.rows import BenchRecord, Row
from bncli.bench.run import run
from bncli.bench.timed import Effort
from bncli.config import Bench
from bncli.engine.environment import environment, resolve_device
from bncli.errors import ConfigError
from bncli.notation import written_ratio, written_seconds


def measured(name: str, bench: Bench, cases: Sequence[Case], device: str, budget: float, *, warm: bool) -> BenchRecord:
    """Run the cases; interrupted, give what has been measured.

    Raises:
        BncliError: for a device that is not there, or a kernel that cannot be had or run.
    """
    where = _device(device)
    cases = [replace(case, device=where) for case in cases]
    for kernel in {case.norm for case in cases if case.is_kernel}:
        factory(kernel)  # a mistake is said before anything is measured
    clock: Clock = CudaClock() if where == "cuda" else WallClock()
    started, begin, rows = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic(), list[Row]()
    try:
        with _progress(cases) as tell:
            for row in run(cases, clock, Effort(warm=warm), budget):
                rows.append(row)
                tell(row)
    except KeyboardInterrupt:
        print(f"interrupted; {len(rows)} of {len(cases)} cases are measured", file=sys.stderr)
    took = time.monotonic() - begin
    return BenchRecord(name, bench.question, tuple(rows), len(cases), warm, environment(where), started, took)


def _device(wanted: str) -> str:
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: must be auto, cpu or cuda, got {wanted!r}")
    found = resolve_device(wanted)
    return found if found == "cuda" else "cpu"


@contextmanager
def _progress(cases: Sequence[Case]) -> Iterator[Any]:
    """A bar on a terminal, drawn between cases only so that it costs none of their time; elsewhere a line a case."""
    done = 0

    def line(row: Row) -> None:
        nonlocal done
        done += 1
        ratio = row.result.ratios["native"]
        said = f"{written_seconds(row.seconds.value)}, {written_ratio(ratio.value, ratio.low, ratio.high)} of torch's"
        print(f"[{done}/{len(cases)}] {row.case.name}: {said}", file=sys.stderr, flush=True)

    if not sys.stderr.isatty() or os.environ.get("TERM") in (None, "", "dumb"):
        yield line
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task(cases[0].name, total=len(cases))
        bar.refresh()

        def advance(row: Row) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=1, description=cases[min(done, len(cases) - 1)].name, refresh=True)

        yield advance
