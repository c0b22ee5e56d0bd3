"""The boot disk of machines with boot path grub, for BIOS and UEFI, made without root, mounts or loop devices.

    1  bios_grub       core.img, which boot.img in sector 0 loads: BIOS
    2  ESP (FAT)       EFI/BOOT/BOOTX64.EFI: UEFI
    3  BOOT (ext4)     grub.cfg, and a folder for each version: vmlinuz, initrd.img, rootfs.squashfs

GRUB's menu has the newest version first and the previous one second. It uses the serial console.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core import process
from harness.core.errors import HostError, UsageError
from harness.model.artifacts import INITRD, KERNEL, ROOTFS, Artifacts, Manifest
from harness.model.machine_spec import BOOT_LABEL, DiskBus, DiskFormat, DiskSpec
from harness.qemu import disk_images
from harness.qemu.kernel_arguments import names_url

SERIAL = "BOOTPROOF-BOOT"
DISK, CONFIGURATION = "boot-disk.img", "grub.cfg"
"""In a machine's folder: its boot disk, and a copy of the disk's menu."""

TIMEOUT_S = 5
"""Seconds until GRUB starts the first entry without a key. The harness always sends a key."""
READY = "bootproof: GRUB's menu follows"
"""Printed by GRUB when it accepts keys."""

_MIB = 1 << 20
_SECTOR_BYTES = 512
_CORE, _ESP, _BOOT = (1 * _MIB, 1 * _MIB), (2 * _MIB, 8 * _MIB), 10 * _MIB
"""Start and size in bytes of the first two partitions, and the start of BOOT."""
_ROOM_MIB = 64
_TYPES = ("21686148-6449-6E6F-744E-656564454649", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
          "0FC63DAF-8483-4772-8E79-3D69D8477DE4")  # fmt: skip
"""UEFI specification 2.10, 5.3.3, and GRUB's manual, "BIOS installation": bios_grub; ESP; Linux file system."""
MODULES = Path("/usr/lib/grub")
PACKAGES = {"i386-pc": "grub-pc-bin", "x86_64-efi": "grub-efi-amd64-bin"}
"""Debian's folder of GRUB modules, and the package for each target."""
_NEEDED = ("part_gpt", "ext2", "search", "serial", "terminal", "normal", "configfile", "linux", "echo", "boot")
_EARLY = f"search --no-floppy --label {BOOT_LABEL} --set root\nset prefix=($root)/\n"
"""Run by GRUB first, to find its configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuEntry:
    """One version on the boot disk; ``arguments`` are all of its kernel arguments."""

    artifacts: Artifacts
    arguments: tuple[str, ...]

    @property
    def title(self) -> str:
        manifest = self.artifacts.manifest
        return " ".join(filter(None, [manifest.image, manifest.version, f"({self.artifacts.digest[:12]})"]))

    @property
    def folder(self) -> str:
        return folder_of(self.artifacts.digest)


def folder_of(digest: str) -> str:
    """The folder of the artifacts with that digest on BOOT."""
    return f"/{digest[:12]}"


def check(manifest: Manifest) -> None:
    """Raise `UsageError` for artifacts that cannot boot on boot path grub."""
    arguments = manifest.kernel_arguments
    if manifest.rootfs != ROOTFS:
        raise UsageError(f"boot path grub: dracut cannot boot {manifest.rootfs} from BOOT; pack a {ROOTFS}")
    if names_url(arguments):
        raise UsageError("boot path grub: only dracut's initrd finds its root file system on BOOT; use another path")
    if any(given.startswith("root=") for given in arguments):
        raise UsageError("boot path grub: the kernel arguments name a root file system; remove root=")


def offers(installed: Artifacts, running: Artifacts, before: Sequence[Artifacts] = ()) -> tuple[Artifacts, ...]:
    """The versions on a disk after a deployment: ``installed``, and ``running`` or else another one of ``before``."""
    distinct: dict[str, Artifacts] = {}
    for artifacts in (installed, running, *before):
        distinct.setdefault(artifacts.digest, artifacts)
    return tuple(distinct.values())[:2]


def configuration(entries: Iterable[MenuEntry]) -> str:
    """GRUB's menu, grub.cfg: pure."""
    menu = "".join(_menu_entry(keys(number), entry) for number, entry in enumerate(entries))
    return f"""\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial
set timeout={TIMEOUT_S}
set default=0
echo "{READY}"
{menu}"""


def _menu_entry(key: str, entry: MenuEntry) -> str:
    return f"""\
menuentry '{entry.title}' --hotkey={key} {{
    linux {entry.folder}/{KERNEL} {" ".join(map(_quoted, entry.arguments))}
    initrd {entry.folder}/{INITRD}
}}
"""


def _quoted(word: str) -> str:
    """Quoted as in the shell: GRUB's manual, "Quoting"."""
    return "'" + word.replace("'", "'\\''") + "'" if set(word) & set("'\"\\$;&|<>{}*?[]#") else word


def keys(entry: int) -> str:
    """The key that starts that entry of the menu.

    UEFI's firmware reads the same serial port as GRUB, and either may get a key: so the console is a second input, and
    an entry has one key, as two might arrive in the other order.
    """
    return str(entry + 1)


COMMAND_LINE = "c"
"""The key that opens GRUB's command line from its menu and stops the countdown."""


def _spec_of(folder: Path) -> DiskSpec:
    path = folder / DISK
    return DiskSpec(path=path, serial=SERIAL, bus=DiskBus.VIRTIO, format=disk_images.format_of(path))


def install(folder: Path, entries: Sequence[MenuEntry]) -> DiskSpec:
    """Make the boot disk in a machine's ``folder``, unless it has these ``entries`` already."""
    note, wanted = folder / CONFIGURATION, configuration(entries)
    if not ((folder / DISK).exists() and note.exists() and note.read_text("utf-8") == wanted):
        remove(folder)
        make_disk(folder / DISK, entries)
        note.write_text(wanted, "utf-8")
    return _spec_of(folder)


def keep(folder: Path, place: Path) -> None:
    """Copy the boot disk in ``folder``, and its menu, to ``place``: for a frozen machine."""
    if disk_images.format_of(folder / DISK) is DiskFormat.RAW:
        disk_images.copy_sparse(folder / DISK, place / DISK)
    else:
        disk_images.flatten(folder / DISK, place / DISK)
    shutil.copyfile(folder / CONFIGURATION, place / CONFIGURATION)


def take(place: Path, folder: Path) -> DiskSpec:
    """Make the boot disk in ``folder`` an overlay over the one in ``place``."""
    remove(folder)
    disk_images.make_overlay(folder / DISK, place / DISK)
    shutil.copyfile(place / CONFIGURATION, folder / CONFIGURATION)
    return _spec_of(folder)


def remove(folder: Path) -> None:
    (folder / DISK).unlink(missing_ok=True)


def make_disk(path: Path, entries: Sequence[MenuEntry]) -> None:
    """Make the boot disk, a little larger than its content."""
    content_mib = sum(file.size_bytes for entry in entries for file in entry.artifacts.manifest.files.values()) // _MIB
    boot_mib = content_mib * 21 // 20 + _ROOM_MIB  # ext4's own tables take less than a twentieth
    half_made = path.with_name(f".{path.name}.new")
    half_made.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=".grub.", dir=path.parent) as scratch:
        work = Path(scratch)
        disk_images.make_raw(half_made, size_bytes=_BOOT + (boot_mib + 1) * _MIB)  # the last MiB: GPT's second copy
        _partition(half_made, boot_mib, work)
        _make_boot(half_made, boot_mib, entries, work)
        _make_esp(half_made, _image("x86_64-efi", work))
        _put_bios_loader(half_made, _image("i386-pc", work))
    half_made.replace(path)


def _partition(image: Path, boot_mib: int, work: Path) -> None:
    rows = zip((_CORE, _ESP, (_BOOT, boot_mib * _MIB)), _TYPES, ("grub", "esp", BOOT_LABEL), strict=True)
    script = work / "partitions"
    lines = (
        f"start={start // _SECTOR_BYTES}, size={size // _SECTOR_BYTES}, type={type_}, name={name}"
        for (start, size), type_, name in rows
    )
    script.write_text("label: gpt\n" + "\n".join(lines) + "\n", "ascii")
    program = process.require("sfdisk", "fdisk")
    process.output(["sh", "-c", 'exec "$0" --quiet --no-tell-kernel "$1" <"$2"', program, str(image), str(script)])


def _make_boot(image: Path, boot_mib: int, entries: Sequence[MenuEntry], work: Path) -> None:
    """ext4 with only the features that GRUB 2.06 supports (grub-core/fs/ext2.c, EXT2_DRIVER_SUPPORTED_INCOMPAT), and
    without a journal, since only deployments write to it."""
    tree = work / "boot"
    for entry in entries:
        folder = tree / entry.folder.lstrip("/")
        folder.mkdir(parents=True)
        for name in (KERNEL, INITRD, ROOTFS):
            disk_images.copy_sparse(entry.artifacts.folder / name, folder / name)
    (tree / CONFIGURATION).write_text(configuration(entries), "utf-8")
    features = "^has_journal,^metadata_csum_seed,^orphan_file"
    options = f"offset={_BOOT},root_owner=0:0"
    process.output(
        [process.require("mke2fs", "e2fsprogs"), "-q", "-F", "-t", "ext4", "-m", "0", "-L", BOOT_LABEL, "-O", features,
         "-E", options, "-d", str(tree), str(image), f"{boot_mib}M"]
    )  # fmt: skip
    shutil.rmtree(tree)


def _image(target: str, work: Path) -> Path:
    """GRUB with the modules it needs, as one file: core.img or BOOTX64.EFI."""
    modules = MODULES / target
    process.require_file(modules / "normal.mod", PACKAGES[target])
    early, made = work / "early.cfg", work / target
    early.write_text(_EARLY, "ascii")
    needed = (*_NEEDED, *(("biosdisk",) if target == "i386-pc" else ()))
    process.output(
        [process.require("grub-mkimage", "grub-common"), "-O", target, "-d", str(modules), "-c", str(early),
         "-p", "/", "-o", str(made), *needed]
    )  # fmt: skip
    return made


def _make_esp(image: Path, loader: Path) -> None:
    start, size = _ESP
    drive = f"{image}@@{start}"
    process.output(
        [process.require("mformat", "mtools"), "-i", drive, "-T", str(size // _SECTOR_BYTES), "-v", "ESP", "::"]
    )
    process.output([process.require("mmd", "mtools"), "-i", drive, "::/EFI", "::/EFI/BOOT"])
    process.output([process.require("mcopy", "mtools"), "-i", drive, str(loader), "::/EFI/BOOT/BOOTX64.EFI"])


def _put_bios_loader(image: Path, core: Path) -> None:
    """Do what grub-bios-setup does, without a block device.

    GRUB, include/grub/i386/pc/boot.h: boot.img has the sector of core.img at 0x5c (GRUB_BOOT_MACHINE_KERNEL_SECTOR).
    Its struct grub_pc_bios_boot_blocklist ends the first sector of core.img: where the rest is, in 8 of 12 bytes.
    """
    begin = process.require_file(MODULES / "i386-pc/boot.img", PACKAGES["i386-pc"]).read_bytes()
    loader, (start, room) = bytearray(core.read_bytes()), _CORE
    sector = start // _SECTOR_BYTES
    if len(loader) > room:
        raise HostError(f"GRUB's core.img has {len(loader)} bytes, its partition {room}")
    loader[_SECTOR_BYTES - 12 : _SECTOR_BYTES - 4] = (sector + 1).to_bytes(8, "little")
    with image.open("r+b") as disk:
        disk.write(begin[:0x5C] + sector.to_bytes(8, "little") + begin[0x64:_TABLE])
        os.pwrite(disk.fileno(), loader, start)


_TABLE = 0x1B8
"""Where the code in a boot sector ends: the disk's signature and GPT's protective table follow."""
