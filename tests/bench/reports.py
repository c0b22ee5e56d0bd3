"""The report on 100 machines with 50 MB of logs: seconds to write it, to show it and to search it."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness import report

from .. import samples
from ..browser import Page, open_browser
from .start import seconds
from .table import Figure, Limit

_MACHINES = 100
_LOGS_BYTES = 50_000_000
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_SEARCH = """(() => {
    const query = document.getElementById("query");
    query.value = "no such line in any log";
    query.dispatchEvent(new Event("input"));
})()"""


def measure(*, quick: bool) -> list[Figure]:
    """Each sample of the first paint starts a new browser."""
    line_bytes = len("\n".join(samples.console(1000))) / 1000
    with TemporaryDirectory() as name:
        folder = Path(name)
        verdict = samples.run(folder, _MACHINES, int(_LOGS_BYTES / _MACHINES / line_bytes))
        promoted = samples.promoted(folder)
        written_s = seconds(lambda: report.write_page(verdict, folder, promoted=promoted, trends=samples.TRENDS))
        page = folder / report.PAGE
        print(f"  {page.stat().st_size / 1e6:.1f} MB", file=sys.stderr, flush=True)
        taken = [_look(page) for _ in range(2 if quick else 7)]
    painted_s, searched_s = ([sample[place] for sample in taken] for place in (0, 1))
    return [
        Figure(row="report", what="report for 100 machines, 50 MB of logs: written", value=written_s, unit="s"),
        Figure(row="report", what="its first paint", value=median(painted_s), unit="s",
               limit=Limit(most=1.0, unit="s"), samples={"first paint": painted_s}),
        Figure(row="report", what="all its logs searched", value=median(searched_s), unit="s",
               samples={"searched": searched_s}),
    ]  # fmt: skip


def _look(path: Path) -> tuple[float, float]:
    """Seconds until the first contentful paint, and of a search in all logs that finds nothing."""
    with open_browser() as page:
        page.open(path.as_uri())
        painted_s = page.wait_for(_PAINTED) / 1000
        page.wait_for("document.readyState === 'complete'")
        return painted_s, seconds(lambda: _search(page))


def _search(page: Page) -> None:
    page.evaluate(_SEARCH)
    page.wait_for("document.getElementById('found').textContent === '0 lines'")
