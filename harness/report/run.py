"""What a run hands out beside its verdict."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from harness.core import serialization
from harness.core.errors import BootproofError
from harness.diff import Side, as_html, compare
from harness.model.verdict import Verdict
from harness.report.forges import gitlab_report
from harness.report.page import write_page
from harness.report.summary import markdown
from harness.runs import history
from harness.store.store import Store

SUMMARY, CODE_QUALITY = "summary.md", "codequality.json"


def write_all(verdict: Verdict, folder: Path, store: Store, promoted: Side | None = None) -> Path:
    """The page, a summary and what GitLab reads, in ``folder``; beside ``promoted``, what is carried now.

    What the store does not know any more is left out. Raises `HostError` if the folder cannot be written.
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
        diff_html=_diff(verdict, store, promoted) if promoted else "",
        trends=trends,
    )


def _diff(verdict: Verdict, store: Store, promoted: Side) -> str:
    """To what is carried now; empty if that is the same, or the bytes are not at hand."""
    digest = verdict.digests.get("artifacts", "")
    if digest in ("", promoted.artifacts.digest):
        return ""
    with suppress(BootproofError):
        return as_html(compare(promoted, Side(artifacts=store.artifacts(digest), verdict=verdict)), level=3)
    return ""
