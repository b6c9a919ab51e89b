"""`bncli store`: join stores, remove what is no longer wanted, read everything once; and the list of studies."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bncli.cli.options import StoreFolder

store = typer.Typer(
    name="store",
    help="Join stores of finished runs, remove what is no longer wanted, find what is damaged.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
HOURS = {"h": 1, "d": 24, "w": 24 * 7}
SHOWN = 12  # characters of an id, enough for --study and --run


def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="FROM...", help="Stores to copy from.")],
    into: StoreFolder = Path(".bncli"),
) -> None:
    """Copy runs, studies, looks and baselines that --store lacks; what is there already is never overwritten.

    Exit code 5 if something was refused, because it is damaged or differs from what is there; the rest is merged.
    """
    from bncli.store.folder import require_store
    from bncli.store.maintenance import merge as merge_store

    for source in sources:
        require_store(source)
    refused = False
    with _continuing("what was merged stays"):
        for source in sources:
            outcomes: dict[str, Counter[str]] = {outcome: Counter() for outcome in ("added", "there", "refused")}
            for merged in merge_store(source, into):
                outcomes[merged.outcome][merged.kind] += 1
                if merged.problem:
                    print(merged.problem, file=sys.stderr)
            print(
                f"{source}: {_counted(outcomes['added'])} copied to {into}, {_counted(outcomes['there'])} there already"
                + (f", {_counted(outcomes['refused'])} refused" if outcomes["refused"] else "")
            )
            refused |= bool(outcomes["refused"])
    if refused:
        raise typer.Exit(5)


def prune(
    studies: Annotated[
        list[str] | None, typer.Option("--study", metavar="NAME|ID", help="Remove this study with its runs.")
    ] = None,
    runs: Annotated[list[str] | None, typer.Option("--run", metavar="ID", help="Remove this run.")] = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="30d", help="Remove what was last asked for longer ago: h hours, d days, w weeks."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and remove nothing.")] = False,
    folder: StoreFolder = Path(".bncli"),
) -> None:
    """Remove studies and runs by name, id or age; a run that another study needs stays.

    Checkpoints that nothing continues from and leftovers of killed commands go too, once a day old.
    """
    from bncli.format import written_bytes
    from bncli.store.prune import plan_pruning
    from bncli.store.prune import prune as prune_store

    age = _seconds(older_than) if older_than is not None else None
    pruning = plan_pruning(folder, studies or (), runs or (), age)
    done, freed = Counter[str](), 0
    with _continuing("what is left is whole"):
        for removal in pruning.removals if dry_run else prune_store(pruning):
            done[removal.kind] += 1
            freed += removal.size_byte
            if dry_run:
                print(f"{removal.kind:<11}  {written_bytes(removal.size_byte):>8}  {removal.place}")
    stay = "run stays, because another study needs it" if pruning.spared == 1 else "runs stay, because others need them"
    spared = f"; {pruning.spared:,} {stay}" if pruning.spared else ""
    print(f"{'would remove' if dry_run else 'removed'} {_counted(done)}, {written_bytes(freed)}{spared}")


def verify(folder: StoreFolder = Path(".bncli")) -> None:
    """Read every run, study, baseline and checkpoint once, and say which are damaged, and what is not of bncli.

    Exit code 3 if any is.
    """
    from bncli.store.folder import require_store
    from bncli.store.maintenance import verify as verify_store

    require_store(folder)
    read, damaged = Counter[str](), 0
    with _continuing("nothing was changed"):
        for checked in verify_store(folder):
            read[checked.kind] += 1
            if checked.problem:
                damaged += 1
                print(checked.problem)
    print(f"{_counted(read)} read, {f'{damaged} damaged' if damaged else 'all good'}")
    if damaged:
        raise typer.Exit(3)


def list_studies(folder: Path, json: str | None = None) -> None:
    """Print a table of the studies in a store: how far each is, and what it takes on the disk; or write it as data."""
    from bncli.errors import as_line
    from bncli.format import written_bytes
    from bncli.store.folder import Store, stores_in
    from bncli.store.prune import size_byte
    from bncli.store.studies import Studies

    found = list(_measure_studies(folder))
    if json:
        from json import dumps

        from bncli.cli.output import write

        document = {"schema": "bncli/studies/1", "studies": found}
        write(json, dumps(document, indent=1, ensure_ascii=False) + "\n", f"--json {json}")
        return
    rows = [("id", "name", "last looked at (UTC)", "runs", "seeds", "size")]
    for each in found:
        looked = each["looked_at"].replace("T", " ")[:16] if each["looked_at"] else "never"
        runs = f"{each['stored']} of {each['planned']}"
        size = written_bytes(each["size_byte"])
        rows.append((each["id"][:SHOWN], as_line(each["name"]), looked, runs, str(each["seeds"]), size))
    if len(rows) > 1:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [
                cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            ]
            print(f"  {'  '.join(cells)}")
    elif not Studies(folder).ids():
        unnamed = len(Store(folder).run_ids())
        why = f", only runs of which it does not know what for ({unnamed:,})" if unnamed else ""
        print(f"no studies in {folder}{why}; `bncli compare` trains one and remembers it, --store names another place")
    gates = [size_byte(place) for place in stores_in(folder)[1:]]
    if gates:
        states = "1 state" if len(gates) == 1 else f"{len(gates)} states"
        print(f"and {written_bytes(sum(gates))} of runs for --baseline, by {states} of the code")


def _measure_studies(folder: Path) -> Iterator[dict[str, Any]]:
    """Every study of a store, the last asked first; what cannot be read is said on stderr."""
    from bncli.errors import StoreError
    from bncli.store.folder import Store
    from bncli.store.prune import size_byte
    from bncli.store.studies import StoredStudy, Studies, sort_studies

    studies, kept, found = Studies(folder), Store(folder), list[StoredStudy]()
    for key in studies.ids():
        try:
            found.append(studies.read(key))
        except StoreError as error:
            print(error, file=sys.stderr)
    for study in sort_studies(found):
        packed = kept.packs.lines()
        places = [folder / "runs" / run for run in study.stored if run not in packed]
        in_packs = sum(packed[run].size_byte for run in study.stored & packed.keys())
        searches = any(study.study.get(kind) for kind in ("tune", "bisect", "search"))
        yield {
            "id": study.id, "name": study.name, "question": study.question,
            "looked_at": study.looks[-1].time if study.looks else None, "asked": study.asked,
            "stored": len(study.stored), "planned": len(study.planned),
            "complete": study.planned <= study.stored and bool(study.looks or not searches), "seeds": len(study.seeds),
            "size_byte": sum(map(size_byte, [*places, folder / "studies" / study.id])) + in_packs,
        }  # fmt: skip


@contextmanager
def _continuing(state: str) -> Iterator[None]:
    """Say on Ctrl-C how things stand: nothing is half done."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted; {state}, the same command continues", file=sys.stderr)
        raise typer.Exit(130) from None


def _seconds(text: str) -> float:
    from bncli.errors import BncliError

    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in HOURS):
        raise BncliError(f"--older-than {text}: expected a number with h, d or w behind it, as in 30d")
    return int(number) * HOURS[unit] * 3600.0


def _counted(numbers: Mapping[str, int]) -> str:
    """`2 studies and 1 run`."""
    parts = [f"{count:,} {kind if count == 1 else _plural(kind)}" for kind, count in numbers.items()]
    return _joined(parts) if parts else "nothing"


def _plural(kind: str) -> str:
    return {"study": "studies", "unfinished": "unfinished", "set aside": "set aside"}.get(kind, f"{kind}s")


def _joined(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
