"""For each way in which a boot can fail by itself: planted around the good image, and named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness import record
from harness.artifacts import INITRD, ROOTFS, Artifacts, describe, load_artifacts
from harness.machine import BootFailed, Machine
from harness.spec import BootPath, MachineSpec

Booting = Callable[..., AbstractContextManager[Machine]]
Spoil = Callable[[bytearray], None]


def _cut(content: bytearray) -> None:
    del content[len(content) // 2 :]


def _zero_the_middle(content: bytearray) -> None:
    """All but the first and the last part, where a squashfs has its superblock and its tables."""
    first, last = len(content) // 100, len(content) * 3 // 4
    content[first:last] = bytes(last - first)


def _zero(content: bytearray) -> None:
    content[:] = bytes(1 << 20)


def _says(line: str) -> dict[str, str]:
    """A unit that lets the kernel print ``line``, as if it had come upon that itself."""
    return _runs(f"echo '<2>{line}' >/dev/kmsg")


def _runs(command: str) -> dict[str, str]:
    unit = f'[Service]\nType=oneshot\nExecStart=/bin/sh -c "{command}"\n'
    return {
        "systemd.extra-unit.planted.service": unit,
        "systemd.unit-dropin.ssh.service~planted": "[Unit]\nWants=planted.service\nAfter=planted.service\n",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    found: str
    arguments: tuple[str, ...] = ()
    files: dict[str, Spoil] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)
    path: BootPath = BootPath.DIRECT


PLANTED = {
    "an initrd that is cut off": Planted(found="initrd-corrupt", files={INITRD: _cut}),
    "a root file system with holes": Planted(found="rootfs-corrupt", files={ROOTFS: _zero_the_middle}),
    # dracut 106 lays its overlay over nothing and goes on; the role persist sees what is missing
    "a root file system that is none": Planted(found="persist-failed", files={ROOTFS: _zero}, path=BootPath.IPXE_BIOS),
    "a root that is nowhere": Planted(found="initrd-timeout", arguments=("root=live:LABEL=nowhere", "rd.retry=6")),
    "a root of no kind": Planted(found="rootfs-not-found", arguments=("root=frob:nicate",)),
    "emergency.target": Planted(found="emergency-mode", arguments=("systemd.unit=emergency.target",)),
    "a demanded unit that is masked": Planted(found="unit-not-ready", arguments=("systemd.mask=ssh.service",)),
    "a demanded unit that fails": Planted(
        found="unit-failed",
        credentials={"systemd.unit-dropin.ssh.service~planted": "[Service]\nExecStartPre=false\nRestart=no\n"},
    ),
    "a unit that needs a device that is not there": Planted(
        found="unit-dependency-failed",
        credentials={
            "systemd.unit-dropin.ssh.service~planted": "[Unit]\nRequires=dev-nowhere.device\n"
            "After=dev-nowhere.device\n",
            "systemd.unit-dropin.dev-nowhere.device": "[Unit]\nJobRunningTimeoutSec=3\n",
        },
    ),
    "units in a circle": Planted(
        found="ordering-cycle",
        credentials={
            "systemd.unit-dropin.ssh.service~planted": "[Unit]\nRequires=systemd-resolved.service\n"
            "After=systemd-resolved.service\n",
            "systemd.unit-dropin.systemd-resolved.service~planted": "[Unit]\nRequires=ssh.service\nAfter=ssh.service\n",
        },
    ),
    "a kernel that warns": Planted(
        found="kernel-warning", credentials=_says("WARNING: CPU: 0 PID: 1 at fs/inode.c:330 drop_nlink+0x2f/0x40")
    ),
    "a file system that fails": Planted(
        found="disk-error", credentials=_says("EXT4-fs error (device sda2): ext4_lookup:1855: inode #12: comm sh")
    ),
    "a foreign module": Planted(found="kernel-tainted", credentials=_runs("echo 4096 >/proc/sys/kernel/tainted")),
    "no memory left": Planted(
        found="out-of-memory", credentials=_says("Out of memory: Killed process 711 (nova-compute)")
    ),
}


def _spoilt(artifacts: Artifacts, planted: Planted, folder: Path) -> Artifacts:
    folder.mkdir()
    files = dict(artifacts.manifest.files)
    for name in files:
        if name in planted.files:
            content = bytearray((artifacts.folder / name).read_bytes())
            planted.files[name](content)
            (folder / name).write_bytes(content)
            files[name] = describe(folder / name)
        else:
            (folder / name).symlink_to(artifacts.folder / name)
    arguments = (*artifacts.manifest.kernel_arguments, *planted.arguments)
    record.write(folder / "manifest.json", replace(artifacts.manifest, files=files, kernel_arguments=arguments))
    return load_artifacts(folder)


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_named(
    name: str, booting: Booting, spec: MachineSpec, artifacts: Artifacts, tmp_path: Path
) -> None:
    planted = PLANTED[name]
    spoilt = _spoilt(artifacts, planted, tmp_path / "spoilt")
    machine = replace(spec, boot_path=planted.path, credentials=planted.credentials)

    with pytest.raises(BootFailed) as failure, booting(machine, artifacts=spoilt):
        pass

    print(failure.value)
    assert failure.value.finding.id == planted.found
