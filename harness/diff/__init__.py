"""Compares two images: ``bootproof diff``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.text import escaped
from harness.diff.contents import Image, gather, read_image
from harness.diff.references import References, find_references
from harness.diff.sections import ON_HOSTS, compare_facts, names_of
from harness.diff.text import SHOWN, as_text, unknown_sections
from harness.diff.value import Change, Diff, DiffEntry, Named, Section, Weight
from harness.model.artifacts import Artifacts
from harness.model.guest_contract import GuestContract
from harness.model.verdict import Verdict

__all__ = [
    "SHOWN",
    "Change",
    "Diff",
    "DiffEntry",
    "Section",
    "Side",
    "Weight",
    "as_text",
    "compare",
    "on_hosts",
    "unknown_sections",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Artifacts to compare, with the verdict of a run that booted them, if there is one.

    A verdict about these artifacts has their runtime profile. One about others has boots of them, if the run upgraded
    from or to them.
    """

    artifacts: Artifacts
    verdict: Verdict | None = None

    @property
    def guests(self) -> GuestContract | None:
        """What the image offers to guests; None if no verdict about these artifacts says so."""
        verdict = self.verdict
        is_about = verdict and verdict.digests.get("artifacts", self.artifacts.digest) == self.artifacts.digest
        return verdict.guests if verdict and is_about else None


_ALIKE = Image(files={}, users={}, groups={}, config={})
"""In place of both root file systems if their bytes are equal, so that neither is read."""


def compare(old: Side, new: Side, data: Path | None = None) -> Diff:
    """Compare two images. Takes 5 s for each root file system of 500 MB, and no disk space.

    ``data`` is a copy of a host's /data: what its files refer to, and the new image lacks, comes first. `UsageError` if
    it is not a folder.
    """
    one, other = (side.artifacts.manifest.files[side.artifacts.manifest.rootfs].sha256 for side in (old, new))
    images = [_ALIKE if one == other else read_image(side.artifacts) for side in (old, new)]
    before, after = (gather(side.artifacts, side.verdict, it) for side, it in zip((old, new), images, strict=True))
    profile = before.runtime_profile
    references = find_references(data, names_of(profile) if profile else ()) if data else References()
    sections = compare_facts(before, after, references)
    return Diff(old=_named(old.artifacts), new=_named(new.artifacts), sections=sections)


def on_hosts(diff: Diff) -> Diff:
    """``diff`` without the sections about the build: packages, files, sizes, boot times."""
    return replace(diff, sections=tuple(section for section in diff.sections if section.name in ON_HOSTS))


def _named(artifacts: Artifacts) -> Named:
    manifest = artifacts.manifest
    return Named(image=escaped(manifest.image), version=escaped(manifest.version), digest=artifacts.digest)
