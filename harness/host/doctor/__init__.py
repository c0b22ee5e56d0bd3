"""Checks of this host: what works, what is missing, and the command that fixes it. Quick; needs no network."""

from __future__ import annotations

from collections.abc import Iterable

from harness.host.doctor.boots import for_boots
from harness.host.doctor.builds import for_builds
from harness.host.doctor.check import INSTALL, CheckState, HostCheck
from harness.host.doctor.places import places
from harness.host.doctor.programs import programs
from harness.host.doctor.resources import resources

__all__ = ["CheckState", "HostCheck", "examine", "remedies"]


def examine() -> list[HostCheck]:
    """Run every check. Features are tried, not assumed; the lab is opened for real. Nothing is left behind."""
    return [*programs(), *for_boots(), *for_builds(), *places(), *resources()]


def remedies(checks: Iterable[HostCheck]) -> list[str]:
    """The commands to run, each once; all packages are in one command."""
    lines = list(dict.fromkeys(check.remedy for check in checks if check.remedy))
    packages = [line.removeprefix(INSTALL) for line in lines if line.startswith(INSTALL)]
    others = [line for line in lines if not line.startswith(INSTALL)]
    return [INSTALL + " ".join(packages), *others] if packages else others
