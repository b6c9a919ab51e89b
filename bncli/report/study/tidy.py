"""Runs as one tidy table, a row a run and step: what other tools plot, and what `compare --from` reads."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from bncli.format import written_option
from bncli.records import CurveKey, StudyRun

COLUMNS = ("variant", "seed", "setting", "status", "budget", "classes", "ended", "step")


def tidy_rows(runs: Sequence[StudyRun]) -> Iterator[dict[str, Any]]:
    """Rows of the runs that have numbers: `COLUMNS`, then every metric of the whole network that was measured then.

    `setting` holds the swept keys, "training.lr=0.1"; `budget` is the steps that a run was allowed; `classes` is 0
    where numbers are fitted; `ended` is the last step, of a diverged run the first whose loss was not finite. A value
    that is not finite is written as Python writes it: nan, inf.
    """
    for run in runs:
        if run.result is None or not run.result.info.has_numbers:
            continue
        at: dict[int, dict[str, float]] = {}
        for record in run.result.records:
            if record.key == CurveKey(record.metric):
                at.setdefault(record.step, {})[record.metric] = record.value
        info = run.result.info
        said = {
            "variant": run.variant,
            "seed": run.seed,
            "setting": " ".join(f"{key}={written_option(value)}" for key, value in run.setting.items()),
            "status": info.status,
            "budget": info.step if info.status == "done" else run.result.budget or "",
            "ended": info.step,
            "classes": run.result.spec.get("classes", 0),
        }
        for step in sorted(at):
            yield {**said, "step": step, **at[step]}


def write_tidy(runs: Sequence[StudyRun], suffix: str) -> str:
    """The table as text: .csv with a first line of columns, .jsonl with an object a line."""
    rows = list(tidy_rows(runs))
    if suffix == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    metrics = sorted({key for row in rows for key in row}.difference(COLUMNS))  # accuracy before loss
    columns = [*COLUMNS, *metrics]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
