"""Console patterns: lines on a console that mean trouble, with their cause, as data.

A pattern is matched against one console line, without colours and carriage return. It must never match a line of a
healthy boot. The comments name the sources that print the lines. To add a pattern: a `ConsolePattern` in `PATTERNS`,
its explanation and an example line in ``model/finding_catalog.toml``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.core.errors import Blame


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePattern:
    """``regex`` matches a line that means trouble; ``cause`` is the usual suspect.

    A boot can still succeed after a pattern that is not ``is_final``; it then counts for nothing. The cause of one that
    ``is_retried`` disappears if the network recovers. One that ``is_per_nic`` is printed by iPXE of each network card,
    and means trouble when the last card has printed it. One that ``overrides`` others applies to emulated machines
    only: the match of the other pattern was the emulator's fault.
    """

    id: str
    regex: str
    what: str
    cause: str
    blame: Blame = Blame.IMAGE
    is_final: bool = True
    is_retried: bool = False
    is_per_nic: bool = False
    overrides: tuple[str, ...] = ()

    def matches(self, line: str) -> bool:
        return re.search(self.regex, line) is not None


_NO_ANSWER = "no DHCP answer for this NIC, no boot script in it, or no boot loader on its disk"

PATTERNS: tuple[ConsolePattern, ...] = (
    # firmware and iPXE: SeaBIOS boot.c, iPXE's usr/autoboot.c and core/image.c
    ConsolePattern(
        id="no-boot-device", regex=r"No bootable (option or )?device",
        what="the firmware found nothing to boot", cause=_NO_ANSWER,
    ),
    ConsolePattern(
        id="no-boot-device", regex=r"Nothing to boot: No such file|No more network devices",
        what="the firmware found nothing to boot", cause=_NO_ANSWER, is_per_nic=True,
    ),
    ConsolePattern(
        id="ipxe-download-failed",
        # iPXE breaks lines at the end of the screen: of the URL only the rest, of its own only the start may be here
        regex=r"^\S+\.{3,} .*\(https?:",
        what="iPXE could not download a file", cause="the server refused it, does not have it, or is not there",
        is_retried=True,
    ),
    ConsolePattern(
        id="ipxe-script-failed", regex=r"^bootproof: iPXE failed to ",
        what="the iPXE boot script gave up", cause="kernel or initrd could not be loaded; the lines above name the URL",
    ),
    # GRUB 2.06 and 2.12: kern/fs.c, kern/disk.c, kern/rescue_reader.c, fs/ext2.c, loader/linux.c; 2.12 names the file
    ConsolePattern(
        id="grub-failed",
        regex=r"error: (\S+:\d+:)?(file `.*' not found|no such (device|partition|disk)|unknown filesystem"
        r"|you need to load the kernel first|invalid (magic number|sector size)|premature end of file"
        r"|attempt to read or write outside|failure reading sector)"
        r"|^Entering rescue mode|Minimal BASH-like line editing",
        what="GRUB could not start a kernel",
        cause="what its menu names is not on BOOT, or BOOT is damaged: the deployment did not finish",
    ),
    # kernel: panic.c, traps.c, watchdog.c, hung_task.c, oom_kill.c, initramfs.c, squashfs, ext4
    ConsolePattern(
        id="kernel-panic", regex=r"Kernel panic - not syncing",
        what="the kernel panicked",
        cause="see the lines before it; without a root file system, the initrd or its drivers",
    ),
    ConsolePattern(
        id="kernel-lockup",
        regex=r"BUG: (soft lockup|workqueue lockup)|INFO: rcu\S* (self-)?detected .*stall"
        r"|blocked for more than \d+ seconds",
        what="the kernel stopped making progress for a while",
        cause="a host that starves the machine, or a driver that waits for its device", blame=Blame.HOST,
        is_final=False,
    ),
    ConsolePattern(
        id="emulator-fault", regex=r"Oops: int3:",
        what="the kernel hit a breakpoint that it had patched into its own code",
        cause="QEMU's TCG with several CPUs missed code that the kernel patched; no fault of the image",
        blame=Blame.HOST, overrides=("kernel-oops",),
    ),
    ConsolePattern(
        id="emulator-fault",
        # the kernel's own, not what a trace takes for registers; bits 22 to 31 are 0: Intel's manual, volume 1, 3.4.3
        regex=r"RSP: 0018:[0-9a-f]{16} EFLAGS: (?!00[0-3])[0-9a-f]{8}$",
        what="the kernel hit a bug with flags set that no processor has",
        cause="QEMU's TCG computed something wrong; no fault of the image", blame=Blame.HOST,
        overrides=("kernel-oops", "kernel-warning"),
    ),
    ConsolePattern(
        id="kernel-oops",
        regex=r"\b(BUG: (?!soft lockup|workqueue lockup)|Oops: |general protection fault|kernel BUG at )",
        what="the kernel hit a bug", cause="a kernel or driver fault: compare with the previous kernel",
    ),
    ConsolePattern(
        id="kernel-warning",
        # until Linux 6.18 "WARNING: CPU: 0 PID: 1 at file:line fn"; since 6.19 "WARNING: file:line at fn, CPU#0"
        regex=r"WARNING: (CPU: \d+ PID: \d+ at |\S+:\d+ at .*CPU#\d+)",
        what="the kernel warned about itself", cause="a kernel or driver fault: compare with the previous kernel",
    ),
    ConsolePattern(
        id="out-of-memory", regex=r"Out of memory: Kill|invoked oom-killer|Initramfs unpacking failed: write error",
        what="the machine ran out of memory", cause="the image needs more memory than boot.memory_mib gives",
    ),
    ConsolePattern(
        id="initrd-corrupt", regex=r"Initramfs unpacking failed: (?!write error)",
        what="the kernel could not unpack the initrd",
        cause="initrd.img is truncated, corrupt, compressed in a way this kernel cannot read, or memory is too small",
    ),
    ConsolePattern(
        id="rootfs-corrupt", regex=r"SQUASHFS error:|attempt to access beyond end of device",
        what="the root file system cannot be read",
        cause="rootfs.squashfs is truncated or corrupt, as served or as downloaded",
    ),
    ConsolePattern(
        id="disk-error", regex=r"EXT4-fs error|JBD2: .*error|I/O error, dev (?!fd0)|Remounting filesystem read-only",
        what="a file system or disk failed", cause="the persistent disk is damaged or failing",
    ),
    # dracut: livenet's fetch-liveupdate and livenetroot, dmsquash-live-root, dracut-lib die()
    ConsolePattern(
        id="rootfs-download-failed",
        regex=r"failed to download live image|dracut.*curl: \(\d+\)|livenet.*curl: \(\d+\)"
        r"|^wget: (can't connect|server returned error|bad address|download timed out)",
        what="the initrd could not download the root file system",
        cause="the server refused it, or the network went away between iPXE and the initrd", is_retried=True,
    ),
    ConsolePattern(
        id="rootfs-not-found",
        regex=r"Failed to find a root filesystem|Don't know how to handle 'root="
        r"|Unable to find a (medium containing a )?live file system",
        what="the initrd has no root file system",
        cause="a truncated download, or dracut's livenet or dmsquash-live module is missing from the initrd",
    ),
    ConsolePattern(
        id="initrd-timeout",
        regex=r"dracut-initqueue.*(starting timeout scripts|[Tt]imeout)|Warning: Not all disks have been found"
        r"|Gave up waiting for root ",
        what="the initrd did not find its root device in time", cause="no driver, no link or no address in the initrd",
    ),
    ConsolePattern(
        id="persist-failed", regex=r"persist: FAILED: ",
        what="the persistent disk could not be taken into use",
        cause="as the message says; no service was started, and the disk was left as it was",
    ),
    ConsolePattern(
        id="initrd-gave-up", regex=r"dracut: (FATAL(?!: Don't know how to handle 'root=)|Refusing to continue)",
        what="the initrd gave up", cause="its message says why",
    ),
    # systemd: manager and job messages on the console
    ConsolePattern(
        id="emergency-mode",
        regex=r"(You are in|Welcome to) (emergency|rescue) mode|Entering emergency mode"
        r"|Reached target (emergency\.target|Emergency Mode)",
        what="systemd fell into emergency mode",
        cause="a mount or unit that the boot requires failed; the lines before name it",
    ),
    ConsolePattern(
        id="systemd-froze", regex=r"^\[!!!!!!\] |systemd\[1\]: Freezing( execution)?\.",
        what="systemd could not continue, and froze", cause="its message says why",
    ),
    ConsolePattern(
        id="unit-failed",
        regex=r"\[ ?FAILED ?\] Failed to (start|mount|listen)|systemd\[1\]: Failed to (start|mount|listen)",
        what="a unit failed during boot", cause="see its journal in the run's folder",
    ),
    ConsolePattern(
        id="unit-dependency-failed", regex=r"\[DEPEND\] Dependency failed for",
        what="a unit was not started because another failed", cause="the unit it needs failed before it",
    ),
    ConsolePattern(
        id="ordering-cycle",
        regex=r"Found ordering cycle|Job .* deleted to break ordering cycle|Breaking ordering cycle by deleting job"
        r"|Ordering cycle found, skipping",
        what="units are ordered in a circle", cause="systemd deleted a job to break the circle: which one is chance",
    ),
)  # fmt: skip


def patterns_in(line: str, *, is_emulated: bool = True) -> list[ConsolePattern]:
    """The patterns that ``line`` matches, without those that another one of them overrides."""
    found = [pattern for pattern in PATTERNS if pattern.matches(line) and (is_emulated or not pattern.overrides)]
    overridden = {name for pattern in found for name in pattern.overrides}
    return [pattern for pattern in found if pattern.id not in overridden]


PHASES: tuple[tuple[str, str], ...] = (
    # a phase begins with the first line that matches; "firmware" begins when QEMU starts
    ("ipxe", r"^iPXE \d|iPXE initialising devices"),
    ("grub", r"GRUB loading|Welcome to GRUB!"),
    ("kernel", r"Linux version \d"),
    ("initrd", r"Run /init as init process"),
    ("userspace", r"Starting initrd-switch-root\.service|Switching root\."),
)
"""The first line of each phase of a boot, in order. The phase "ready" is reported by the guest, not seen here."""


def has_registers(line: str) -> bool:
    """Whether ``line`` has a processor's flags, which x86 kernels print a few lines into a bug report."""
    return "EFLAGS: " in line


def begins_phase(line: str) -> str | None:
    """The phase that begins with ``line``, if any."""
    return next((name for name, pattern in PHASES if re.search(pattern, line)), None)
