"""QEMU's command line, the iPXE script and the kernel arguments, without a machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from harness.model.machine_spec import Accelerator, BootPath, DiskFormat, DiskSpec, MachineSpec
from harness.model.qemu import Qemu, Thread
from harness.qemu import command_line
from harness.qemu.command_line import DirectBoot, Memory, QemuSockets
from harness.qemu.netdev import tap_netdev

QEMU = Qemu(program="qemu-system-x86_64", version="7.2.22")
_command = partial(command_line.command, qemu=QEMU)
UUID_1 = UUID("6c1d3a52-0b6f-4a3f-9f3e-000000000001")
WIRES = QemuSockets(qmp_fd=10, console_fd=11, shell_fd=12, netdevs=(tap_netdev(0, "tap3"),))
DIRECT = DirectBoot(
    kernel=Path("/a/vmlinuz"),
    initrd=Path("/a/initrd.img"),
    rootfs=Path("/a/rootfs.squashfs"),
    arguments=("quiet", "x=1"),
)


def _spec(boot_path: BootPath = BootPath.DIRECT, **more: object) -> MachineSpec:
    return MachineSpec(name="one", number=3, uuid=UUID_1, boot_path=boot_path, **more)  # type: ignore[arg-type]


def _values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(argv) if name == option]


def test_a_machine_never_resets_and_stops_when_it_panics() -> None:
    argv = _command(_spec(), sockets=WIRES)

    assert "-no-reboot" in argv
    assert _values(argv, "-action") == ["panic=pause"]
    assert any(value.startswith("pvpanic") for value in _values(argv, "-device"))


def test_the_accelerator_decides_the_cpu() -> None:
    by_tcg = _command(_spec(), sockets=WIRES)
    by_kvm = _command(_spec(accelerator=Accelerator.KVM), sockets=WIRES)

    assert (_values(by_tcg, "-accel"), _values(by_tcg, "-cpu")) == (
        ["tcg,thread=single,tb-size=256"],
        ["max,-erms,-fsrm"],
    )
    assert (_values(by_kvm, "-accel"), _values(by_kvm, "-cpu")) == (["kvm"], ["host"])


def test_the_qemu_decides_the_program_and_its_threads() -> None:
    argv = _command(_spec(), sockets=WIRES, qemu=replace(QEMU, program="/opt/q", thread=Thread.MULTI))

    assert argv[0] == "/opt/q"
    assert _values(argv, "-accel") == ["tcg,thread=multi,tb-size=256"]


def test_a_guest_under_kvm_has_no_tsc_that_would_count_while_it_is_paused() -> None:
    """Linux prefers kvm-clock, which stops with the machine, unless the CPU has the invariant TSC. QEMU hides that
    feature as long as the CPU is migratable (target/i386/cpu.c), as it is by default."""
    argv = _command(_spec(accelerator=Accelerator.KVM), sockets=WIRES)

    assert _values(argv, "-cpu") == ["host"]
    assert _values(argv, "-rtc") == ["base=utc"], "clock=host, so that the board's clock goes on"


def test_the_console_is_the_first_serial_port_and_the_shell_the_second() -> None:
    argv = _command(_spec(), sockets=WIRES)

    assert _values(argv, "-serial") == ["chardev:console", "chardev:shell"]
    assert "socket,id=console,fd=11" in _values(argv, "-chardev")
    assert "socket,id=shell,fd=12" in _values(argv, "-chardev")
    assert "socket,id=qmp,fd=10" in _values(argv, "-chardev")


def test_only_ipxe_machines_boot_from_their_card() -> None:
    direct = _command(_spec(), sockets=WIRES, direct=DIRECT)
    netboot = _command(_spec(BootPath.IPXE_BIOS), sockets=WIRES)

    assert "virtio-net-pci,netdev=net0,id=nic0,mac=52:54:00:77:00:03,romfile=" in _values(direct, "-device")
    assert "virtio-net-pci,netdev=net0,id=nic0,mac=52:54:00:77:00:03,bootindex=1" in _values(netboot, "-device")
    assert "-kernel" not in netboot
    assert "strict=on" in _values(netboot, "-boot")[0]


def test_disks_are_in_order_and_a_path_may_contain_anything() -> None:
    disks = (
        DiskSpec(path=Path('/d/a,b "c".raw'), serial="S,1"),
        DiskSpec(path=Path("/d/two.qcow2"), serial="S2", format=DiskFormat.QCOW2, read_only=True),
    )
    argv = _command(_spec(disks=disks), sockets=WIRES, direct=DIRECT)

    first, second, rootfs = (json.loads(value) for value in _values(argv, "-blockdev"))
    assert (first["driver"], first["file"]["filename"]) == ("raw", '/d/a,b "c".raw')
    assert (second["driver"], second["read-only"]) == ("qcow2", True)
    assert (rootfs["file"]["filename"], rootfs["read-only"]) == ("/a/rootfs.squashfs", True)
    scsi = [value for value in _values(argv, "-device") if value.startswith("scsi-hd")]
    assert "scsi-id=0" in scsi[0]
    assert scsi[0].endswith("serial=S,,1")
    assert "scsi-id=1" in scsi[1]


def test_the_rootfs_is_no_scsi_disk() -> None:
    argv = _command(_spec(), sockets=WIRES, direct=DIRECT)

    assert "virtio-blk-pci,drive=rootfs,serial=rootfs" in _values(argv, "-device")
    assert _values(argv, "-append") == ["quiet x=1"]


def test_credentials_go_in_as_smbios_strings() -> None:
    argv = _command(_spec(credentials={"b": "two", "a": "one, with a comma"}), sockets=WIRES)

    first, second = _values(argv, "-smbios")
    assert first == "type=11,value=io.systemd.credential.binary:a=" + base64.b64encode(b"one, with a comma").decode()
    assert second.startswith("type=11,value=io.systemd.credential.binary:b=")
    assert _values(argv, "-uuid") == [str(UUID_1)]


def test_memory_in_a_file_is_its_own_or_a_private_view() -> None:
    own = _command(_spec(), sockets=QemuSockets(), memory=Memory(file=Path("/m,1"), is_own=True))
    view = _command(_spec(), sockets=QemuSockets(), memory=Memory(file=Path("/m,1"), is_own=False), is_frozen=True)

    assert "memory-backend-file,id=memory,size=2048M,share=on,mem-path=/m,,1" in own
    assert "memory-backend-file,id=memory,size=2048M,share=off,mem-path=/m,,1" in view
    assert view[-2:] == ["-incoming", "defer"]
    assert "defer" not in own


def test_writes_fail_from_there_on_and_not_before(tmp_path: Path) -> None:
    disk = DiskSpec(path=tmp_path / "disk", serial="S", fails_writes_from=1 << 20)
    disk.path.touch()
    os.truncate(disk.path, 2 << 20)
    argv = _command(_spec(disks=(disk,)), sockets=QemuSockets(), qemu=replace(QEMU, program="qemu-io"))
    limit = argv[: argv.index("qemu-io")]

    write = ["qemu-io", "-f", "raw", "-c", "write 0 4k", "-c", "write 1M 4k", "-c", "read 1M 4k", str(disk.path)]
    done = subprocess.run([*limit, *write], capture_output=True, text=True, check=False)

    assert "wrote 4096/4096 bytes at offset 0" in done.stdout
    assert "write failed: File too large" in done.stdout + done.stderr
    assert "read 4096/4096 bytes at offset 1048576" in done.stdout


def test_uefi_has_variables_of_its_own_and_fetches_ipxe_where_it_has_none() -> None:
    own = Path("/machine/uefi-variables.fd")
    rom, chain, http = (
        " ".join(_command(_spec(path), sockets=WIRES, variables=own))
        for path in (BootPath.IPXE_UEFI, BootPath.PXE_CHAIN, BootPath.UEFI_HTTP)
    )

    assert all(str(own) in argv and "pflash0=code,pflash1=variables" in argv for argv in (rom, chain, http))
    assert "romfile=" not in rom
    assert "romfile=,bootindex=1" in chain
    assert "IPv4PXESupport" not in chain
    assert "name=opt/org.tianocore/IPv4PXESupport,string=n" in http
    assert "pflash" not in " ".join(_command(_spec(), sockets=WIRES))


def test_the_boot_disk_is_the_firmwares_first_choice_and_no_scsi_disk() -> None:
    disk = DiskSpec(path=Path("/d/boot"), serial="BOOT")
    argv = _command(_spec(BootPath.GRUB), sockets=WIRES, boot_disk=disk)

    assert "virtio-blk-pci,drive=boot,serial=BOOT,bootindex=0" in _values(argv, "-device")
    assert not any("bootindex" in value for value in _values(argv, "-device") if "virtio-net" in value)


def test_disks_are_attached_to_a_running_machine_as_the_command_line_would() -> None:
    slow = DiskSpec(path=Path("slow.raw"), serial="SLOW", reads_per_s=20)
    twin = DiskSpec(path=Path("twin.qcow2"), serial="TWIN", format=DiskFormat.QCOW2)
    spec = _spec(disks=(slow, twin))

    commands = list(command_line.attachments(spec))

    assert [name for name, _ in commands] == ["object-add", "blockdev-add", "device_add", "blockdev-add", "device_add"]
    argv = _command(spec, sockets=QemuSockets())
    assert [json.loads(node) for node in _values(argv, "-blockdev")] == [
        arguments for name, arguments in commands if name == "blockdev-add"
    ]
    started = [value for value in _values(argv, "-device") if value.startswith("scsi-hd")]
    assert started == [
        ",".join(f"{key}={value}" for key, value in arguments.items()).removeprefix("driver=")
        for name, arguments in commands
        if name == "device_add"
    ]
    assert _values(argv, "-object")[-1] == "throttle-group,id=throttle0,x-iops-read=20"
    without = _command(_spec(disks=()), sockets=QemuSockets())
    assert "virtio-scsi-pci,id=scsi0" in _values(without, "-device"), "the controller is there when the disk is not"
