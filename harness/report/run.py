"""The files that a run writes besides its verdict."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from harness.core import serialization
from harness.core.errors import BootproofError
from harness.diff import Diff, Side, compare
from harness.model.verdict import Verdict
from harness.report.forges import gitlab_report
from harness.report.page import write_page
from harness.report.summary import markdown
from harness.runs import history
from harness.store.store import Store

SUMMARY, CODE_QUALITY = "summary.md", "codequality.json"


def write_all(verdict: Verdict, folder: Path, store: Store, promoted: Side | None = None) -> Path:
    """Write the page, a summary and GitLab's code quality report to ``folder``.

    The page compares with ``promoted``, what the stream has now. Figures that the store no longer has are left out.
    `HostError` if the folder cannot be written.
    """
    trends: tuple[history.Series, ...] = ()
    with suppress(BootproofError):
        trends = history.series(history.versions(store, verdict.image))
    serialization.write_text(folder / SUMMARY, markdown(verdict, folder))
    serialization.write_text(folder / CODE_QUALITY, gitlab_report(verdict))
    return write_page(
        verdict,
        folder,
        promoted=promoted.verdict if promoted else None,
        diff=_diff(verdict, store, promoted) if promoted else None,
        trends=trends,
    )


def _diff(verdict: Verdict, store: Store, promoted: Side) -> Diff | None:
    """The difference to what the stream has now; None if there is none, or the store no longer has these artifacts."""
    digest = verdict.digests.get("artifacts", "")
    if digest in ("", promoted.artifacts.digest):
        return None
    with suppress(BootproofError):
        return compare(promoted, Side(artifacts=store.artifacts(digest), verdict=verdict))
    return None
