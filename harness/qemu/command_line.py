"""QEMU's command line as a function of values (QEMU 7.2 or newer)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.model.machine_spec import Accelerator, BootPath, DiskBus, DiskSpec, MachineSpec, NicModel, mac_of
from harness.model.qemu import Qemu
from harness.qemu.kernel_arguments import ROOTFS_SERIAL
from harness.qemu.netdev import escaped

UEFI_CODE, UEFI_FACTORY_VARIABLES = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
"""From Debian's package ovmf: the firmware, and its variables as they leave the factory."""

NOTHING_TO_BOOT_S = 1
"""Seconds until the firmware resets after it found nothing to boot. The reset ends QEMU: no deadline has to pass."""

TRANSLATIONS_MIB = 256
"""The cache of translated code is a quarter of QEMU's default of 1 GiB. Every process maps its libraries elsewhere, so
their code is translated again. When a page with ten thousand translations is reused, each word written to it walks
through all of them, and the guest stands still for a minute (page_collection_lock, QEMU 7.2: a soft lockup in 4 of 14
boots on a host with slow memory). CPU time of a boot of base: 167 s with 1 GiB, 175 s with 128 MiB."""

TCG_CPU = "max,-erms,-fsrm"
"""All CPU features of TCG except the flags that call "rep stosb" fast. In TCG it is one store per byte, and each store
to a page that held code is expensive (page_collection_lock, QEMU 7.2): a guest that reuses its initrd's pages stands
still for up to half a minute, and its kernel reports a soft lockup. Three boots at once on two cores: 125 s and more
with the flags, 109 to 130 s without; one boot alone: no difference beyond 5 %."""

_DISPLAY = ("-device", "VGA,vgamem_mb=4,addr=0x1e")
"""For screenshots of SeaBIOS, iPXE and OVMF. At the end of the bus it moves no other device. SeaBIOS still prints on
the first serial port (``graphics=off``). No measurable cost in a boot (base, one pair on a busy host: 181 s of CPU
with, 184 s without); a frozen machine's state grows by 120 KB."""
_PVPANIC_PORT = "0x505"


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuSockets:
    """QEMU's connections: sockets as descriptor numbers in QEMU, networks as ``-netdev`` values.

    Without a descriptor its device is left out. ``netdevs`` has a value for each network card, or none: then there are
    no cards.
    """

    qmp_fd: int | None = None
    console_fd: int | None = None
    shell_fd: int | None = None
    tpm_fd: int | None = None
    netdevs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A machine's memory in a file: its own, or a frozen machine's, of which it has a private copy-on-write view."""

    file: Path
    is_own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectBoot:
    """A kernel that QEMU itself loads; ``arguments`` are all of its arguments."""

    kernel: Path
    initrd: Path | None
    rootfs: Path | None
    arguments: tuple[str, ...]


def command(
    spec: MachineSpec,
    *,  # many, but each is an independent part of a boot that one caller has and another has not
    qemu: Qemu,
    sockets: QemuSockets,
    direct: DirectBoot | None = None,
    memory: Memory | None = None,
    variables: Path | None = None,
    boot_disk: DiskSpec | None = None,
    clock: str = "utc",
    is_frozen: bool = False,
    is_paused: bool = False,
) -> list[str]:
    """QEMU's argv for one boot of ``spec``.

    ``variables`` is this machine's own copy of `UEFI_FACTORY_VARIABLES`; ``boot_disk`` is GRUB's. ``clock`` is the time
    of the board's clock: ISO 8601, or ``utc`` for the host's. With ``is_frozen`` QEMU waits for the state of a frozen
    machine instead of booting, with ``is_paused`` for QMP's ``cont``.

    The machine is a q35 for every boot path, which UEFI and PCI Express passthrough need, without the parts that only
    cost boot time. It never resets (``-no-reboot``): a reset ends QEMU, after an event with the reason. A panic pauses
    the machine, so that its state can be examined.
    """
    return [
        *_write_limit(spec.disks),
        qemu.program,
        *("-name", f"{escaped(spec.name)},debug-threads=on"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-action", "panic=pause"),
        *_board(spec, qemu, clock),
        *_firmware(spec, variables),
        *_memory(spec, memory),
        *_identity(spec),
        *_monitor(sockets),
        *_serial_ports(sockets),
        *_DISPLAY,
        *("-device", f"pvpanic,ioport={_PVPANIC_PORT}", "-device", "virtio-rng-pci"),
        *("-device", "vmgenid,guid=auto"),
        *_guards(spec, sockets),
        *_controllers(spec),
        *_flat(_disk(place, spec) for place in range(len(spec.disks))),
        *_flat(_nic(spec, nic, netdev) for nic, netdev in enumerate(sockets.netdevs)),
        *_kernel(direct),
        *_boot_disk(boot_disk),
        *(("-incoming", "defer") if is_frozen else ()),
        *(("-S",) if is_paused else ()),
    ]


def accelerated(accelerator: Accelerator, qemu: Qemu) -> list[str]:
    """The options for the accelerator, and for the CPU of a machine under it."""
    if accelerator is Accelerator.KVM:
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", f"tcg,thread={qemu.thread},tb-size={TRANSLATIONS_MIB}", "-cpu", TCG_CPU]


def _board(spec: MachineSpec, qemu: Qemu, clock: str) -> list[str]:
    return [
        *("-machine", "q35,graphics=off,sata=off,smbus=off,usb=off,vmport=off,memory-backend=memory"),
        *accelerated(spec.accelerator, qemu),
        *("-smp", str(spec.cpus)),
        *("-m", f"{spec.memory_mib}M"),
        *("-rtc", f"base={clock}"),
        *("-boot", f"strict=on,reboot-timeout={NOTHING_TO_BOOT_S * 1000}"),
    ]


def _firmware(spec: MachineSpec, variables: Path | None) -> list[str]:
    """SeaBIOS is part of QEMU. OVMF tries PXE before HTTP and waits long for an answer, so PXE is disabled for HTTP
    boot (edk2, NetworkPkg: opt/org.tianocore/IPv4PXESupport)."""
    if not spec.is_uefi:
        return []
    blocks = [("code", UEFI_CODE, True), ("variables", variables or UEFI_FACTORY_VARIABLES, variables is None)]
    argv = []
    for name, file, is_read_only in blocks:
        argv += ["-blockdev", _blockdev(name, file, "raw", is_read_only)]
    argv += ["-machine", "pflash0=code,pflash1=variables"]
    off = ("IPv4", "IPv6") if spec.boot_path is BootPath.UEFI_HTTP else ("IPv6",)
    for version in off:
        argv += ["-fw_cfg", f"name=opt/org.tianocore/{version}PXESupport,string=n"]
    return argv


def _memory(spec: MachineSpec, memory: Memory | None) -> list[str]:
    size = f"id=memory,size={spec.memory_mib}M"
    if memory is None:
        return ["-object", f"memory-backend-ram,{size}"]
    share = "on" if memory.is_own else "off"
    return ["-object", f"memory-backend-file,{size},share={share},mem-path={escaped(str(memory.file))}"]


def _identity(spec: MachineSpec) -> list[str]:
    """SMBIOS: the UUID of type 1, and systemd credentials as strings of type 11."""
    argv = ["-uuid", str(spec.uuid)]
    for name, value in sorted(spec.credentials.items()):
        encoded = base64.b64encode(value.encode()).decode()
        text = f"io.systemd.credential.binary:{name}={encoded}"
        argv += ["-smbios", f"type=11,value={escaped(text)}"]
    return argv


def shown(argv: Iterable[str]) -> list[str]:
    """``argv`` without the contents of credentials, for logs."""
    return [_CREDENTIAL.sub(r"\1…", word) for word in argv]


_CREDENTIAL = re.compile(r"(io\.systemd\.credential\.binary:[^=]*=).*")


def _monitor(sockets: QemuSockets) -> list[str]:
    if sockets.qmp_fd is None:
        return []
    return ["-chardev", f"socket,id=qmp,fd={sockets.qmp_fd}", "-mon", "chardev=qmp,mode=control"]


def _serial_ports(sockets: QemuSockets) -> list[str]:
    """ttyS0 is the console, ttyS1 the serial shell."""
    ports = (("console", sockets.console_fd), ("shell", sockets.shell_fd))
    return _flat(
        ["-chardev", f"socket,id={name},fd={fd}", "-serial", f"chardev:{name}"] for name, fd in ports if fd is not None
    )


def _guards(spec: MachineSpec, sockets: QemuSockets) -> list[str]:
    """A watchdog, which resets the machine if it is not fed, and a TPM: swtpm is at the other end of ``tpm_fd``."""
    argv = ["-device", "i6300esb"] if spec.has_watchdog else []
    if spec.has_tpm and sockets.tpm_fd is not None:
        argv += ["-chardev", f"socket,id=tpm,fd={sockets.tpm_fd}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
        argv += ["-device", "tpm-tis,tpmdev=tpm0"]
    return argv


_CONTROLLERS = {
    DiskBus.SCSI: "virtio-scsi-pci,id=scsi0",
    DiskBus.SATA: "ahci,id=sata0",
    DiskBus.MEGASAS: "megasas,id=megasas0",
}
"""The controller for all disks of a bus. q35's own AHCI is left out, as firmware and kernel would probe it."""


def _controllers(spec: MachineSpec) -> list[str]:
    """In the order of the disks; without disks an empty SCSI controller."""
    buses = dict.fromkeys(disk.bus for disk in spec.disks) or {DiskBus.SCSI: None}
    return _flat(["-device", _CONTROLLERS[bus]] for bus in buses if bus in _CONTROLLERS)


def _disk(place: int, spec: MachineSpec) -> list[str]:
    disk = spec.disks[place]
    limit = f"throttle-group,id=throttle{place},x-iops-read={disk.reads_per_s}"
    argv = ["-object", limit] if disk.reads_per_s else []
    argv += ["-blockdev", json.dumps({"node-name": f"disk{place}", **disk_node(place, disk)})]
    if not disk.late_s:
        device = ",".join(f"{key}={escaped(str(value))}" for key, value in disk_device(place, spec).items())
        argv += ["-device", device.removeprefix("driver=")]
    return argv


def disk_device(place: int, spec: MachineSpec) -> dict[str, object]:
    """The device of the ``place``-th disk, for the command line and for QMP's ``device_add``.

    The guest finds the disks of one controller, and controllers of one kind, in order: the first on SCSI is /dev/sda,
    the first NVMe /dev/nvme0n1. The order of controllers of several kinds depends on the guest's drivers.
    """
    disk = spec.disks[place]
    port = sum(other.bus is disk.bus for other in spec.disks[:place])
    kinds: dict[DiskBus, dict[str, object]] = {
        DiskBus.SCSI: {"driver": "scsi-hd", "bus": "scsi0.0", "channel": 0, "scsi-id": port, "lun": 0},
        DiskBus.MEGASAS: {"driver": "scsi-hd", "bus": "megasas0.0", "channel": 0, "scsi-id": port, "lun": 0},
        DiskBus.SATA: {"driver": "ide-hd", "bus": f"sata0.{port}"},
        DiskBus.NVME: {"driver": "nvme"},
        DiskBus.VIRTIO: {"driver": "virtio-blk-pci"},
    }
    size = {"logical_block_size": disk.sector_bytes, "physical_block_size": disk.sector_bytes}
    common = {"drive": f"disk{place}", "serial": disk.serial}
    return {**kinds[disk.bus], **common, **(size if disk.sector_bytes != 512 else {})}


def attachments(spec: MachineSpec) -> Iterator[tuple[str, dict[str, object]]]:
    """The QMP commands that attach the disks of ``spec``, all on SCSI, to a machine that was started without disks."""
    for place, disk in enumerate(spec.disks):
        if disk.reads_per_s:
            limit = {"qom-type": "throttle-group", "id": f"throttle{place}", "x-iops-read": disk.reads_per_s}
            yield "object-add", limit
        yield "blockdev-add", {"node-name": f"disk{place}", **disk_node(place, disk)}
        yield "device_add", disk_device(place, spec)


def nic_id(nic: int) -> str:
    """The id of a network card in QMP commands."""
    return f"nic{nic}"


def _nic(spec: MachineSpec, nic: int, netdev: str) -> list[str]:
    device: dict[str, object] = {"netdev": f"net{nic}", "id": nic_id(nic), "mac": mac_of(spec.number, nic)}
    if not spec.boot_path.is_netboot or (spec.boot_path.chains and not spec.has_plain_rom):
        device["romfile"] = ""
    if spec.boot_path.is_netboot:
        device["bootindex"] = nic + 1
    options = "".join(f",{key}={value}" for key, value in device.items())
    return ["-netdev", netdev, "-device", f"{_NICS[spec.nics[nic].model]}{options}"]


_NICS = {NicModel.VIRTIO: "virtio-net-pci", NicModel.E1000E: "e1000e", NicModel.VMXNET3: "vmxnet3", NicModel.IGB: "igb"}


def _kernel(direct: DirectBoot | None) -> list[str]:
    """The root file system is a virtio disk, so that the names of the SCSI disks stay the same."""
    if direct is None:
        return []
    argv = ["-kernel", str(direct.kernel), "-append", " ".join(direct.arguments)]
    if direct.initrd is not None:
        argv += ["-initrd", str(direct.initrd)]
    if direct.rootfs is not None:
        argv += ["-blockdev", _blockdev("rootfs", direct.rootfs, "raw", read_only=True)]
        argv += ["-device", f"virtio-blk-pci,drive=rootfs,serial={ROOTFS_SERIAL}"]
    return argv


def _boot_disk(disk: DiskSpec | None) -> list[str]:
    """The first boot device. A virtio disk, so that the names of the SCSI disks stay the same."""
    if disk is None:
        return []
    argv = ["-blockdev", _blockdev("boot", disk.path, disk.format, disk.read_only)]
    return [*argv, "-device", f"virtio-blk-pci,drive=boot,serial={disk.serial},bootindex=0"]


def disk_node(place: int, disk: DiskSpec) -> dict[str, object]:
    """The disk's image as a block node, below the nodes that make it fail, slow it down or record its writes."""
    node = _node(disk.path, disk.format, disk.read_only)
    if disk.fails_writes_from == 0:
        errors = [{"event": "none", "iotype": "write", "errno": 5}]
        node = {"driver": "blkdebug", "image": node, "inject-error": errors}
    if disk.reads_per_s:
        node = {"driver": "throttle", "throttle-group": f"throttle{place}", "file": node}
    if disk.writes:  # the log's superblock is updated with each write, so that the log is valid whenever QEMU ends
        log = {"driver": "file", "filename": str(disk.writes)}
        node = {"driver": "blklogwrites", "discard": "unmap", "file": node, "log": log}
        node |= {"log-append": True, "log-super-update-interval": 1}
    return node


def _write_limit(disks: Iterable[DiskSpec]) -> list[str]:
    """A prefix that makes writes fail from an offset on, by the host's limit of a file's size.

    blkdebug's errors are for all sectors or for one. The limit holds for all files that QEMU writes, the machine's
    memory included (setrlimit(2), RLIMIT_FSIZE).
    """
    limits = [disk.fails_writes_from for disk in disks if disk.fails_writes_from]
    if not limits:
        return []
    return ["/bin/sh", "-c", f"trap '' XFSZ; ulimit -f {min(limits) // 512}; exec \"$@\"", "sh"]


def _blockdev(name: str, path: Path, driver: str, read_only: bool) -> str:
    """As JSON, which needs no escaping of paths."""
    return json.dumps({"node-name": name, **_node(path, driver, read_only)})


def _node(path: Path, driver: str, read_only: bool) -> dict[str, object]:
    file: dict[str, object] = {"driver": "file", "filename": str(path), "read-only": read_only}
    node: dict[str, object] = {"driver": str(driver), "read-only": read_only, "file": file}
    if not read_only:
        node["discard"] = file["discard"] = "unmap"
    return node


def _flat(parts: Iterable[list[str]]) -> list[str]:
    return [word for part in parts for word in part]
