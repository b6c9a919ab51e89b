"""From a session with probes to shift findings, and to their JSON document."""

from collections.abc import Mapping, Sequence

from bncli.analysis import ArmRuns
from bncli.analysis.shift import ShiftAsk, analyse_shift
from bncli.cli.findings import environments_of, mixed, run_document, write_text
from bncli.cli.session import Session
from bncli.config import Probes
from bncli.errors import ConfigError, did_you_mean
from bncli.findings import Definition, ShiftFindings
from bncli.plan import describe, warnings_of
from bncli.records import RunResult
from bncli.report.study.json import dumps, shift_document
from bncli.shift import METRICS


def with_probes(sets: Sequence[str] | None) -> list[str]:
    """What --set says, and the light tier for a preset that asks for no probes."""
    return [*(sets or ()), "probes.metrics=light"]


def chosen_metrics(session: Session, metrics: str) -> list[str]:
    """Names of the metrics to be shown, in the catalogue's order; all that are probed unless some are asked for.

    Raises:
        ConfigError: for one that the study does not probe.
    """
    probed = [name for name in session.study.probes.metrics if name != "percentiles"]
    wanted = [name.strip() for name in metrics.split(",") if name.strip()] or probed
    for name in wanted:
        if name not in probed:
            near, known = did_you_mean(name, probed), ", ".join(probed)
            more = f"; --set probes.metrics={METRICS[name].tier} probes it" if name in METRICS else ""
            raise ConfigError(f"--metrics: {session.name} does not probe {name!r}{near}{more} (probed: {known})")
    return [name for name in METRICS if name in wanted]


def findings_of(
    session: Session, results: Mapping[str, RunResult], metrics: Sequence[str], layers: str
) -> ShiftFindings:
    """Analyse every run that the plan asked for and that did not fail.

    Raises:
        ConfigError: if no layer matches.
    """
    good = {key: result for key, result in results.items() if result.info.status != "failed"}
    study, environments = session.study, environments_of(good)
    diverged = sum(result.info.status == "diverged" for result in good.values())
    ask = ShiftAsk(
        name=session.name,
        question=study.question,
        setup=describe(study, session.device),
        probes=_described(study.probes),
        reference=study.reference,
        definitions=tuple(definition(name) for name in metrics),
        layers=tuple(pattern.strip() for pattern in layers.split(",") if pattern.strip()),
        margin=study.margins.ratio,
        warnings=(
            *warnings_of(study),
            *mixed(environments),
            *([f"{diverged} runs diverged; what is said of them is of the probes before"] if diverged else []),
        ),
        environment=environments[0] if environments else {},
    )
    found = analyse_shift([ArmRuns(*arm) for arm in session.arms(good)], ask)
    if ask.layers and not any(arm.cells for arm in found.arms):
        raise ConfigError(f"--layers {layers}: no probed layer matches")
    return found


def definition(name: str) -> Definition:
    """What the analysis must know of a metric."""
    row = METRICS[name]
    words = name.removesuffix("-relative").replace("-", " ")
    label = f"relative {words}" if name.endswith("-relative") else words
    open_ended = row.low >= 0 and row.high == float("inf")
    return Definition(name, label, row.kind, row.unit, "ratio" if open_ended else "difference", row.better)


def write_json(place: str, session: Session, findings: ShiftFindings, results: Mapping[str, RunResult]) -> None:
    """Write the one JSON document to a file, or to stdout for `-`."""
    study = session.study.model_dump(mode="json")
    runs = [run_document(run, results.get(run.id)) for run in session.runs]
    write_text(place, dumps(shift_document(findings, study, runs)))


def _described(probes: Probes) -> str:
    """What was probed, in a line."""
    places = {"layer": "behind layers", "norm": "before activations, normalised or not", "activation": "behind them"}
    mode = "running statistics" if probes.mode == "evaluation" else "batch statistics"
    return f"probed: {probes.examples} {probes.split} examples every {probes.every} steps, with {mode}; " + ", ".join(
        places[place] for place in probes.sites
    )
