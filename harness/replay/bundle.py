"""Bundles: everything needed to reproduce a failure on another host, in one file.

A bundle is a tar compressed by zstd(1): ``bundle.json`` first, then files without folders, whose SHA-256 are in
``bundle.json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness.core.serialization import Format
from harness.machine.boot_plan import BootRecord
from harness.model import upgrades
from harness.model.artifacts import Manifest
from harness.model.definition import ImageDefinition
from harness.model.verdict import Finding

INDEX = "bundle.json"
UNFINISHED = "boot-unfinished"
"""The finding about a boot that had not ended when its run was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The finding to reproduce.

    ``test`` is the test that failed in the machine, run with ``seed``; empty if the boot itself failed. ``tests`` are
    further tests that failed in the same machine. ``seen`` of the ``tries`` that its run had made by then failed in
    this way.
    """

    finding: Finding
    test: str = ""
    seed: int = 1
    seen: int = 1
    tries: int = 1
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The index of a bundle.

    ``before`` is the manifest of the running artifacts if an upgrade by kexec failed. ``files`` maps the name of each
    file in the bundle to its SHA-256.
    """

    FORMAT: ClassVar[Format] = Format(kind="a bundle", number=3, upgrades={1: upgrades.bundle_2, 2: dict})

    format: int = 3
    made_by: str
    architecture: str
    failure: Failure
    plan: BootRecord
    manifest: Manifest
    definition: ImageDefinition
    before: Manifest | None = None
    files: dict[str, str] = field(default_factory=dict)
