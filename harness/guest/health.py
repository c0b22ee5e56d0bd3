"""The health of a ready guest, read in one round trip, and the findings that follow from it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.guest import fingerprint
from harness.guest.channel import Channel
from harness.guest.fingerprint import Fingerprint
from harness.guest.probes import Probe, ask, read
from harness.guest.runtime_profile import MEMORY, used_mib
from harness.guest.serial_shell import SHELL_UNIT
from harness.guest.unit_findings import about_unit, failed_units
from harness.guest.unit_states import (
    BEGIN,
    OTHER_UNITS,
    SERVICES,
    UnitStart,
    begin_of_user_space,
    read_failed,
    read_restarted,
    read_started,
    read_starts,
)
from harness.guest.unit_survey import UnitSurvey
from harness.model.artifacts import Manifest
from harness.model.verdict import Finding, Unit

_UPTIME = Probe("uptime", "cat /proc/uptime")
_KERNEL = Probe("kernel", "uname -r")
_RELEASE = Probe("os-release", "cat /etc/os-release")
_BOOT_ID = Probe("boot id", "cat /proc/sys/kernel/random/boot_id")
_TAINTED = Probe("taints", "cat /proc/sys/kernel/tainted")
_RESTARTED_BY_DESIGN = (SHELL_UNIT, "systemd-journald.service")
"""The journald of the initrd hands over to that of the real root, which systemd counts as a restart."""

_SOFT_LOCKUP = 1 << 14
"""The host starved the machine for a while, and the machine recovered."""

_TAINTS = {
    0: "proprietary module", 1: "module forced", 2: "out of specification", 4: "machine check", 5: "bad page",
    7: "died (oops)", 9: "warning", 11: "firmware workaround", 12: "out-of-tree module", 13: "unsigned module",
    14: "soft lockup", 15: "live patched",
}  # fmt: skip
"""Bits of /proc/sys/kernel/tainted: Linux's Documentation/admin-guide/tainted-kernels.rst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHealth:
    """The answer of one round trip into a ready guest. ``restarted_units`` have the form "ssh.service 2";
    ``started_units`` and the memory in use are for the report.

    ``uptime_s`` is how long its kernel had run when it was asked, ``user_space_s`` when systemd left the initrd;
    ``starts`` are all units that it started since then, and those that it took from there.
    """

    kernel: str
    image: str
    version: str
    boot_id: str
    tainted: int
    prints: Fingerprint
    failed_units: tuple[str, ...]
    restarted_units: tuple[str, ...]
    started_units: dict[str, Unit] = field(default_factory=dict)
    memory_mib: int = 0
    uptime_s: float = 0.0
    user_space_s: float = 0.0
    starts: tuple[UnitStart, ...] = ()


def inspect_guest(channel: Channel) -> GuestHealth:
    """Ask the guest, in one round trip, which image it runs and what has failed in it.

    `ImageError` if a command fails, or prints nothing or something else than expected.
    """
    probes = (_UPTIME, _KERNEL, _RELEASE, _BOOT_ID, _TAINTED, MEMORY, BEGIN, SERVICES, OTHER_UNITS, *fingerprint.PROBES)
    answers = ask(channel, probes)
    release = read(answers, _RELEASE, _release)
    return GuestHealth(
        kernel=answers[_KERNEL.name],
        image=release.get("IMAGE_ID", ""),
        version=release.get("IMAGE_VERSION", ""),
        boot_id=answers[_BOOT_ID.name],
        tainted=read(answers, _TAINTED, int),
        prints=fingerprint.parse(answers),
        failed_units=read_failed(answers),
        restarted_units=read_restarted(answers),
        started_units=read_started(answers),
        memory_mib=read(answers, MEMORY, used_mib),
        uptime_s=read(answers, _UPTIME, lambda text: float(text.split()[0])),
        user_space_s=begin_of_user_space(answers),
        starts=read_starts(answers),
    )


def _release(text: str) -> dict[str, str]:
    """os-release(5): assignments as in a shell. Other builders may set no IMAGE_ID and IMAGE_VERSION."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {key: "".join(shlex.split(value)) for key, value in (line.split("=", 1) for line in lines)}


def suspects(health: GuestHealth) -> tuple[str, ...]:
    """The units that failed or were restarted and may not: also those that may wait for a control plane."""
    restarted = (row.partition(" ")[0] for row in health.restarted_units)
    return tuple(unit for unit in (*health.failed_units, *restarted) if unit not in _RESTARTED_BY_DESIGN)


def judge_health(
    health: GuestHealth, manifest: Manifest, where: str, survey: UnitSurvey | None = None
) -> Iterator[Finding]:
    """The findings about a guest that should run the artifacts of ``manifest``: pure.

    The ``survey`` is of its `suspects`. Units that fail because of another unit are named in that unit's finding.
    """
    running = (health.image, health.version, health.kernel)
    image = manifest.image if manifest.is_ours else health.image
    expected = (image, manifest.version or health.version, manifest.kernel_version)
    if running != expected:
        yield Finding(
            id="wrong-image",
            what=f"{' '.join(running)} is running, {' '.join(expected)} was to boot",
            where=where,
            cause="an old local copy started, or kernel, initrd and root file system are of different builds",
        )
    explained = list(failed_units(survey, where)) if survey else []
    yield from explained
    for unit in health.failed_units if not explained else ():
        yield Finding(id="unit-failed", what=f"{unit} failed", where=where, cause="see its journal in the run's folder")
    for row in health.restarted_units:
        unit, _, count = row.partition(" ")
        if unit not in _RESTARTED_BY_DESIGN:
            finding = Finding(
                id="unit-flapping",
                what=f"{unit} was restarted {count} times before the machine was ready",
                where=where,
                cause="the unit fails at start and systemd starts it again; see its journal",
            )
            yield about_unit(finding, unit, survey) if survey else finding
    tainted = health.tainted & ~_SOFT_LOCKUP
    if tainted:
        yield Finding(
            id="kernel-tainted",
            what=f"the kernel is tainted ({tainted}: {', '.join(taints(tainted))})",
            where=where,
            cause="see the kernel's log for the first warning or foreign module",
        )


def taints(value: int) -> list[str]:
    """The name of each bit that is set in ``value``, of /proc/sys/kernel/tainted."""
    return [_TAINTS.get(bit, f"bit {bit}") for bit in range(value.bit_length()) if value >> bit & 1]
