"""The gate for learning: a study trained by the code as it is now, held against a baseline."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bncli.cli.session import Session
from bncli.code_hash import fingerprint
from bncli.errors import ConfigError, StoreError
from bncli.findings import Check, Findings
from bncli.limits import Limit, read_limit
from bncli.report.study.json import SCHEMA
from bncli.store.folder import Store


def retrained(session: Session) -> Session:
    """The session with a store of this very code's runs: `STORE`/sources/HASH.

    A run's id says what was asked, not by which code it was answered; a gate must not be answered by the runs of a
    norm as it was before it changed.
    """
    return replace(session, store=Store(session.store.folder / "sources" / fingerprint()))


def limits_of(texts: Sequence[str], session: Session) -> list[Limit]:
    """Read every `--fail-if`.

    Raises:
        ConfigError: if one is not `MEASURE:+10%`, or about a measure that the study does not ask for.
    """
    return [read_limit(text, session.study.measures) for text in texts]


def baseline_of(session: Session, name: str) -> Mapping[str, Any]:
    """The baseline of that name or file.

    Raises:
        UndecidedError: if there is none.
        StoreError: if it is not a document of bncli's findings.
    """
    found = session.store.read_baseline(name)
    if found.get("schema") != SCHEMA:
        place = session.store.baseline(name)
        raise StoreError(f"{place}: expected a document of schema {SCHEMA!r}, got {found.get('schema')!r}")
    return found


def keep(session: Session, name: str, document: Mapping[str, Any]) -> None:
    """Keep the document of a study as a baseline, and say where.

    Raises:
        StoreError: if it cannot be written.
    """
    print(f"baseline {session.store.write_baseline(name, document)}", file=sys.stderr)


def checks_of(
    findings: Findings, now: Mapping[str, Any], before: Mapping[str, Any] | None, limits: Sequence[Limit], *,
    claims: bool, again: bool,
) -> list[Check]:  # fmt: skip
    """What was asked to be checked: claims, the document against a baseline, the reference against itself."""
    from bncli.analysis.regression import regressions
    from bncli.cli.again import same_checks
    from bncli.report.checks import claim_checks

    found = claim_checks(findings) if claims else []
    found += regressions(now, before, limits) if before is not None else []
    return found + (same_checks(findings) if again else [])


def refuse_mixtures(save: str | None, baseline: str | None, fail_if: Sequence[str], aa: bool, check: bool) -> None:
    """Options that mean nothing together.

    Raises:
        ConfigError: naming them.
    """
    if fail_if and not baseline:
        raise ConfigError("--fail-if: says how far a measure may move from a baseline; give --baseline too")
    if aa and (save or baseline or check):
        raise ConfigError("--aa: compares the reference with itself; it goes with no --check and no baseline")


def refuse_no_claims(session: Session) -> None:
    """Raise a ConfigError where there is nothing to check."""
    if not session.study.claims:
        why = f"{session.name} makes no claims about these variants"
        raise ConfigError(f"--check: {why}; write them under `claims:` (docs/studies.md)")
