"""The page: one file without references to others, because it may be opened from an e-mail."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import serialization
from harness.core.text import clean
from harness.diff import SHOWN, Diff, unknown_sections
from harness.model.finding_catalog import next_step
from harness.model.verdict import Verdict
from harness.report import evidence, findings, matrix, waterfall, words
from harness.report.logs import anchors, pack
from harness.report.terminal import bundles
from harness.report.trends import draw
from harness.runs.folder import unwritable
from harness.runs.history import Series

if TYPE_CHECKING:
    from jinja2 import Template

PAGE = "report.html"
_HERE = Path(__file__).parent


def write_page(
    verdict: Verdict,
    folder: Path,
    *,
    promoted: Verdict | None = None,
    diff: Diff | None = None,
    trends: Sequence[Series] = (),
) -> Path:
    """Write ``report.html`` of the run in ``folder``, all of it or nothing; `HostError` if it cannot be written.

    ``promoted`` is the verdict on what the stream has now, ``diff`` the difference of the artifacts to it.
    """
    page = template("report.html.j2").render(_context(verdict, folder, promoted, diff, trends))
    path = folder / PAGE
    try:
        serialization.write_text(path, page)
    except OSError as error:
        raise unwritable(folder, error) from error
    return path


def _context(
    verdict: Verdict, folder: Path, promoted: Verdict | None, diff: Diff | None, trends: Sequence[Series]
) -> dict[str, Any]:
    from markupsafe import Markup

    style, script = ((_HERE / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    names = anchors(verdict.boots)
    packed = (pack(boot, names[place], verdict.findings, folder) for place, boot in enumerate(verdict.boots))
    logs = [log for log in packed if log]
    beside = {names[place]: evidence.gather(boot, folder) for place, boot in enumerate(verdict.boots)}
    links = {place: link for log in logs for place, link in log.links.items()}
    return {
        "verdict": verdict,
        "name": words.name(verdict),
        "parts": words.parts(verdict),
        "promoted": promoted,
        "why": words.why(verdict),
        "facts": words.facts(verdict),
        "guests": words.guests(verdict),
        "observed": findings.by_blame(verdict.findings, links),
        "next_step": next_step,
        "dependents": words.dependents,
        "bundles": [str(file.relative_to(folder)) for file in bundles(folder)],
        "matrix": matrix.lay_out(verdict),
        "waterfall": waterfall.lay_out(verdict, promoted, names, folder),
        "phases": waterfall.PHASES,
        "curves": [draw(trend) for trend in trends if trend.points],
        "diff": diff,
        "shown": SHOWN,
        "unknown": unknown_sections(diff) if diff else [],
        "logs": logs,
        "beside": beside,
        "displays": {boot.name: beside[names[place]].screenshot for place, boot in enumerate(verdict.boots)},
        "logged": {log.anchor for log in logs},
        "style": Markup(style),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    }


def template(name: str) -> Template:
    """The template ``name`` of this package; text in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # takes 0.1 s, which `--help` must not

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _finalize(value: Any) -> Any:
    """Replace control characters in text that is not the template's own."""
    return clean(value) if type(value) is str else value
