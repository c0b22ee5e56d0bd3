"""Signs of trouble on a console: patterns and diagnoses, as data.

Each pattern is matched against one console line, without colours and carriage return. A sign must be quiet: it
never matches anything that a healthy boot prints. Sources name where the text comes from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from harness.core.errors import Blame


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePattern:
    """A line that means trouble; ``cause`` is the usual suspect.

    After one that is not ``is_final`` a boot may still go well, and then it counts for nothing. What ``is_retried``
    goes well if the network comes to itself, and will not if nothing changes. One that ``is_of_a_card`` is said by each
    network card's iPXE for itself, and means trouble when the last has said it. One that ``outranks`` others is an
    emulated machine's only: the one of them that it belongs to was the emulator's doing.
    """

    id: str
    pattern: str
    what: str
    cause: str
    blame: Blame = Blame.IMAGE
    is_final: bool = True
    is_retried: bool = False
    is_of_a_card: bool = False
    outranks: tuple[str, ...] = ()

    def matches(self, line: str) -> bool:
        return _compiled(self.pattern).search(line) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_NO_ANSWER = "no DHCP answer for this NIC, no boot script in it, or no boot loader on its disk"

PATTERNS: tuple[ConsolePattern, ...] = (
    # firmware and iPXE: SeaBIOS boot.c, iPXE's usr/autoboot.c and core/image.c
    ConsolePattern(
        id="no-boot-device",
        pattern=r"No bootable (option or )?device",
        what="the firmware found nothing to boot",
        cause=_NO_ANSWER,
    ),
    ConsolePattern(
        id="no-boot-device",
        pattern=r"Nothing to boot: No such file|No more network devices",
        what="the firmware found nothing to boot",
        cause=_NO_ANSWER,
        is_of_a_card=True,
    ),
    ConsolePattern(
        id="ipxe-download-failed",
        # iPXE breaks lines at the end of the screen: of the URL only the rest, of its own only the start may be here
        pattern=r"^\S+\.{3,} .*\(https?:",
        what="iPXE could not download a file",
        cause="the server refused it, does not have it, or is not there",
        is_retried=True,
    ),
    ConsolePattern(
        id="ipxe-script-failed",
        pattern=r"^bootproof: iPXE failed to ",
        what="the iPXE boot script gave up",
        cause="kernel or initrd could not be loaded; the lines above name the URL",
    ),
    # GRUB 2.06 and 2.12: kern/fs.c, kern/disk.c, kern/rescue_reader.c, fs/ext2.c, loader/linux.c; 2.12 names the file
    ConsolePattern(
        id="grub-failed",
        pattern=r"error: (\S+:\d+:)?(file `.*' not found|no such (device|partition|disk)|unknown filesystem"
        r"|you need to load the kernel first|invalid (magic number|sector size)|premature end of file"
        r"|attempt to read or write outside|failure reading sector)"
        r"|^Entering rescue mode|Minimal BASH-like line editing",
        what="GRUB could not start a kernel",
        cause="what its menu names is not on BOOT, or BOOT is damaged: the deployment did not finish",
    ),
    # kernel: panic.c, traps.c, watchdog.c, hung_task.c, oom_kill.c, initramfs.c, squashfs, ext4
    ConsolePattern(
        id="kernel-panic",
        pattern=r"Kernel panic - not syncing",
        what="the kernel panicked",
        cause="see the lines before it; without a root file system, the initrd or its drivers",
    ),
    ConsolePattern(
        id="kernel-lockup",
        pattern=r"BUG: (soft lockup|workqueue lockup)|INFO: rcu\S* (self-)?detected .*stall"
        r"|blocked for more than \d+ seconds",
        what="the kernel stopped making progress for a while",
        cause="a host that starves the machine, or a driver that waits for its device",
        blame=Blame.HOST,
        is_final=False,
    ),
    ConsolePattern(
        id="emulator-fault",
        pattern=r"Oops: int3:",
        what="the kernel ran into a breakpoint of its own",
        cause="QEMU's TCG with several CPUs missed code that the kernel patched; no fault of the image",
        blame=Blame.HOST,
        outranks=("kernel-oops",),
    ),
    ConsolePattern(
        id="emulator-fault",
        # the kernel's own, not what a trace takes for registers; bits 22 to 31 are 0: Intel's manual, volume 1, 3.4.3
        pattern=r"RSP: 0018:[0-9a-f]{16} EFLAGS: (?!00[0-3])[0-9a-f]{8}$",
        what="the kernel hit a bug with flags set that no processor has",
        cause="QEMU's TCG computed something wrong; no fault of the image",
        blame=Blame.HOST,
        outranks=("kernel-oops", "kernel-warning"),
    ),
    ConsolePattern(
        id="kernel-oops",
        pattern=r"\b(BUG: (?!soft lockup|workqueue lockup)|Oops: |general protection fault|kernel BUG at )",
        what="the kernel hit a bug",
        cause="a kernel or driver fault: compare with the previous kernel",
    ),
    ConsolePattern(
        id="kernel-warning",
        # until Linux 6.18 "WARNING: CPU: 0 PID: 1 at file:line fn"; since 6.19 "WARNING: file:line at fn, CPU#0"
        pattern=r"WARNING: (CPU: \d+ PID: \d+ at |\S+:\d+ at .*CPU#\d+)",
        what="the kernel warned about itself",
        cause="a kernel or driver fault: compare with the previous kernel",
    ),
    ConsolePattern(
        id="out-of-memory",
        pattern=r"Out of memory: Kill|invoked oom-killer|Initramfs unpacking failed: write error",
        what="the machine ran out of memory",
        cause="the image needs more memory than boot.memory_mib gives",
    ),
    ConsolePattern(
        id="initrd-corrupt",
        pattern=r"Initramfs unpacking failed: (?!write error)",
        what="the kernel could not unpack the initrd",
        cause="initrd.img is truncated, corrupt, compressed in a way this kernel cannot read, or memory is too small",
    ),
    ConsolePattern(
        id="rootfs-corrupt",
        pattern=r"SQUASHFS error:|attempt to access beyond end of device",
        what="the root file system cannot be read",
        cause="rootfs.squashfs is truncated or corrupt, as served or as downloaded",
    ),
    ConsolePattern(
        id="disk-error",
        pattern=r"EXT4-fs error|JBD2: .*error|I/O error, dev (?!fd0)|Remounting filesystem read-only",
        what="a file system or disk failed",
        cause="the persistent disk is damaged or failing",
    ),
    # dracut: livenet's fetch-liveupdate and livenetroot, dmsquash-live-root, dracut-lib die()
    ConsolePattern(
        id="rootfs-download-failed",
        pattern=r"failed to download live image|dracut.*curl: \(\d+\)|livenet.*curl: \(\d+\)"
        r"|^wget: (can't connect|server returned error|bad address|download timed out)",
        what="the initrd could not download the root file system",
        cause="the server refused it, or the network went away between iPXE and the initrd",
        is_retried=True,
    ),
    ConsolePattern(
        id="rootfs-not-found",
        pattern=r"Failed to find a root filesystem|Don't know how to handle 'root="
        r"|Unable to find a (medium containing a )?live file system",
        what="the initrd has no root file system",
        cause="a truncated download, or dracut's livenet or dmsquash-live module is missing from the initrd",
    ),
    ConsolePattern(
        id="initrd-timeout",
        pattern=r"dracut-initqueue.*(starting timeout scripts|[Tt]imeout)|Warning: Not all disks have been found"
        r"|Gave up waiting for root ",
        what="the initrd waited in vain for its root",
        cause="no driver, no link or no address in the initrd",
    ),
    ConsolePattern(
        id="persist-failed",
        pattern=r"persist: FAILED: ",
        what="the persistent disk could not be taken into use",
        cause="as the message says; no service was started, and the disk was left as it was",
    ),
    ConsolePattern(
        id="initrd-gave-up",
        pattern=r"dracut: (FATAL(?!: Don't know how to handle 'root=)|Refusing to continue)",
        what="the initrd gave up",
        cause="as its message says",
    ),
    # systemd: manager and job messages on the console
    ConsolePattern(
        id="emergency-mode",
        pattern=r"(You are in|Welcome to) (emergency|rescue) mode|Entering emergency mode"
        r"|Reached target (emergency\.target|Emergency Mode)",
        what="systemd fell into emergency mode",
        cause="a mount or unit that the boot requires failed; the lines before name it",
    ),
    ConsolePattern(
        id="systemd-froze",
        pattern=r"^\[!!!!!!\] |systemd\[1\]: Freezing( execution)?\.",
        what="systemd could not go on, and froze",
        cause="as its message says",
    ),
    ConsolePattern(
        id="unit-failed",
        pattern=r"\[ ?FAILED ?\] Failed to (start|mount|listen)|systemd\[1\]: Failed to (start|mount|listen)",
        what="a unit failed during boot",
        cause="see its journal in the run's folder",
    ),
    ConsolePattern(
        id="unit-dependency-failed",
        pattern=r"\[DEPEND\] Dependency failed for",
        what="a unit was not started because another failed",
        cause="the unit it needs failed before it",
    ),
    ConsolePattern(
        id="ordering-cycle",
        pattern=r"Found ordering cycle|Job .* deleted to break ordering cycle|Breaking ordering cycle by deleting job"
        r"|Ordering cycle found, skipping",
        what="units are ordered in a circle",
        cause="systemd deleted a job to break the circle: which one is chance",
    ),
)


def read_line(line: str, *, is_emulated: bool = True) -> list[ConsolePattern]:
    """The signs that ``line``, of a machine that ``is_emulated`` or not, shows."""
    signs = [sign for sign in PATTERNS if sign.matches(line) and (is_emulated or not sign.outranks)]
    outranked = {name for sign in signs for name in sign.outranks}
    return [sign for sign in signs if sign.id not in outranked]


PHASES: tuple[tuple[str, str], ...] = (
    # phase that begins with the first line that matches; QEMU's start begins "firmware"
    ("ipxe", r"^iPXE \d|iPXE initialising devices"),
    ("grub", r"GRUB loading|Welcome to GRUB!"),
    ("kernel", r"Linux version \d"),
    ("initrd", r"Run /init as init process"),
    ("userspace", r"Starting initrd-switch-root\.service|Switching root\."),
)
"""How the phases of a boot show on its console, in order. "ready" is the guest's own word."""


def shows_registers(line: str) -> bool:
    """Whether ``line`` has the flags of a processor, as x86's kernels print them a few lines into a bug of theirs."""
    return "EFLAGS: " in line


def begins_phase(line: str) -> str | None:
    """The phase that begins with ``line``, if one does."""
    return next((name for name, pattern in PHASES if _compiled(pattern).search(line)), None)
