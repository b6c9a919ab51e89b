"""Folders of runs: event files of TensorBoard, logs of Lightning and of the Hugging Face trainer, a table a run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bncli.errors import DataError
from bncli.observed import LoggedRun, curve_of
from bncli.observed.tables import SUFFIXES, flat, read_table


def read_folder(folder: Path, asked: Sequence[str] = ()) -> list[LoggedRun]:
    """The runs below a folder, each called by its path there; `asked` as for `read_table`.

    Raises:
        DataError: in one line, with the file, for what cannot be read; or if there is nothing that looks like a run.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    events = sorted({path.parent for path in paths if path.name.startswith("events.out.tfevents.")})
    if events:
        return [_events(each, _name(each, folder)) for each in events]
    if states := _trainer_states(paths):
        return [_trainer(state, _name(run, folder), folder) for run, state in states.items()]
    tables = [path for path in paths if path.suffix in SUFFIXES]
    if not tables:
        raise DataError(
            f"--from {folder}: no run lies there: expected events.out.tfevents.* (TensorBoard), metrics.csv"
            " (Lightning), trainer_state.json (Hugging Face), or tables (.csv, .tsv, .jsonl)"
        )
    found = []
    for path in tables:
        one = path.parent if path.name == "metrics.csv" else path.with_suffix("")
        fields = _parameters(path.parent / "hparams.yaml")
        for log in read_table(path, asked, _name(one, folder)):
            found.append(LoggedRun(log.name, f"{path.relative_to(folder)}", {**fields, **log.fields}, log.curves))
    return found


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path != folder else folder.name


def _parameters(path: Path) -> dict[str, str]:
    """Hyperparameters that Lightning writes beside a run's metrics; nothing where they are not plain YAML."""
    import yaml

    try:
        given = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return flat(given) if isinstance(given, dict) else {}


def _trainer_states(paths: Sequence[Path]) -> dict[Path, Path]:
    """By a run's folder its longest history: that of the last checkpoint, where the run itself has none."""
    found: dict[Path, Path] = {}
    for path in paths:
        if path.name == "trainer_state.json":
            inside = path.parent.name.startswith("checkpoint-")
            run = path.parent.parent if inside else path.parent
            known = found.get(run)
            if known is None or not inside or (known.parent != run and _number(path) > _number(known)):
                found[run] = path
    return found


def _number(path: Path) -> int:
    number = path.parent.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def _trainer(path: Path, name: str, folder: Path) -> LoggedRun:
    try:
        state = json.loads(path.read_text())
        history = [flat(entry) for entry in state["log_history"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is no state of a Hugging Face trainer ({type(error).__name__}: {error})") from None
    points: dict[str, list[tuple[int, float]]] = {}
    try:
        for entry in history:
            for key in entry.keys() - {"step", "epoch"}:
                points.setdefault(key, []).append((int(entry["step"]), float(entry[key])))
        curves = {key: curve_of(found) for key, found in sorted(points.items())}
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: log_history: {error}") from None
    budget = state.get("max_steps")
    fields = {"budget": str(budget)} if isinstance(budget, int) and budget > 0 else {}
    return LoggedRun(name, f"{path.relative_to(folder)}", fields, curves)


def _events(folder: Path, name: str) -> LoggedRun:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-not-found, import-untyped, unused-ignore]  # fmt: skip
    except ImportError:
        raise DataError(
            f"{folder}: event files are read by tensorboard, which is not installed; pip install tensorboard"
        ) from None
    try:
        events: Any = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
        points = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        for tag in events.Tags()["tensors"]:  # what TensorFlow 2 calls a scalar
            values = [(e.step, e.tensor_proto) for e in events.Tensors(tag)]
            if all(not value.tensor_shape.dim and len(value.float_val) == 1 for _, value in values):
                points[tag] = [(step, value.float_val[0]) for step, value in values]
        return LoggedRun(name, f"{name}/", {}, {tag: curve_of(found) for tag, found in points.items()})
    except Exception as error:  # anybody's bytes
        raise DataError(f"{folder}: its event files cannot be read ({type(error).__name__}: {error})") from None
