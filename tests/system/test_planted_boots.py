"""Each way in which a boot can fail, planted in the good image: the finding names it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from harness.core import process, serialization
from harness.core.errors import Blame
from harness.fixtures.disk import make_disk
from harness.lab import Lab
from harness.machine import boot
from harness.machine import machine as machine_module
from harness.machine.machine import BootFailed, Machine
from harness.model.artifacts import INITRD, KERNEL, ROOTFS, Artifacts, describe, load_artifacts
from harness.model.machine_spec import Accelerator, BootPath, DiskSpec, MachineSpec
from harness.model.network_faults import known
from harness.qemu import command_line, grub
from harness.runs.folder import Run

Booting = Callable[..., AbstractContextManager[Machine]]
Spoil = Callable[[bytearray], None]


def _cut(content: bytearray) -> None:
    del content[len(content) // 2 :]


def _zero_the_middle(content: bytearray) -> None:
    """Zero all but the first and last part, in which a squashfs has its superblock and its tables."""
    first, last = len(content) // 100, len(content) * 3 // 4
    content[first:last] = bytes(last - first)


def _zero(content: bytearray) -> None:
    content[:] = bytes(1 << 20)


def _empty(content: bytearray) -> None:
    """Replace it by an empty squashfs."""
    with TemporaryDirectory() as folder:
        tree, image = Path(folder) / "tree", Path(folder) / "image"
        tree.mkdir()
        process.output([process.require("mksquashfs", "squashfs-tools"), str(tree), str(image), "-quiet"])
        content[:] = image.read_bytes()


def _drop_in(unit: str, lines: str) -> dict[str, str]:
    return {f"systemd.unit-dropin.{unit}~planted": lines}


def _says(*lines: str) -> dict[str, str]:
    """Credentials for a unit that writes ``lines`` to the kernel log."""
    return _runs("; ".join(f"echo '<2>{line}' >/dev/kmsg" for line in lines))


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
    is_emulated: bool = False


PLANTED = {
    "a kernel that is none": Planted(found="ipxe-script-failed", files={KERNEL: _zero}, path=BootPath.IPXE_BIOS),
    "an initrd that is cut off": Planted(found="initrd-corrupt", files={INITRD: _cut}),
    "a root file system with holes": Planted(found="rootfs-corrupt", files={ROOTFS: _zero_the_middle}),
    # dracut 106 mounts its overlay without a lower layer and continues; the role persist reports what is missing
    "a root file system that is none": Planted(found="persist-failed", files={ROOTFS: _zero}, path=BootPath.IPXE_BIOS),
    "a root that is nowhere": Planted(found="initrd-timeout", arguments=("root=live:LABEL=nowhere", "rd.retry=6")),
    "a root file system without a system": Planted(
        found="rootfs-not-found", files={ROOTFS: _empty}, path=BootPath.IPXE_BIOS
    ),
    "a root that is a blank disk": Planted(found="initrd-gave-up", arguments=("root=live:/dev/sda",)),
    "a root that has no name": Planted(found="systemd-froze", arguments=("root=",)),
    "a root of no kind": Planted(found="rootfs-not-found", arguments=("root=frob:nicate",)),
    "emergency.target": Planted(found="emergency-mode", arguments=("systemd.unit=emergency.target",)),
    "a demanded unit that is masked": Planted(found="unit-not-ready", arguments=("systemd.mask=ssh.service",)),
    "a demanded unit that fails": Planted(
        found="unit-failed",
        credentials=_drop_in("ssh.service", "[Service]\nExecStartPre=false\nRestart=no\n"),
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
    "a kernel that hung for a while, and then a unit that does not come": Planted(
        found="kernel-lockup",
        arguments=("systemd.mask=ssh.service",),
        credentials={
            **_says("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:1]"),
            "systemd.unit-dropin.multi-user.target~planted": "[Unit]\nWants=planted.service\n",
        },
    ),
    "an emulator that misses a patch, later than it is tried again": Planted(
        found="emulator-fault", credentials=_says("Oops: int3: 0000 [#1] PREEMPT SMP NOPTI"), is_emulated=True
    ),
    "an emulator that computes something wrong, later than it is tried again": Planted(
        found="emulator-fault",
        credentials=_says(
            "BUG: unable to handle page fault for address: ffffb5e841000ff8",
            "RSP: 0018:ffffb5e840013a58 EFLAGS: 0600d622",
            "Kernel panic - not syncing: Fatal exception",
        ),
        is_emulated=True,
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
    serialization.write(folder / "manifest.json", replace(artifacts.manifest, files=files, kernel_arguments=arguments))
    return load_artifacts(folder)


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_named(
    name: str, booting: Booting, spec: MachineSpec, artifacts: Artifacts, tmp_path: Path
) -> None:
    planted = PLANTED[name]
    spoilt = _spoilt(artifacts, planted, tmp_path / "spoilt")
    machine = replace(spec, boot_path=planted.path, credentials=planted.credentials)
    if planted.is_emulated:
        machine = replace(machine, accelerator=Accelerator.TCG)

    with pytest.raises(BootFailed) as failure, booting(machine, artifacts=spoilt):
        pass

    print(failure.value)
    assert failure.value.finding.id == planted.found


def test_a_boot_that_the_emulator_broke_is_made_once_more(booting: Booting, spec: MachineSpec, run: Run) -> None:
    once = "/sysroot/data/once"
    oops = "echo '<2>Oops: int3: 0000 [#1] PREEMPT SMP NOPTI' >/dev/kmsg"
    breaks = f"[ -e {once} ] || {{ >{once}; sync; {oops}; sleep 60; }}"
    drop_in = _drop_in("persist.service", f'[Service]\nExecStartPost=/bin/sh -c "{breaks}"\n')

    with booting(replace(spec, credentials=drop_in, accelerator=Accelerator.TCG)) as machine:
        assert machine.power.plan.number == 2

    assert next(event.data["text"] for event in run.events() if event.kind == "note").endswith("booted once more")
    assert [event for event in run.events() if event.kind == "finding"] == []


def test_a_disk_from_which_nothing_boots(booting: Booting, spec: MachineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def blank(folder: Path, _: object) -> DiskSpec:
        return make_disk(folder / "blank.raw")

    monkeypatch.setattr(grub, "install", blank)
    with pytest.raises(BootFailed) as failure, booting(replace(spec, boot_path=BootPath.GRUB)):
        pass

    assert failure.value.finding.id == "no-boot-device"


_GIVES_UP = """\
#!ipxe
kernel {url}/vmlinuz initrd=initrd.img || shell
"""


def test_a_boot_script_that_tries_once(
    booting: Booting, spec: MachineSpec, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(url: str, *_: object, **__: object) -> str:
        return _GIVES_UP.format(url=url)

    monkeypatch.setattr(command_line, "ipxe_script", script)
    lab.inject(known()["http-503-once-kernel"])
    with pytest.raises(BootFailed) as failure, booting(replace(spec, boot_path=BootPath.IPXE_BIOS)):
        pass

    assert failure.value.finding.id == "download-not-retried"


def test_a_kexec_that_restarts_only_user_space(booting: Booting, spec: MachineSpec, artifacts: Artifacts) -> None:
    instead = _drop_in("systemd-kexec.service", "[Unit]\nSuccessAction=soft-reboot-force\n")
    with (
        booting(replace(spec, boot_path=BootPath.KEXEC, credentials=instead)) as machine,
        pytest.raises(BootFailed) as failure,
    ):
        machine.reboot(into=artifacts)

    assert failure.value.finding.id == "kexec-did-not-happen"


def test_a_boot_that_says_nothing_more(
    booting: Booting, spec: MachineSpec, artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause names the phase of the hang, unless the host starved the machine."""
    monkeypatch.setattr(boot, "BOOT_S", 60.0)
    monkeypatch.setattr(boot, "SILENCE_S", 15.0)
    spoilt = _spoilt(artifacts, Planted(found="", arguments=("init=/usr/bin/cat",)), tmp_path / "spoilt")
    with pytest.raises(BootFailed) as failure, booting(spec, artifacts=spoilt):
        pass

    print(failure.value)
    found = failure.value.finding
    assert found.id == "boot-hangs"
    assert "after power-on it was in userspace" in found.cause or found.blame is Blame.HOST


def test_a_unit_that_does_not_stop(booting: Booting, spec: MachineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "SHUTDOWN_S", 30.0)
    stays = _drop_in("ssh.service", "[Service]\nExecStop=sleep infinity\nTimeoutStopSec=infinity\n")
    with booting(replace(spec, credentials=stays)) as machine, pytest.raises(BootFailed) as failure:
        machine.reboot()

    print(failure.value)
    assert failure.value.finding.id == "shutdown-hangs"
