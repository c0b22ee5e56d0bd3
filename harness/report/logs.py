"""Console logs, packed into the page: which lines are marked, and the anchors to link to them."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.text import clean
from harness.model.verdict import BootResult, Finding
from harness.report.evidence import read_beside

_SINCE_START = re.compile(r"^\[ *\d+\.\d\d\] ")
"""The time that the console log has before each line."""
_LEVEL = 6
"""gzip's level: 50 MB take 1 s; level 9 takes five times as long for 2 % less."""
_STRAY = 4
"""In a log, lines of evidence may be this many times as far apart as in the finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The console of the boot with this ``anchor``. ``guilty`` are the numbers of marked lines, counted from 1;
    ``links`` lead from a finding at this boot to its last marked line; ``packed`` is the text, gzip in base64."""

    anchor: str
    title: str
    lines: int
    guilty: tuple[int, ...]
    links: dict[tuple[Finding, str], str]
    packed: str


def anchors(boots: Iterable[BootResult]) -> dict[int, str]:
    """An anchor for each boot by its index in ``boots``; the same boot has the same anchor on every page."""
    names: dict[int, str] = {}
    for place, boot in enumerate(boots):
        name = f"boot-{re.sub(r'[^a-z0-9]+', '-', boot.machine.lower()).strip('-')}-{boot.number}"
        names[place] = f"{name}_{place}" if name in names.values() else name
    return names


def pack(boot: BootResult, anchor: str, findings: Iterable[Finding], folder: Path) -> Log | None:
    """The log of ``boot`` of the run in ``folder``; None if there is none."""
    text = read_beside(boot, Path(boot.console).name, folder).decode("utf-8", "replace")
    if not text:
        return None
    lines = [clean(line) for line in text.removesuffix("\n").split("\n")]
    texts = [_SINCE_START.sub("", line).strip() for line in lines]
    guilty: set[int] = set()
    links: dict[tuple[Finding, str], str] = {}
    name = boot.name
    for finding in findings:
        if name in (finding.where, *finding.places):
            found = locate(finding.evidence, texts)
            guilty |= set(found)
            links[finding, name] = f"{anchor}-L{found[-1]}" if found else anchor
    return Log(
        anchor=anchor,
        title=name,
        lines=len(lines),
        guilty=tuple(sorted(guilty)),
        links=links,
        packed=base64.b64encode(gzip.compress("\n".join(lines).encode(), _LEVEL, mtime=0)).decode("ascii"),
    )


def locate(evidence: Iterable[str], texts: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the lines in ``evidence``, at the first place where most of them are close together."""
    wanted = {clean(line).strip() for line in evidence} - {""}
    hits = [number for number, line in enumerate(texts) if line in wanted]
    places = (
        [hit for hit in hits[first : first + 2 * len(wanted)] if hit < hits[first] + _STRAY * len(wanted)]
        for first in range(len(hits))
    )
    best = max(places, key=lambda place: (len({texts[hit] for hit in place}), -len(place)), default=[])
    return tuple(hit + 1 for hit in best)
