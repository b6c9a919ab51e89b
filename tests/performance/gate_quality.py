"""How often bncli's gate is wrong, and pytest-benchmark's beside it; a table, or --json.

Each gate measures 20 small cases and compares them with a baseline at `ratio:+5%`, half of the gates beside a busy
process. One case, another in each gate, is measured as it is, with 5 % and with 10 % more work: so a gate says three
things, of identical code and of two slowdowns. The peer's rule is `--benchmark-compare-fail=median:5%`, on its own
measurements of the same calls. Every 40 gates a new baseline is taken, without the busy process and from 20 new
measuring processes, and those of the gates are renewed: starting one takes as long as twenty measurements. 200 gates
take about an hour and a half on two cores; interrupted, it says what it has found so far.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from bncli.limits import BENCH_MEASURES, read_limit  # noqa: E402
from bncli.timing.gate import collect_readings, judge  # noqa: E402
from bncli.timing.process.client import Start, Worker, start_worker  # noqa: E402
from bncli.timing.process.protocol import RemoteCase  # noqa: E402
from bncli.timing.results import CaseJudgement, ProcessReadings  # noqa: E402
from bncli.timing.workloads import Entry, TimerSettings, Workload  # noqa: E402

torch.set_num_threads(1)


def batch(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True)


def layer(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[1:])


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5)


def group(x: Tensor) -> Tensor:
    return F.group_norm(x, 8)


def dyt(x: Tensor) -> Tensor:
    return torch.tanh(0.5 * x)


NORMS = {norm.__name__: norm for norm in (batch, layer, rms, group, dyt)}
CASES = [f"{norm}/{n}x{c}" for norm in NORMS for n, c in ((64, 32), (32, 64), (16, 64), (16, 256))]
TIMES = 20  # a case is so many calls of its norm, so that one more and two more are slowdowns of 5 and 10 %
SLOWED = (1, 2)
RULE = "ratio:+5%"
SETTINGS = TimerSettings(seconds=0.0, half_width=0.0, warmup=0.003, chunk=1.5e-4, least_blocks=32, warm=True)
FIRST, AGAIN, BASELINE = 5, 10, 20  # processes, as the command has
RENEWED_EVERY = 40  # gates


@dataclass(frozen=True)
class Outcome:
    """What one gate said: of identical code, and of the slowed case; the peer's is None where it was not run."""

    busy: bool
    called: Mapping[int, bool]  # by what was planted (0: nothing): whether a regression was called, of the case planted
    better: Mapping[int, bool]
    undecided: bool  # of identical code
    alarms: tuple[str, ...]  # what was said of identical code
    peer_called: Mapping[int, bool] | None


def planted(document: Mapping[str, Any]) -> Entry:
    """The entry of a case with so many calls more than it has."""
    norm, _, shape = document["case"].partition("/")
    size = tuple(map(int, shape.split("x")))
    extra = document["extra"]
    own, native = (Workload(f, lambda: (torch.randn(size),), 4 * math.prod(size)) for f in (NORMS[norm], batch))
    slow = replace(own, call=repeated(own.call, TIMES + extra))
    return Entry(job(document["case"], extra).name, slow, (("native", native),))


def repeated(call: Callable[[Tensor], Tensor], times: int) -> Callable[[Tensor], None]:
    def all_of_them(x: Tensor) -> None:
        for _ in range(times):
            call(x)

    return all_of_them


def job(case: str, extra: int = 0) -> RemoteCase:
    return RemoteCase(f"{case}+{extra}", {"case": case, "extra": extra}, "gate_quality:planted")


def measure(start: Start, jobs: Sequence[RemoteCase], replicates: int, chance: random.Random) -> ProcessReadings:
    found = []
    for _ in range(replicates):
        with start() as worker:
            found += [worker.measure(job, SETTINGS, chance.randrange(2**32)) for job in chance.sample(jobs, len(jobs))]
    return collect_readings(found)


@contextmanager
def pool(count: int) -> Iterator[Start]:
    """So many measuring processes, handed out in turn."""
    with ExitStack() as running:
        turn = cycle([running.enter_context(start_worker("cpu")) for _ in range(count)])

        @contextmanager
        def start() -> Iterator[Worker]:
            yield next(turn)

        yield start


def gate(
    start: Start, before: ProcessReadings, victim: str, chance: random.Random
) -> dict[int, tuple[CaseJudgement, ...]]:
    """One gate: what it says of identical code (0), and with the victim slowed in each way."""
    jobs = {j.name: j for j in [*(job(case) for case in CASES), *(job(victim, extra) for extra in SLOWED)]}
    now = measure(start, list(jobs.values()), FIRST, chance)
    looks = defaultdict[str, list[Any]](list)  # at each case again, shared by the three families

    def again(count: Counter[str], names: Sequence[str]) -> ProcessReadings:
        count.update(names)
        new = measure(start, [jobs[name] for name in names if len(looks[name]) < count[name]], AGAIN, chance)
        for name, readings in new.items():
            looks[name].append(readings)
        return {name: looks[name][count[name] - 1] for name in names}

    found = {}
    for extra in (0, *SLOWED):
        own, other = job(victim).name, job(victim, extra).name
        family = {name: ratios for name, ratios in now.items() if name.endswith("+0") and name != own}
        family[other] = now[other]
        found[extra] = judge(
            [read_limit(RULE, BENCH_MEASURES, slower=True)],
            {**before, other: before[own]},
            family,
            partial(again, Counter()),
        ).judgements
    return found


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that copies memory all the time, or none."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "a = bytearray(2**26)\nwhile True: b = bytes(a)"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


PEER_TESTS = """
import pytest, torch
from gate_quality import CASES, SLOWED, planted, job

@pytest.mark.parametrize("job", [*map(job, CASES), *(job(c, e) for c in VICTIMS for e in SLOWED)], ids=lambda j: j.name)
def test(job, benchmark):
    case = planted(job.case).candidate
    benchmark(case.call, *case.make_arguments())
"""


def peer(folder: Path, victims: Sequence[str], *options: str) -> str:
    """Run pytest-benchmark; what it printed. Each benchmark has as many seconds as five processes of ours."""
    (folder / "test_peer.py").write_text(f"VICTIMS = {list(victims)}\n{PEER_TESTS}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", str(folder), "--benchmark-max-time=0.08", "--benchmark-min-time=0.0001", *options]
    done = subprocess.run([*command, "test_peer.py"], cwd=folder, capture_output=True, text=True)
    if "- benchmark: " not in done.stdout:
        sys.exit(f"pytest-benchmark did not run:\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def peer_baseline(folder: Path) -> Path:
    """The peer's baseline, in which each slowed case stands with the times of the case as it is."""
    place = folder / "baseline.json"
    peer(folder, [], f"--benchmark-json={place}")
    document = json.loads(place.read_text())
    for benchmark in list(document["benchmarks"]):
        for extra in SLOWED:
            copy = {key: benchmark[key].replace("+0", f"+{extra}") for key in ("name", "fullname", "param")}
            document["benchmarks"].append({**benchmark, **copy})
    place.write_text(json.dumps(document))
    return place


def peer_gate(folder: Path, baseline: Path, victim: str) -> dict[int, bool]:
    """Whether the peer calls any case as it is, and each slowed one."""
    said = peer(folder, [victim], f"--benchmark-compare={baseline}", "--benchmark-compare-fail=median:5%")
    failed = [line for line in said.splitlines() if "has failed PercentageRegressionCheck" in line]
    if "Comparing against benchmarks" not in said:
        sys.exit(f"pytest-benchmark compared nothing:\n{said}")
    return {extra: any(f"+{extra}]" in line for line in failed) for extra in (0, *SLOWED)}


def outcomes(gates: int, seed: int, with_peer: bool) -> Iterator[Outcome]:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        for number in range(gates):
            if number % RENEWED_EVERY == 0:
                running.close()
                before = measure(partial(start_worker, "cpu"), [job(case) for case in CASES], BASELINE, chance)
                their_before = peer_baseline(folder) if with_peer else None
                start = running.enter_context(pool(FIRST + 2 * AGAIN))
            victim, busy = chance.choice(CASES), number % 2 == 1
            with neighbour(busy):
                found = gate(start, before, victim, chance)
                theirs = peer_gate(folder, their_before, victim) if their_before else None
            yield outcome(found, busy, victim, theirs)


def outcome(
    found: Mapping[int, tuple[CaseJudgement, ...]], busy: bool, victim: str, theirs: Mapping[int, bool] | None
) -> Outcome:
    of_victim = {extra: next(j for j in found[extra] if j.case == job(victim, extra).name) for extra in found}
    return Outcome(
        busy=busy,
        called={extra: j.verdict == "regression" for extra, j in of_victim.items()}
        | {0: any(j.verdict == "regression" for j in found[0])},
        better={extra: j.verdict == "better" for extra, j in of_victim.items()},
        alarms=tuple(f"{j.case} {j.verdict} {j.change}" for j in found[0] if j.verdict in ("regression", "undecided")),
        undecided=any(j.verdict == "undecided" for j in found[0]),
        peer_called=theirs,
    )


def figures(all_of: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, chosen in {
        "": all_of, "_quiet": [o for o in all_of if not o.busy], "_busy": [o for o in all_of if o.busy],
    }.items():  # fmt: skip
        theirs = [o.peer_called for o in chosen if o.peer_called is not None]
        found[f"false_alarms{name}"] = share([o.called[0] for o in chosen], "<= 0.02")
        found[f"slowed_10_called{name}"] = share([o.called[2] for o in chosen], ">= 0.95")
        found[f"slowed_5_called_better{name}"] = share([o.better[1] for o in chosen], "0")
        found[f"slowed_5_called{name}"] = share([o.called[1] for o in chosen], "")
        found[f"undecided{name}"] = share([o.undecided for o in chosen], "")
        found[f"peer_false_alarms{name}"] = share([t[0] for t in theirs], "to beat")
        found[f"peer_slowed_10_called{name}"] = share([t[2] for t in theirs], "to beat")
    return {name: figure for name, figure in found.items() if figure}


def share(answers: Sequence[bool], goal: str) -> dict[str, Any]:
    """The share of yeses, with its exact 95 % interval."""
    if not answers:
        return {}
    from scipy.stats import binomtest  # not above: measuring processes import this file, and it takes a second

    interval = binomtest(sum(answers), len(answers)).proportion_ci()
    value = sum(answers) / len(answers)
    unit = f"share of {len(answers)} gates"
    return {"value": value, "low": float(interval.low), "high": float(interval.high), "unit": unit, "goal": goal}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-peer", action="store_true", help="leave pytest-benchmark out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.no_peer:
        try:
            import pytest_benchmark  # noqa: F401
        except ImportError:
            sys.exit("the peer is not installed: pip install pytest-benchmark; or pass --no-peer")
    start, found = time.monotonic(), []
    try:
        for outcome in outcomes(options.gates, options.seed, not options.no_peer):
            found.append(outcome)
            passed = time.monotonic() - start
            print(f"[{len(found)}/{options.gates}] {passed:.0f} s {outcome}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"interrupted after {len(found)} gates", file=sys.stderr)
    if options.json:
        print(json.dumps(figures(found)))
        return
    for name, figure in figures(found).items():
        interval = f"[{figure['low']:.3f}, {figure['high']:.3f}]"
        print(f"{name:32} {figure['value']:.3f} {interval} {figure['unit']:20} {figure['goal']}")


if __name__ == "__main__":
    main()
