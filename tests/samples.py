"""Invented runs, to test reports with: consoles and units in a folder, and a verdict about them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from harness.core import serialization
from harness.core.errors import Blame
from harness.model.artifacts import FILES, MANIFEST, Artifacts, Manifest, describe, load_artifacts
from harness.model.critical_path import PathStep
from harness.model.layout import CRITICAL_PATH, NETWORK_LOG, SCREENSHOT, UNITS
from harness.model.verdict import (
    BootResult,
    Cost,
    Coverage,
    Finding,
    Outcome,
    Rate,
    RuntimeProfile,
    Unit,
    UnitWait,
    Verdict,
)
from harness.runs.history import Series

ARTIFACTS = "c650002e0a7676168963c6130fffb89d984df53772f14fead895342f85f09e56"
EVIDENCE = (
    "evm: overlay not supported",
    "persist: FAILED: /data/etc/machine-id cannot be made: No space left on device",
)
GUILTY_LINE = 42
PATHS = ("direct", "ipxe-bios")
_UNITS = {
    "-.mount": (-20.1, -20.1), "dev-hugepages.mount": (0.4, 0.7), "systemd-journald.service": (0.5, 2.1),
    "systemd-udev-trigger.service": (0.6, 3.4), "systemd-tmpfiles-setup.service": (3.5, 4.8), "data.mount": (2.2, 2.9),
    "systemd-networkd.service": (4.9, 7.3), "dbus.service": (7.1, 8.0), "dbus.socket": (6.9, 6.92),
    "openvswitch-switch.service": (7.5, 14.9), "ovsdb-server.service": (7.6, 12.2),
    "ovs-vswitchd.service": (12.3, 14.8),
    "libvirtd.service": (15.1, 24.6), "libvirtd.socket": (7.0, 7.2), "ssh.service": (15.0, 16.3),
    "nova-compute.service": (15.2, 33.9), "systemd-logind.service": (8.1, 9.0), "getty@ttyS0.service": (15.3, 15.5),
    "chrony.service": (9.2, 10.1), "iscsid.service": (9.3, 9.9), "multipathd.service": (3.0, 5.7),
}  # fmt: skip


def units(stretch: float = 1.0) -> dict[str, Unit]:
    return {
        name: Unit(
            state="failed" if name == "iscsid.service" else "active",
            begins_s=round(begins * stretch, 2),
            ready_s=round(ready * stretch, 2),
        )
        for name, (begins, ready) in _UNITS.items()
    }


def critical_path() -> tuple[PathStep, ...]:
    """The end of a critical path, with a unit that waits for another without need."""
    return (
        PathStep(unit="openvswitch-switch.service", begins_s=7.5, ready_s=14.9, idle_s=5.5),
        PathStep(unit="libvirtd.service", begins_s=15.1, ready_s=24.6, earlier_s=6.9, is_pulled_in=False, idle_s=0.2),
        PathStep(unit="multi-user.target", begins_s=24.7, ready_s=24.7, earlier_s=8.3),
    )


def console(count: int = 400, *, is_guilty: bool = True) -> Iterator[str]:
    """``count`` lines as a console keeps them; if it ``is_guilty``, those of `EVIDENCE` end at `GUILTY_LINE`."""
    for number in range(1, count + 1):
        text = f"[{number * 0.093:12.6f}] device {number * 7919 % 104729:06x}: probed in {number * 31 % 977} us"
        if is_guilty and 0 <= GUILTY_LINE - number < len(EVIDENCE):
            text = EVIDENCE[len(EVIDENCE) - 1 - (GUILTY_LINE - number)]
        yield f"[{number * 0.1:8.2f}] {text}"


NETWORK = (
    "[    2.31] DHCP DISCOVER", "[    2.31] DHCP OFFER 10.77.0.13", "[    2.33] DHCP REQUEST 10.77.0.13",
    "[    2.33] DHCP ACK 10.77.0.13", "[    2.41] GET /c650002e0a76/vmlinuz …",
    "[    2.94] GET /c650002e0a76/vmlinuz 200 11.7 MB in 0.5 s", "[   41.16] GET /c650002e0a76/rootfs.squashfs …",
    "[   41.17] GET /c650002e0a76/rootfs.squashfs 404 96 B in 0.0 s",
)  # fmt: skip


def picture(width: int = 720, height: int = 400) -> bytes:
    """A display as PNG: black, with a grey bar where a line of text would be."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    rows = (b"\0" + (b"\xaa" if row // 8 == 3 else b"\0") * width for row in range(height))
    head = struct.pack("!IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def boot(
    folder: Path, number: int, path: str, *, stretch: float = 1.0, lines: int = 400, is_ready: bool = True
) -> BootResult:
    """One boot whose logs lie in ``folder``."""
    place = folder / f"web-{number}" / "boot-1"
    place.mkdir(parents=True)
    (place / "console.log").write_text("\n".join(console(lines, is_guilty=not is_ready)) + "\n", "utf-8")
    (place / NETWORK_LOG).write_text("".join(f"{line}\n" for line in NETWORK[: None if not is_ready else 6]), "utf-8")
    (folder / "capture.pcap").touch()
    if not is_ready:
        (place / SCREENSHOT).write_bytes(picture())
    phases = {"firmware": 0.2, "ipxe": 4.2, "kernel": 5.1, "initrd": 31.4} | ({"userspace": 40.2} if is_ready else {})
    if path == "direct":
        del phases["ipxe"]
    phases = {phase: round(seconds * stretch, 2) for phase, seconds in phases.items()}
    if is_ready:
        serialization.write(place / UNITS, units(stretch))
        serialization.write(place / CRITICAL_PATH, critical_path())
    return BootResult(
        machine=f"web-{number}", number=1, boot_path=path, artifacts=ARTIFACTS, phases=phases,
        ready_s=round(sum(phases.values()), 2) if is_ready else None,
        console=str(place / "console.log"), added_arguments=(),
        idle_s=6.4 if is_ready else None, waits=(UnitWait(unit="openvswitch-switch.service", idle_s=5.5),) * is_ready,
        captures=tuple(str(folder / f"capture.pcap{which}") for which in ("", ".before")),
    )  # fmt: skip


def finding(machine: BootResult) -> Finding:
    return Finding(
        id="persist-failed",
        what="the persistent disk could not be taken into use",
        where=f"{machine.machine}, boot {machine.number} ({machine.boot_path})",
        evidence=EVIDENCE,
        cause="as the message says; no service was started, and the disk was left as it was",
    )


def verdict(
    boots: tuple[BootResult, ...],
    findings: tuple[Finding, ...] = (),
    *,
    outcome: Outcome = Outcome.FAILED,
    version: str = "2026.11",
) -> Verdict:
    return Verdict(
        outcome=outcome,
        image="nova-kvm",
        version=version,
        digests={"artifacts": ARTIFACTS, "definition": "7be4d3ac" * 8, "suite": "9f9085a1" * 8},
        findings=findings,
        coverage=Coverage(
            boot_paths=PATHS,
            passed=("image", "services", "sockets", "links", "ssh", "boot:direct", "openvswitch"),
            failed=("survival",),
            missing=("identity", "boot:ipxe-bios"),
            unchecked=("whether machines are kept apart: this host can open no lab, they ran on QEMU's user network",),
            power_cuts=2000,
        ),
        boots=boots,
        host={"accelerator": "tcg", "cpu": "AMD EPYC 7B13", "cores": "2", "qemu": "7.2.22", "kernel": "6.1.0-44-amd64"},
        started="2026-11-21T09:15:03+00:00",
        elapsed_s=653.2,
        cost=Cost(prepared_s=2, boots=10, boots_s=965, clones=7, clones_s=23, cores_busy=0.95, longest_s={}),
        runtime_profile=RuntimeProfile(
            memory_mib=312, sockets=("tcp 0.0.0.0:22 sshd", "udp 127.0.0.1:323 chronyd"),
            users={"root": 0}, groups={"root": 0}, links={}, units=units(),
        ),
        rates=(Rate(check="services", passed=19, repeats=20, low=0.75, high=0.99),),
    )  # fmt: skip


def run(folder: Path, machines: int = 8, lines: int = 400) -> Verdict:
    """``machines`` that booted, one in seven of which did not become ready and left a finding."""
    boots = tuple(
        boot(folder, number, PATHS[number % 2], stretch=1 + number % 9 / 20, lines=lines,
             is_ready=number % 7 != 3)
        for number in range(machines)
    )  # fmt: skip
    bad = Finding(
        id="test-failed", what="assert '<script>' in \x1b[31mout\x1b[0m", where="tests/image/test_links.py::test_it[a]",
        evidence=("E   assert 1 == 2",), blame=Blame.HARNESS, cause="an unknown exception of the harness",
    )  # fmt: skip
    return verdict(boots, (*(finding(one) for one in boots if one.ready_s is None), bad))


def promoted(folder: Path) -> Verdict:
    """The verdict about the published build: a little quicker."""
    boots = tuple(boot(folder / "promoted", number, PATHS[number % 2], stretch=0.9) for number in (0, 1))
    return verdict(boots, outcome=Outcome.PASSED, version="2026.10")


TRENDS = tuple(
    Series(name=name, unit=unit, points=tuple((f"2026.{n:02}", first + n * 13 % 7 * step) for n in range(1, 12)))
    for name, unit, first, step in (
        ("boot time", "s", 78.0, 1.7), ("root file system", "MiB", 441.0, 3.0), ("memory at idle", "MiB", 290.0, 4.4),
        ("packages", "", 512.0, 2.0), ("repeats passed", "%", 94.0, 1.0),
    )
)  # fmt: skip


def artifacts(folder: Path, version: str, *, lines: int = 50_000, **more: object) -> Artifacts:
    """Artifacts in a new folder, whose files have so many ``lines``; ``more`` are other fields of the manifest."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"{name} of {version}\n" * lines)
    known = {
        "image": "base", "version": version, "kernel_version": "6.12.57", "kernel_arguments": ("quiet",),
        "files": {name: describe(folder / name) for name in FILES}, "packages": {}, "dracut_modules": (),
        "initrd_drivers": (), "definition": "", "sources": {}, "builder": {},
    }  # fmt: skip
    serialization.write(folder / MANIFEST, Manifest(**{**known, **more}))  # type: ignore[arg-type]  # values as the fields want them
    return load_artifacts(folder)
