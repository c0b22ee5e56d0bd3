"""Console patterns match lines that mean trouble, as several generations of kernels print them, and no others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.guest.console_patterns import PATTERNS, Source, begins_phase, patterns_in, unstamped
from harness.guest.regex_words import whole_words, words_of
from harness.model.finding_catalog import Example, explanations, nearest

KNOWN = [(name, one) for name, about in explanations().items() for one in about.seen]
"""Lines of consoles of several generations, each with the finding that it shows."""

CONSOLES = Path(__file__).parents[2] / "consoles"
RECORDED = sorted(CONSOLES.glob("*.log"))
"""Whole consoles, by system and by what was planted; see record.py beside them."""


@dataclass(frozen=True, slots=True)
class Row:
    """A console line and the ids of the findings that it must give: one or none. A public report has no source."""

    expected: tuple[str, ...]
    line: str
    source: Source | None = None


def _rows(file: str) -> list[Row]:
    table = [text.split("\t") for text in (CONSOLES / file).read_text("utf-8").splitlines()[1:]]
    return [
        Row(
            expected=() if expected == "NONE" else (expected,),
            line=line,
            source=Source(program=origin[0], file=origin[1], versions=origin[2]) if len(origin) == 3 else None,
        )
        for expected, line, *origin in table
    ]


MESSAGES = _rows("messages.tsv")
"""The messages of each source file that a pattern names, as they look on a console."""

PUBLIC = _rows("public-lines.tsv")

TROUBLE = {
    "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)": "kernel-panic",
    "[    9.1] WARNING: CPU: 0 PID: 1 at fs/inode.c:330 drop_nlink+0x2f/0x40": "kernel-warning",  # until 6.18
    "[    9.1] WARNING: fs/inode.c:330 at drop_nlink+0x2f/0x40, CPU#0: systemd/1": "kernel-warning",  # since 6.19
    "[    5.0] BUG: kernel NULL pointer dereference, address: 0000000000000008": "kernel-oops",
    "[    5.0] Oops: general protection fault, probably for non-canonical address": "kernel-oops",
    "[    2.3] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI": "emulator-fault",
    "[  118.9] RSP: 0018:ffffb5e840013a58 EFLAGS: 0600d622": "emulator-fault",
    "[    0.0] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug": "emulator-fault",
    "[   97.8] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [systemd:1]": "kernel-lockup",
    "[  242.6] INFO: task mount:411 blocked for more than 120 seconds.": "kernel-lockup",
    "[    0.9] Initramfs unpacking failed: invalid magic at start of compressed archive": "initrd-corrupt",
    "[    0.9] Initramfs unpacking failed: write error": "out-of-memory",
    "[   31.0] Out of memory: Killed process 711 (nova-compute)": "out-of-memory",
    "[   12.4] SQUASHFS error: Unable to read page, block 2a1, size 1f": "rootfs-corrupt",
    "[   12.4] loop0: rw=524288, sector=9 attempt to access beyond end of device": "rootfs-corrupt",
    "[   40.2] EXT4-fs error (device sda2): ext4_lookup:1855: inode #12": "disk-error",
    "persist: FAILED: /var/lib/nova is a folder in the image, not a link": "persist-failed",
    "[FAILED] Failed to start nova-api.service - OpenStack API.": "unit-failed",
    "[DEPEND] Dependency failed for data.mount - /data.": "unit-dependency-failed",
    "[    3.1] systemd[1]: sysinit.target: Found ordering cycle on a.service/start": "ordering-cycle",
    "You are in emergency mode. After logging in, type \"journalctl -xb\"": "emergency-mode",
    "dracut-initqueue[512]: Warning: dracut-initqueue: timeout, still waiting for following": "initrd-timeout",
    "Warning: failed to download live image: error 22": "rootfs-download-failed",
    "tftp://10.77.0.1/undionly.kpxe.................. Connection timed out (http://ip": "ipxe-download-failed",
    "4/vmlinuz... No such file or directory (http://ipxe.org/2d0c613b)": "ipxe-download-failed",
    "bootproof: iPXE failed to fetch the kernel from http://10.77.0.1/x/vmlinuz": "ipxe-script-failed",
    "No bootable device.": "no-boot-device",
    "error: file `/8592356f1c25/vmlinuz' not found.": "grub-failed",  # 2.06
    "error: ../../grub-core/fs/fshelp.c:257:file `/8592356f1c25/vmlinuz' not found.": "grub-failed",  # 2.12
    "error: no such device: bootproof-boot.": "grub-failed",
    "Entering rescue mode...": "grub-failed",
}  # fmt: skip

HARMLESS = (
    "[    0.1] x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'",
    "[    1.1] Run /init as init process",
    "[  OK  ] Started ssh.service - OpenBSD Secure Shell server.",
    "[    2.0] evm: overlay not supported",
    "[   12.2] platform regulatory.0: Direct firmware load for regulatory.db failed with error -2",
    "/lib/dracut/hooks/cmdline/29-parse-livenet.sh: line 36: get_url_handler: command not found",
    "[    0.2] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
    "http://10.77.0.1/abc/vmlinuz... ok",
    "error: no suitable video mode found.",
    "Welcome to GRUB!",
    "[    4.4] systemd[1]: emergency.service - Emergency Shell was skipped",
    # Linux 3.10 to 6.12, on hardware that is well
    "[   42.6] RSP: 002b:00007ffc772563b8 EFLAGS: 00000202 ORIG_RAX: 0000000000000001",
    "[    5.0] RSP: 0018:ffffaf06803b7e30 EFLAGS: 003f7fd7",  # all that there are
    "[    5.0] RSP: 3fa6:ffff88ba5e554200 EFLAGS: ffffffff9d50c0e0 ORIG_RAX: ffffffff81c0f5b2",  # a trace's mistake
    "[    5.0] RSP: 002b:00007ffc772563b8 EFLAGS: fffffe00 ORIG_RAX: 0000000000000001",
    "[    0.0] Command line: BOOT_IMAGE=/vmlinuz panic=10 oops=panic rd.debug",
    "[    0.4] ACPI BIOS Error (bug): Could not resolve symbol [\\_SB.PCI0.LPCB.HEC.ECAV], AE_NOT_FOUND",
    "[    0.0] [Firmware Bug]: TSC ADJUST: CPU0: -2391 force to 0",
    "[    0.1] rcu: Hierarchical RCU implementation.",
    "[    0.1] rcu: RCU calculated value of scheduler-enlistment delay is 25 jiffies.",
    "[    0.2] watchdog: Delayed init of the lockup detector failed: -19",
    "[    0.2] NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
    "[    1.0] ERST: Error Record Serialization Table (ERST) support is initialized.",
    "[    1.1] mce: CPU0: Thermal monitoring enabled (TM1)",
    "[    1.4] x86/cpu: SGX disabled by BIOS.",
    "[    2.2] blk_update_request: I/O error, dev fd0, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
    "[    2.2] I/O error, dev fd0, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
    "[    2.9] EXT4-fs (sda2): mounted filesystem with ordered data mode. Opts: errors=remount-ro",
    "[    2.9] EXT4-fs (sda2): recovery complete",
    "[    3.0] squashfs: version 4.0 (2009/01/31) Phillip Lougher",
    "[    3.3] PM: Image not found (code -22)",
    "[    7.0] printk: systemd: 24 output lines suppressed due to ratelimiting",
    "[    9.9] oom_kill: memory cgroup accounting is on",
    # systemd 219 to 257
    "[    4.4] systemd[1]: Failed to find module 'autofs4'",
    "[    4.4] systemd[1]: Condition check resulted in Rebuild Dynamic Linker Cache being skipped.",
    "[    4.4] systemd[1]: Stopped target Local File Systems.",
    "[  OK  ] Stopped target emergency.target - Emergency Mode.",
    "[  OK  ] Finished systemd-fsck@dev-disk-by\\x2dlabel-DATA.service - File System Check.",
    "[ INFO ] Update UTMP about System Runlevel Changes is not active.",
    "[ TIME ] Timed out waiting for device dev-disk-by\\x2dlabel-other.device.",
    # initrds and boot loaders
    "Gave up waiting for suspend/resume device",
    "dracut-initqueue[300]: mount: /run/initramfs/live: WARNING: source write-protected, mounted read-only.",
    "dracut-cmdline[201]: Using kernel command line parameters: root=live:http://10.77.0.1/rootfs.squashfs",
    'BdsDxe: starting Boot0001 "UEFI PXEv4 (MAC:525400770000)" from PciRoot(0x0)',
    'BdsDxe: failed to load Boot0001 "UEFI QEMU DVD-ROM" from PciRoot(0x0): Not Found',
    "Booting from Hard Disk...",
)


@pytest.mark.parametrize("line", TROUBLE)
def test_trouble_is_named(line: str) -> None:
    assert [pattern.id for pattern in patterns_in(line)] == [TROUBLE[line]]


@pytest.mark.parametrize("line", HARMLESS)
def test_no_pattern_matches_what_a_healthy_boot_prints(line: str) -> None:
    assert list(patterns_in(line)) == []


@pytest.mark.parametrize(("name", "seen"), KNOWN, ids=lambda value: getattr(value, "of", value))
def test_each_generation_of_programs_is_understood(name: str, seen: Example) -> None:
    assert [pattern.id for pattern in patterns_in(seen.line)] == [name]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("[    2.3] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI", ["kernel-oops"]),
        ("[  118.9] RSP: 0018:ffffb5e840013a58 EFLAGS: 0600d622", []),
    ],
)
def test_an_emulator_fault_is_not_suspected_of_a_machine_under_kvm(line: str, named: list[str]) -> None:
    assert [pattern.id for pattern in patterns_in(line, is_emulated=False)] == named


def _ids(line: str) -> tuple[str, ...]:
    return tuple(pattern.id for pattern in patterns_in(line))


def _misjudged(rows: list[Row]) -> list[tuple[tuple[str, ...], Row]]:
    return [(_ids(row.line), row) for row in rows if _ids(row.line) != row.expected]


def test_every_message_of_the_sources_is_judged_right() -> None:
    assert _misjudged(MESSAGES) == []


@pytest.mark.parametrize("row", PUBLIC, ids=lambda row: row.line[:60])
def test_a_line_of_a_public_report_is_judged_right(row: Row) -> None:
    assert _ids(row.line) == row.expected


STAMPS = {
    "Linux": ("[  369.783040] ", "[  369.783040][    C0] ", "[    0.9][ T1234] ", "<4>[    0.9] ", "[ 1.2] [    0.9] ",
              "Nov 29 06:07:12 node7 kernel: ", "2026-11-29T06:07:12.123456+00:00 node7 kernel: [    0.9] ",
              "[2026-11-29 06:07:12] [    0.9] "),
    "systemd": ("[    9.2] ", "Nov 29 06:07:12 node7 ", "2026-11-29T06:07:12+0000 node7.a ", "[    9.2][    T1] "),
    "dracut": ("[   12.1] ", "[   12.1][  T519] ", "Nov 29 06:07:12 localhost "),
}  # fmt: skip
"""What consoles, logs of consoles, syslog and the journal print before the message of a program."""


@pytest.mark.parametrize("program", STAMPS)
def test_time_stamps_before_a_message_do_not_change_its_judgement(program: str) -> None:
    rows = [row for row in MESSAGES if row.source and row.source.program == program]
    stamped = [
        Row(row.expected, stamp + unstamped(row.line))
        for stamp in STAMPS[program]
        for row in rows
        if program == "Linux" or re.match(r"\S+\[\d+\]: ", row.line)
    ]

    assert len(stamped) > 30
    assert _misjudged([Row(row.expected, unstamped(row.line)) for row in rows] + stamped) == []


def test_each_source_of_a_pattern_has_messages_and_each_message_a_pattern_that_names_its_source() -> None:
    named = {(source.program, source.file) for pattern in PATTERNS for source in pattern.sources}

    assert named == {(row.source.program, row.source.file) for row in MESSAGES if row.source}


def test_each_regular_expression_is_shown_by_a_message() -> None:
    lines = [unstamped(row.line) for row in MESSAGES if row.expected]

    unused = [
        regex
        for pattern in PATTERNS
        for regex in pattern.any_of
        if not any(re.search(regex, line) and pattern.matches(line) for line in lines)
    ]
    assert unused == []


def test_only_lines_with_a_word_of_a_pattern_are_searched_and_none_is_missed() -> None:
    for line in [row.line for row in (*MESSAGES, *PUBLIC)]:
        matching = {pattern.id: pattern for pattern in reversed(PATTERNS) if pattern.matches(line)}
        overridden = {name for pattern in matching.values() for name in pattern.overrides}

        assert {pattern.id: pattern for pattern in patterns_in(line)} == {
            name: pattern for name, pattern in matching.items() if name not in overridden
        }


def test_a_line_gives_each_finding_once() -> None:
    line = "[   41.0] nvme nvme0: Identify Controller failed (-5)"
    assert len([pattern for pattern in PATTERNS if pattern.matches(line)]) > 1

    assert _ids(line) == ("disk-error",)


def test_words_are_between_blanks_punctuation_and_what_is_not_ascii() -> None:
    assert words_of("[ 0.9] EXT4-fs (sda2): “read_only”") == [b"0", b"9", b"EXT4", b"fs", b"sda2", b"read_only"]
    assert whole_words(r"^EXT4-fs \(\S+\): (re)?mounted [a-z]+ read\b only") == [b"EXT4", b"fs", b"read"]


@pytest.mark.parametrize("regex", ["no words|at all", r"\S+(one word)", "un?bounded"])
def test_a_regular_expression_without_a_whole_word_is_refused(regex: str) -> None:
    with pytest.raises(ValueError, match=r"whole word|alternatives"):
        whole_words(regex)


BEGINS: dict[str, list[tuple[str, ...]]] = {
    "crash": [("kernel-panic",), ("kernel-oops",)],  # sysrq's c wrote to address 0 until Linux 5.2
    "kernel-panic": [("rootfs-not-found", "kernel-panic")],  # the kernel finds no root device, and panics
    "initrd-corrupt": [("initrd-corrupt",), ("kernel-oops",)],  # Linux 5.4's unlz4 reads beyond the end of a cut one
    # dracut 110 has no queue in an initrd for a local disk: systemd waits, and names sysroot.mount
    "initrd-timeout": [("initrd-timeout",), ("unit-dependency-failed", "emergency-mode")],
    "unit-dependency-failed": [("unit-failed", "unit-dependency-failed")],
}
"""The first patterns that a recorded console may show, where that is not just the one in its name."""


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_a_recorded_console_shows_what_was_planted_and_nothing_before(file: Path) -> None:
    planted = file.name.split(".")[-2]
    seen = [pattern.id for line in file.read_text("utf-8").splitlines()[1:] for pattern in patterns_in(line)]

    if planted == "good":
        assert seen == []
    else:
        distinct = tuple(dict.fromkeys(seen))
        assert any(distinct[: len(begin)] == begin for begin in BEGINS.get(planted, [(planted,)]))


def test_consoles_of_several_generations_are_recorded() -> None:
    kernels = {file.read_text("utf-8").split(" ", 3)[2].rsplit(".", 1)[0] for file in RECORDED}

    assert len(kernels) >= 4


def test_every_pattern_has_lines_that_show_it() -> None:
    assert {pattern.id for pattern in PATTERNS} == {name for name, _ in KNOWN}


def test_a_line_that_no_pattern_matches_is_named_by_the_most_similar_one() -> None:
    novel = "[  77.1] NMI watchdog: PANIC: soft lockup - CPU#0 stuck for 61s! [kworker/0:1]"
    assert list(patterns_in(novel)) == []

    assert nearest(["[  OK  ] Started ssh.service - OpenBSD Secure Shell server.", novel]) == ("kernel-lockup", novel)
    assert nearest(HARMLESS[:12]) == ("", "")
    assert nearest([]) == ("", "")


def test_phases_begin_where_firmware_kernel_and_systemd_say_so() -> None:
    lines = [
        "iPXE 1.0.0+git",
        "Welcome to GRUB!",
        "[    0.0] Linux version 6.12.1",
        "Run /init as init process",
        "Switching root.",
    ]

    assert [begins_phase(line) for line in lines] == ["ipxe", "grub", "kernel", "initrd", "userspace"]
