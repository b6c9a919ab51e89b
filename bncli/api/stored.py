"""Reports of what is stored: of a study, of a JSON document. Nothing is trained."""

from collections.abc import Sequence
from pathlib import Path

from bncli.errors import StoreError
from bncli.files import is_intact, read_json, reading
from bncli.plugins import using
from bncli.report.data import ReportData
from bncli.report.documents import read_document
from bncli.store.folder import BASELINE_BYTES
from bncli.store.pack import migrate_findings


def read_report(
    what: str | Path = "", *, store: str | Path = ".bncli", kind: str | None = None, plugins: Sequence[str] = ()
) -> ReportData:
    """What a study, a preset or a JSON document says, for `bncli.report.exports.render`.

    Args:
        what: FILE.json, as `--json` writes it; a study of the store, by its name or how its id begins; or a preset
            whose runs the store has. Empty is the study that was asked last.
        store: folder of finished runs.
        kind: of a study, "study" or "shift"; None is a shift report where it was probed.
        plugins: files or modules that the study was trained with.

    Raises:
        BncliError: in one line, if there is no such thing, or it cannot be read.
    """
    place = Path(what)
    if place.suffix == ".json":
        return read_report_file(place)
    from bncli.session.show import analyse_stored, open_stored, read_results, write_command

    if kind not in (None, "study", "shift"):
        raise StoreError(f"--as: must be study or shift, got {kind!r}")
    with using(plugins):
        session, results = read_results(open_stored(Path(store), str(what)))
        found = analyse_stored(session, results, kind)  # type: ignore[arg-type] # one of them, as was just seen
        command = write_command(session, "study" if not hasattr(found, "bands") else "shift")
        study = session.study.model_dump(mode="json")
        return ReportData(session.name, found, study, session.study_runs(results), (), command)


def read_report_file(place: Path) -> ReportData:
    """The report that a JSON document holds, also one of an older schema, or a baseline of learning.

    Raises:
        StoreError: if it cannot be read.
    """
    with reading(place, "write it anew by --json"):
        document = read_json(place, BASELINE_BYTES, follow=True)
        if "digest" in document and not is_intact(document):
            raise ValueError("it is not what was written")
    bare = {key: value for key, value in document.items() if key != "digest"}
    try:
        whole = migrate_findings(bare)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{place}: not a whole document ({type(error).__name__}: {error})") from None
    return read_document(str(place), whole)
