"""For each way in which a boot can fail by itself: planted around the good image, and named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from harness.core import process, serialization
from harness.core.errors import Blame
from harness.lab import HttpAnswer, Lab, Request
from harness.lab.http_faults import apply_faults
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.model.artifacts import INITRD, KERNEL, ROOTFS, Artifacts, describe, load_artifacts
from harness.model.events import Note
from harness.model.machine_spec import Accelerator, BootPath, MachineSpec, mac_of
from harness.model.network_faults import known
from harness.model.timeouts import Timeouts
from harness.qemu import grub, ipxe
from harness.qemu.disk_images import make_raw
from harness.runs.folder import Run

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


def _empty(content: bytearray) -> None:
    """A squashfs of nothing."""
    with TemporaryDirectory() as folder:
        tree, image = Path(folder) / "tree", Path(folder) / "image"
        tree.mkdir()
        process.output([process.require("mksquashfs", "squashfs-tools"), str(tree), str(image), "-quiet"])
        content[:] = image.read_bytes()


def _drop_in(unit: str, lines: str) -> dict[str, str]:
    return {f"systemd.unit-dropin.{unit}~planted": lines}


def _says(*lines: str) -> dict[str, str]:
    """A unit that lets the kernel print ``lines``, as if it had come upon that itself."""
    return _runs("; ".join(f"echo '<2>{line}' >/dev/kmsg" for line in lines))


def _runs(command: str) -> dict[str, str]:
    unit = f'[Service]\nType=oneshot\nExecStart=/bin/sh -c "{command}"\n'
    return {
        "systemd.extra-unit.planted.service": unit,
        "systemd.unit-dropin.ssh.service~planted": "[Unit]\nWants=planted.service\nAfter=planted.service\n",
    }


def _says_before_a_hang(line: str) -> dict[str, str]:
    """`_says`, where nothing waits for the unit; with a demanded unit that is masked, the boot does not end."""
    return {**_says(line), "systemd.unit-dropin.multi-user.target~planted": "[Unit]\nWants=planted.service\n"}


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
    # dracut 106 lays its overlay over nothing and goes on; the role persist sees what is missing
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
        credentials=_says_before_a_hang("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:1]"),
    ),
    "firmware without an answer, and then a unit that does not come": Planted(
        found="firmware-download-failed",
        arguments=("systemd.mask=ssh.service",),
        credentials=_says_before_a_hang("Error: Could not retrieve NBP file size from HTTP server."),
    ),
    "a setting that does not exist, and then a unit that does not come": Planted(
        found="settings-not-applied",
        arguments=("systemd.mask=ssh.service",),
        credentials=_says_before_a_hang("sysctl: cannot stat /proc/sys/net/none: No such file or directory"),
    ),
    "a host name that is refused, and then a unit that does not come": Planted(
        found="host-name-not-set",
        arguments=("systemd.mask=ssh.service",),
        credentials=_says_before_a_hang("systemd-networkd[606]: Could not set hostname: Permission denied"),
    ),
    "a root file system that is too new": Planted(
        found="rootfs-unsupported", credentials=_says("SQUASHFS error: Please update your kernel")
    ),
    "a CPU that is too old": Planted(
        found="cpu-too-old", credentials=_says("Fatal glibc error: CPU does not support x86-64-v3")
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
        assert machine.running_boot.plan.number == 2

    assert run.of_kind(Note)[0].text.endswith("booted once more")
    assert run.findings() == ()


def test_a_disk_from_which_nothing_boots(booting: Booting, spec: MachineSpec) -> None:
    """A blank one, whose deployment noted that it had written GRUB and the menu."""
    with booting(replace(spec, boot_path=BootPath.GRUB), power=False) as machine:
        machine.folder.mkdir(parents=True)
        make_raw(machine.folder / grub.DISK, size_bytes=1 << 30)
        (machine.folder / grub.CONFIGURATION).write_text(grub.configuration(machine._plan(None).menu), "utf-8")

        with pytest.raises(BootFailed) as failure:
            machine.power_on()

    assert failure.value.finding.id == "no-boot-device"


_GIVES_UP = """\
#!ipxe
kernel {url}/vmlinuz initrd=initrd.img || shell
"""


def test_a_boot_script_that_tries_once(
    booting: Booting, spec: MachineSpec, lab: Lab, artifacts: Artifacts, tmp_path: Path
) -> None:
    fault = known()["http-503-once-kernel"]
    script = _GIVES_UP.format(url=ipxe.base_url(artifacts.digest)).encode()

    def alter(request: Request, answer: HttpAnswer, answered_before: int) -> HttpAnswer:
        if request.path == ipxe.script_path(mac_of(spec.number, 0)):
            return replace(answer, body=script)
        return apply_faults([fault], tmp_path, request, answer, answered_before)

    lab.inject(fault)
    lab.http.filter_answers(alter)
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
    booting: Booting, spec: MachineSpec, artifacts: Artifacts, tmp_path: Path
) -> None:
    """The finding's cause says where the boot was, unless the host had no time for it."""
    timeouts = Timeouts(boot_s=60.0, silence_s=15.0)
    spoilt = _spoilt(artifacts, Planted(found="", arguments=("init=/usr/bin/cat",)), tmp_path / "spoilt")
    with pytest.raises(BootFailed) as failure, booting(spec, artifacts=spoilt, timeouts=timeouts):
        pass

    print(failure.value)
    found = failure.value.finding
    assert found.id == "boot-hangs"
    assert "after power-on the machine was in userspace" in found.cause or found.blame is Blame.HOST


def test_a_unit_that_does_not_stop(booting: Booting, spec: MachineSpec) -> None:
    stays = _drop_in("ssh.service", "[Service]\nExecStop=sleep infinity\nTimeoutStopSec=infinity\n")
    with (
        booting(replace(spec, credentials=stays), timeouts=Timeouts(shutdown_s=30.0)) as machine,
        pytest.raises(BootFailed) as failure,
    ):
        machine.reboot()

    print(failure.value)
    assert failure.value.finding.id == "shutdown-hangs"
