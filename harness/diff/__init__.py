"""What differs between two images: ``bootproof diff``.

value     a difference as frozen values
tree      every file of a squashfs, in one pass
facts     what is known of one side
sections  what differs between two sides, and how much it matters; files has those of the root filesystems
tell      the difference as text and as HTML
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.text import escaped
from harness.diff.contents import Image, gather, look
from harness.diff.sections import compare_facts
from harness.diff.text import as_html, as_text
from harness.diff.value import Change, Diff, DiffEntry, Named, Section, Weight
from harness.model.artifacts import Artifacts
from harness.model.verdict import Verdict

__all__ = ["Change", "Diff", "DiffEntry", "Section", "Side", "Weight", "as_html", "as_text", "compare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """An image, and a verdict with runtime profile and boots where there is one for these bytes."""

    artifacts: Artifacts
    verdict: Verdict | None = None


_ALIKE = Image(files={}, owners={}, users={}, groups={}, config={})
"""Stands for both of two root filesystems with the same bytes, so that neither is read."""


def compare(old: Side, new: Side) -> Diff:
    """What differs, and what cannot be told. It takes 5 s for each root filesystem of 500 MB, and no room."""
    one, other = (side.artifacts.manifest.files[side.artifacts.manifest.rootfs].sha256 for side in (old, new))
    images = [_ALIKE if one == other else look(side.artifacts) for side in (old, new)]
    facts = [gather(side.artifacts, side.verdict, image) for side, image in zip((old, new), images, strict=True)]
    return Diff(old=_named(old.artifacts), new=_named(new.artifacts), sections=compare_facts(*facts))


def _named(artifacts: Artifacts) -> Named:
    manifest = artifacts.manifest
    return Named(image=escaped(manifest.image), version=escaped(manifest.version), digest=artifacts.digest)
