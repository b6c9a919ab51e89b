"""`bncli bench` on a terminal: one table by groups of cases; `bncli doctor`: the machine's condition."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from bncli.format import written_bytes, written_ratio, written_seconds
from bncli.report.checks import show_checks
from bncli.report.layout import Column, say, stacked, table, width, wrapped
from bncli.report.study.json import plain
from bncli.report.study.table import SYMBOLS
from bncli.report.timing.gate import lay_out_gate, list_claim_checks, list_result_checks
from bncli.timing.results import MARGIN, BenchRecord, BenchRow, Condition

_RIVAL_NAMES = {"native": "torch", "copy": "copy", "against": "other"}
# Columns in the order in which a narrow terminal goes without them.
_DISPENSABLE = ("GB/s alg.", "saved", "peak", "grad error", "error", "GFLOP/s", "vs copy", "vs torch", "GB/s")
# Kernels of each contender, and the least share of theirs; the rest is a line.
_MOST_KERNELS, _LEAST_SHARE = 8, 0.01


def show(record: BenchRecord, console: Console) -> None:
    """Print a record at the console's width; columns that do not fit are left out, and named."""
    room = console.width
    say(console, wrapped(f"{record.name}: {record.question}", room), "bold")
    say(console, wrapped(_describe_setup(record), room), "dim")
    lines, left_out = lay_out_table(record.rows, room) if record.rows else ([], [])
    say(console, "")
    for line in lines:
        say(console, line)
    for line in lay_out_profiles(record.rows, room):
        say(console, line)
    if checks := list(list_result_checks(record)):
        say(console, "")
        show_checks(checks, console)
    if record.gate:
        for line in lay_out_gate(record.gate, room):
            say(console, line)
    if record.claims:
        say(console, "")
        show_checks(list_claim_checks(record), console)
    say(console, "")
    for note in _list_notes(record, left_out, room) if record.rows else ():
        say(console, wrapped(note, room, "  "), "dim")
    for warning in list_warnings(record):
        say(console, wrapped(f"warning: {warning}", room, "  "), "yellow")


def lay_out_table(rows: Sequence[BenchRow], room: int) -> tuple[list[Text], list[str]]:
    """The table's lines within `room` characters, and the titles of the columns that it goes without."""
    columns, left_out = list(build_bench_columns(rows)), list[str]()
    for title in (*_DISPENSABLE, "implementation"):
        if rows and title == f"vs {name_rival(rows[0].rival)}":
            continue
        if width(columns) <= room:
            break
        kept = [column for column in columns if column.title != title]
        left_out += [title] * (len(kept) < len(columns))
        columns = kept
    if width(columns) > room:
        listed = list[Text]()
        for group, of_group in groupby(rows, name_group):
            part = [column for column in build_bench_columns(list(of_group)) if column.title not in left_out]
            listed += [Text(group, style="bold"), *stacked(part, 2, room)]
        return listed, left_out
    titles, *lines = table(columns)
    found = [titles]
    for (group, _), members in groupby(zip(map(name_group, rows), lines, strict=True), lambda pair: (pair[0], 0)):
        found += [Text(group, style="bold"), *(line for _, line in members)]
    return found, left_out


def lay_out_profiles(rows: Sequence[BenchRow], room: int) -> Iterator[Text]:
    """A small table for each case whose kernels were named, with its rivals; nothing where none were."""
    profiled = [row for row in rows if row.profiles]
    if not profiled:
        return
    on_gpu = profiled[0].case.device == "cuda"
    what = "kernels on the GPU" if on_gpu else "operators, without the time of those they call"
    slow = "it slows calls, so the shares are of its own times, not of those above"
    heading = f"what ran in a call, by torch's profiler: {what}; {slow}"
    yield from map(Text, ["", *wrapped(heading, room).splitlines()])
    for row in profiled:
        yield Text(row.case.name, style="bold")
        yield from _lay_out_profile(row, room)


def _lay_out_profile(row: BenchRow, room: int) -> list[Text]:
    contenders, kernels, counts, shares = zip(*_list_kernels(row), strict=True)
    numbers = [
        Column("a call", tuple(Text(f"{round(count, 1):g}") for count in counts), right=True),
        Column("share", tuple(Text("<1%" if 0 < share < 0.005 else f"{share:.0%}") for share in shares), right=True),
    ]
    left = max(room - width(numbers) - 6, 40)  # for names, which are whole in --json
    first = Column("of", tuple(Text(_cut(each, left // 3)) for each in contenders))
    title = "kernel" if row.case.device == "cuda" else "operator"
    return table([first, Column(title, tuple(Text(_cut(each, left - first.width)) for each in kernels)), *numbers])


def _list_kernels(row: BenchRow) -> Iterator[tuple[str, str, float, float]]:
    """Of each contender the largest, and the others in a line: name, how often in a call, share."""
    for name, kernels in row.profiles.items():
        shown = [each for each in kernels[:_MOST_KERNELS] if each.share >= _LEAST_SHARE]
        lines = [(each.name, each.count, each.share) for each in shown]
        if others := kernels[len(shown) :]:
            what = f"{len(others)} other{'s' * (len(others) > 1)}"
            lines.append((what, sum(each.count for each in others), sum(each.share for each in others)))
        contender = row.case.name.partition("/")[0] if name == "case" else name_rival(name)
        for number, line in enumerate(lines or [("nothing was seen", 0, 0)]):
            yield "" if number else contender, *line


def _cut(name: str, room: int) -> str:
    return name if len(name) <= room else f"{name[: room - 3]}..."


def name_rival(rival: str) -> str:
    """What a rival is called in tables: torch, copy, other; of --vs the norm with its options."""
    return _RIVAL_NAMES.get(rival, rival)


def name_group(row: BenchRow) -> str:
    """A case's name without its norm: what the rows of a group share."""
    return row.case.name.partition("/")[2]


def list_warnings(record: BenchRecord) -> Iterator[str]:
    """Warnings about the whole and about each case, in words."""
    yield from record.warnings
    checked = {row.case: row.facts for row in record.rows}
    checked |= {row.case.rival: row.rival_facts for row in record.rows if row.case.rival and row.rival_facts}
    foreign = {
        case.name: facts
        for case, facts in checked.items()
        if case.is_kernel and facts.correctness.verdict == "unchecked"
    }
    if foreign:
        why = next(iter(foreign.values())).reasons.get("error", "it is held against itself in float64 alone")
        yield f"the results of {', '.join(foreign)} are unchecked: {why}"
    results = [result for row in record.rows for result in row.results]
    if warned := [result for result in results if result.warnings]:
        first = f"{warned[0].name}: {warned[0].warnings[0]}"
        yield f"{len(warned)} of {len(results)} measurements have a warning (--json has them all), the first: {first}"
    if not record.complete:
        yield (
            f"cut short: {len(record.rows)} of {record.cases} cases were measured, perhaps in fewer processes, and none"
            " is judged"
        )


def build_bench_columns(rows: Sequence[BenchRow]) -> Iterator[Column]:
    """All columns of the table."""

    def column(title: str, write: Callable[[BenchRow], str | Text], gap: int = 3) -> Column:
        cells = tuple(cell if isinstance(cell, Text) else Text(cell) for cell in map(write, rows))
        return Column(title, cells, right=title not in ("", "norm", "implementation", "results"), gap=gap)

    yield column("", lambda row: Text(*SYMBOLS[row.verdict]), gap=1)
    yield column("norm", lambda row: row.case.name.partition("/")[0])
    yield column("time", _write_time)
    first, *others = rows[0].ratios if rows else ("native",)
    yield column(f"vs {name_rival(first)}", lambda row: Text(_write_ratio(row), style=SYMBOLS[row.verdict][1]))
    for other in others:
        yield column(f"vs {name_rival(other)}", partial(_write_value, rival=other))
    yield column("GB/s", lambda row: _write_share(row.least_bandwidth, row.rates.bandwidth))
    yield column("GB/s alg.", lambda row: _write_share(row.algorithmic_bandwidth, row.rates.bandwidth))
    if any(row.product_rate for row in rows):
        yield column("GFLOP/s", _write_products)
    yield column("peak", lambda row: "n/a" if row.facts.peak_byte is None else written_bytes(row.facts.peak_byte))
    yield column("saved", lambda row: written_bytes(row.facts.saved_byte))
    yield column("error", lambda row: write_error(row.facts.correctness.output_error))
    yield column("grad error", lambda row: write_error(row.facts.correctness.gradient_error))
    yield column("implementation", lambda row: row.facts.implementation)
    if any(row.facts.correctness.verdict != "right" for row in rows):
        yield column("results", lambda row: row.facts.correctness.verdict)


def write_error(error: float | None) -> str:
    """`5.0e-07`."""
    return "n/a" if error is None else f"{error:.1e}"


def _write_time(row: BenchRow) -> str:
    seconds = row.seconds
    return written_seconds(seconds.value, seconds.low, seconds.high)


def _write_ratio(row: BenchRow) -> str:
    ratio = row.ratios[row.rival]
    return written_ratio(ratio.value, ratio.low, ratio.high)


def _write_value(row: BenchRow, rival: str) -> str:
    return written_ratio(row.ratios[rival].value)


def _write_share(rate: float, ceiling: float) -> str:
    return f"{rate / 1e9:.3g} ({rate / ceiling:.0%})"


def _write_products(row: BenchRow) -> str:
    return "" if row.product_rate is None else _write_share(row.product_rate, row.rates.products[row.case.dtype])


def _describe_setup(record: BenchRecord) -> str:
    cache = ("arguments in the cache" if record.warm else "arguments out of the cache") + (
        ", CUDA graphs replayed" if record.graph else ""
    )
    processes = f"{record.processes} process{'es' * (record.processes > 1)} a case"
    parts = [f"{len(record.rows)} case{'s' * (len(record.rows) != 1)}", processes, cache, f"{record.seconds:.0f} s"]
    for rates in {row.rates.threads: row.rates for row in record.rows}.values():
        products = ", ".join(f"{rate / 1e9:.3g} GFLOP/s in {dtype}" for dtype, rate in rates.products.items())
        threads = f"{rates.threads} thread{'s' * (rates.threads > 1)}"
        parts.append(f"{threads}: {rates.bandwidth / 1e9:.3g} GB/s, products {products}")
    return " · ".join([*parts, str(record.environment.get("processor", ""))]).rstrip(" ·")


def _list_notes(record: BenchRecord, left_out: Sequence[str], room: int) -> Iterator[str]:
    if left_out:
        yield f"left out at {room} columns: {', '.join(left_out)} (a wider terminal or --json has them)"
    found = {row.verdict for row in record.rows}
    symbols = ", ".join(f"{symbol} {verdict}" for verdict, (symbol, _) in SYMBOLS.items() if verdict in found)
    rival = record.rows[0].rival
    words = {"native": "torch's own batch norm", "against": "the same case in the other environment"}
    yield f"{symbols}: time against {words.get(rival, rival)}, interleaved with it; = is within {MARGIN:.0%}"
    yield "[ ] is a 95 % interval over processes" if record.processes > 1 else "[ ] is the 95 % interval of a median"
    yield (
        "GB/s counts every tensor once (speed of light), GB/s alg. what the algorithm must read; beside them their "
        "share of what a large copy reaches here; error, grad error: largest of output and gradients, against what is "
        "right in float64, in root mean squares (docs/bench.md)"
    )
    results = [result for row in record.rows for result in row.results]
    ends = Counter(result.stopped for result in results)
    full = f", {ends['blocks']} at the most blocks" if ends["blocks"] else ""
    yield (
        f"{ends['narrow']} of {len(results)} measurements stopped because their ratio was known to 1 %{full}, the"
        " others for time"
    )
    if outliers := sum(result.outliers["case"] for result in results):
        taken = 2 * sum(len(result.samples["case"]) for result in results)
        yield f"{outliers} of {taken:,} timings lie far above the others of their case; they are kept"


_UNKNOWN = {
    "governor": "this system does not tell",
    "load": "this system has no load average",
    "busy": "this system does not tell without further tools",
    "steal_time": "this system does not tell",
}


def describe_condition(condition: Condition, environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Label and value, in words."""
    yield "processor", f"{environment['processor']}, {environment['system']}"
    yield "software", f"bncli {environment['bncli']}, torch {environment['torch']}, Python {environment['python']}"
    yield "cores", f"{condition.cores} for this process; torch would use {condition.threads} threads"
    yield "governor", condition.governor or f"unknown ({_UNKNOWN['governor']})"
    load, busy = condition.load, condition.busy
    yield "load", f"unknown ({_UNKNOWN['load']})" if load is None else f"{load:.2f} over the last minute"
    if busy is None:
        yield "other programs", f"unknown ({_UNKNOWN['busy']})"
    else:
        names = ", ".join(f"{name} {cores:.2f} cores" for name, cores in sorted(busy.items(), key=lambda x: -x[1]))
        yield "other programs", names or "idle"
    if condition.steal_time is not None:
        yield "steal time", f"{condition.steal_time:.1%} of the time, by the host of a virtual machine"
    yield "timer", f"{written_seconds(condition.timer_seconds)} between two readings"
    yield "noise floor", f"{condition.noise:.1%} (half the middle half of 200 times of the same copy of 4 MB)"
    for rates in condition.rates:
        threads = f"{rates.threads} thread{'s' * (rates.threads > 1)}"
        products = ", ".join(f"{rate / 1e9:.3g} GFLOP/s in {dtype}" for dtype, rate in rates.products.items())
        yield threads, f"{rates.bandwidth / 1e9:.3g} GB/s copied, {products} of matrix products"


def build_document(condition: Condition, environment: Mapping[str, Any], advice: Sequence[str]) -> dict[str, Any]:
    """All of it in types that JSON knows."""
    fields = asdict(condition)
    reasons = {f"{key}_reason": why for key, why in _UNKNOWN.items() if fields[key] is None}
    found = {"schema": "bncli/doctor/2", **fields, **reasons, "advice": list(advice), "environment": environment}
    made: dict[str, Any] = plain(found)
    return made


def list_parts(record: BenchRecord) -> tuple[list[Column], str, list[str]]:
    """What a page shows of a record: all columns, behind those of the cases; the setup; how the numbers are read."""
    columns = list(build_bench_columns(record.rows))
    groups = Column("case", tuple(Text(name_group(row)) for row in record.rows))
    return [*columns[:2], groups, *columns[2:]], _describe_setup(record), list(_list_notes(record, (), 0))
