"""What in a line of a console shows when it was printed, by which program, and how far the boot came."""

from __future__ import annotations

import re

from harness.guest.console_patterns import PHASES
from harness.guest.console_text import BREAK

STAGES = ("unknown", "firmware", "ipxe", "grub", "kernel", "initrd", "switch-root", "userspace", "login", "shutdown")
"""How far a boot came, in order. ``unknown``: nothing shows it."""

_DATED = (
    r"(?:\[(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:[.,]\d+)?(?: [A-Z]{3,5})?(?: \d{4})?\]"  # dmesg -T
    r"|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|[A-Z]{3,5}\b|[+-]\d\d:?\d\d))?\]?"  # ISO 8601
    r"|[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [A-Z]{3,5}"  # journalctl -o short-full
    r"|[A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d(?:\.\d+)?"  # RFC 3164, ts(1)
    r"|\d{10}\.\d{3,6})"  # journalctl -o short-unix
)
STAMPS = re.compile(
    rf"(?:(?:{_DATED}"
    r"|\[ *\d+\.\d{1,6}\]|\[ *[TC]\d+\]"  # printk and its caller, short-monotonic, Bootproof's console.log
    r"|\[ *\+\d+\.\d{6}\]|\[[A-Z][a-z]{2} ?\d+ \d\d:\d\d\]"  # dmesg -H
    r"|<\d{1,3}>) ?)+"
)
OUTER = re.compile(rf"(?:{_DATED}|\[ *\d+\.\d\d\]) ?")
"""A time that whatever kept the console put before each line."""
PRINTK = re.compile(r".*\[ *\d+\.\d{6}\]")
_DATE = re.compile(r"(?:[A-Z][a-z]{2} )?(?:[A-Z][a-z]{2} [ \d]\d |\d{4}-\d\d-\d\d[T ])\d\d:\d\d:\d\d(?: \d{4}(?=\]))?")
SENDER = re.compile(r"(?!\[)\S+ (?P<program>[\w./@()+:-]+?)(?P<pid>\[\d+\])?: ?")
BOOT_PROGRAMS = re.compile(
    r"kernel|systemd.*|\(.*|dracut.*|init|initrd.*|initramfs.*|systemctl|persist|mount|fsck.*|e2fsck|curl|wget|live.*"
    r"|casper.*|udev.*|bootproof.*|.*-generator|zram.*|switch_root|modprobe|lvm|mdadm|iscsi.*|multipath.*|NetworkManager"
)
"""What reports on a boot in a journal or syslog. Others, such as a database, have errors of their own."""
LOADER_FINDINGS = ("no-boot-device", "ipxe-", "grub-", "firmware-")

_MOST_DATE, _MOST_BEFORE_DATE, _MOST_LINES_BEFORE_DATE = 12, 4096, 10

_STAGE_MARKS = (
    ("shutdown", r"reboot: (Restarting system|Power down|System halted)|systemd-shutdown\[1\]: "
                 r"|Reached target .*((shutdown|poweroff|reboot)\.target|Shutdown|Power-Off|System Reboot)"),
    ("login", r"(?<!Last )\blogin: ?[^\s\[]*(\s*\[.*)?$|Reached target .*((multi-user|graphical|getty)\.target"
              r"|Multi-User System|Graphical Interface|Login Prompts)"),
    ("userspace", r"Welcome to (?!GRUB|emergency|rescue)(?!.*([Ii]nitramfs|dracut|initrd)).+!|INIT: version \d"
                  r"|Run /(sbin|etc|bin)/\w+ as init process|Permit User Sessions|Getty on |User Login Management"),
    ("initrd", r"Running in init(ial RAM disk|rd|ramfs)|dracut-(cmdline|pre-udev|initqueue)\b|Loading, please wait"
               r"|Begin: Loading essential drivers|Welcome to .*([Ii]nitramfs|dracut|initrd)"),
    ("grub", r"Booting a command list|ISOLINUX \d|PXELINUX \d|SYSLINUX \d|EFI stub: "),
    ("firmware", r"SeaBIOS \(version |BdsDxe: |UEFI firmware|American Megatrends|Phoenix\S* BIOS|System BIOS"
                 r"|Intel\(R\) Boot Agent|PXE-[EM]\d\d|>>Start (PXE|HTTP) |No bootable (option or )?device"),
)  # fmt: skip
"""Besides `PHASES`; of the stages that a line shows, the latest comes first."""
_POWER_ON = re.compile(r"SeaBIOS \(version |UEFI firmware|American Megatrends")
NEW_JOURNAL = re.compile(r"^-- (Reboot|Boot [0-9a-f]{32}) --")
HARDWARE = re.compile(r"DMI: |Hardware name: |Hypervisor detected: KVM")
EMULATOR = re.compile(r"(DMI|Hardware name): (QEMU|Bochs)")
RELEASE = re.compile(r"Linux version (\S+)")
MARK_WORDS = frozenset(
    b"reboot Reboot Boot shutdown Shutdown poweroff Power login Login multi Multi graphical Graphical getty Getty"
    b" Welcome INIT Run Permit Running dracut Loading Begin Booting ISOLINUX PXELINUX SYSLINUX stub SeaBIOS BdsDxe UEFI"
    b" Megatrends BIOS Agent PXE Start bootable iPXE GRUB Linux switch Switching DMI Hardware Hypervisor EFLAGS".split()
)
"""Each line that shows a stage, a boot or the hardware has one of these words."""
_STAGE_OF = {"userspace": "switch-root"}
"""What `PHASES` calls user space begins with the switch of root."""
_STAGE_REGEXES = [
    (stage, re.compile(regex))
    for stage, regex in (*((_STAGE_OF.get(phase, phase), regex) for phase, regex in PHASES), *_STAGE_MARKS)
]
_ANYWHERE = [
    re.compile(re.sub(r"(?<!\[)\^", "", regex))
    for regex in (
        "|".join(regex for _, regex in (*PHASES, *_STAGE_MARKS)),
        "|".join((NEW_JOURNAL.pattern, HARDWARE.pattern, "EFLAGS: ")),
    )
]
READY = STAGES.index("login")
NOISE = re.compile(r"^\s*(\[-- .*\])?\s*$|^\[[ *]+\] ")
"""conserver's own lines, systemd's spinner, blank ones: never the last line of a boot."""


def stage_of(text: str) -> tuple[str, int] | None:
    """The stage that ``text`` shows, and where in it."""
    return next(((stage, match.start()) for stage, regex in _STAGE_REGEXES if (match := regex.search(text))), None)


def may_be_mark(line: str) -> bool:
    """Whether ``line``, whatever is before the message in it, may show a stage, a boot or the hardware."""
    return any(regex.search(line) for regex in _ANYWHERE)


def rank(stage: str) -> int:
    return STAGES.index(stage)


def begins_boot(stage: str, text: str, reached: int) -> bool:
    """Whether ``text``, which shows ``stage``, is of the next boot after one that ``reached`` another."""
    if stage in ("firmware", "ipxe", "grub"):
        return reached >= rank("kernel") or (reached >= rank("ipxe") and bool(_POWER_ON.match(text)))
    return (stage == "kernel" and reached >= rank("kernel")) or (stage == "initrd" and reached >= READY)


def date_of(text: str) -> str:
    """The time beside the first line that has one, of a few; empty if none has."""
    for line in text[:_MOST_BEFORE_DATE].split("\n")[:_MOST_LINES_BEFORE_DATE]:
        match = _DATE.search(line.rpartition(BREAK)[2])
        if match and match.start() < _MOST_DATE and not NOISE.match(line):
            return match[0]
    return ""
