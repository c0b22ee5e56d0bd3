"""Logs of consoles from anywhere: each boot, how far it came, and what failed in it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest

from harness.guest.console_log import LogReader
from harness.guest.console_patterns import PATTERNS, has_registers, patterns_in
from harness.guest.console_text import read_text
from harness.guest.logged_boot import LoggedBoot
from harness.model.finding_catalog import explanations

CONSOLES = sorted((Path(__file__).parents[2] / "consoles").glob("*.log"))
GOOD = Path(__file__).parents[2] / "consoles" / "ubuntu-24.04.good.log"
PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
FIRMWARE = "SeaBIOS (version 1.16.2-debian-1.16.2-1)"
IPXE = "iPXE 1.0.0+git-20190125.36a4c85-5.1 -- Open Source Network Boot Firmware"
KERNEL = "[    0.000000] Linux version 6.12.1-amd64 (gcc) #1 SMP"
INITRD = "[    2.100000] Run /init as init process"
READY = "[  OK  ] Reached target multi-user.target - Multi-User System."
REFUSED = "http://10.77.0.1/boot.ipxe... Connection refused (http://ipxe.org/02002098)"


def boots(text: str | bytes) -> tuple[LoggedBoot, ...]:
    reader = LogReader()
    for chunk in read_text(BytesIO(text.encode() if isinstance(text, str) else text)):
        reader.feed(chunk)
    return reader.end()


def only(*lines: str) -> LoggedBoot:
    (boot,) = boots("\n".join(lines) + "\n")
    return boot


def ids(boot: LoggedBoot) -> list[str]:
    return [seen.id for seen in boot.findings]


@pytest.mark.parametrize("file", CONSOLES, ids=lambda file: file.stem)
def test_a_recorded_console_shows_what_was_planted(file: Path) -> None:
    planted = file.name.split(".")[-2]
    text = file.read_text("utf-8").partition("\n")[2]

    (boot,) = boots(text)

    seen = dict.fromkeys(pattern.id for line in text.splitlines() for pattern in patterns_in(line))
    assert ids(boot) == [*seen]
    assert (planted == "good") == (boot.outcome == "ready" and not seen)
    for found in boot.findings:
        assert found.id in [pattern.id for pattern in patterns_in(text.splitlines()[found.quote.line - 1])]


@pytest.mark.parametrize(
    "before",
    [
        "",
        "[Sun Nov 29 05:35:02 2026] ",
        "[2026-11-29T05:35:02+0000] ",
        "Nov 29 05:35:02 ",
        "2026-11-29T05:35:02.123456+01:00 ",
        "[   12.34] ",
        "<6>",
    ],
)
@pytest.mark.parametrize(
    "stamp", ["", "[    2.914511] ", "[    2.914511][    T1] ", "[  +0.000123] ", "[Sun Nov 29 05:35:05 2026] "]
)
def test_times_before_a_line_hide_nothing(before: str, stamp: str) -> None:
    lines = [KERNEL, f"{stamp}usb usb1: New USB device found", f"{stamp}{PANIC}"]

    boot = only(*(f"{before}{line}" for line in lines))

    assert (ids(boot), boot.findings[0].quote.line, boot.stage) == (["kernel-panic"], 3, "kernel")
    assert boot.kernel == "6.12.1-amd64"


@pytest.mark.parametrize("before", ["[Sun Nov 29 05:35:02 2026] ", "[    0.28] ", "Nov 29 05:35:02 ", ""])
def test_a_pattern_for_the_begin_of_a_line_matches_behind_a_time(before: str) -> None:
    assert ids(only(f"{before}{IPXE}", f"{before}{REFUSED}")) == ["ipxe-download-failed"]


@pytest.mark.parametrize(
    "sender",
    [
        "Nov 29 05:35:02 web7 {}: {}",
        "2026-11-29T05:35:02+0000 web7 {}: {}",
        "Nov 29 05:35:02.123456 web7 {}: {}",
        "Sun 2026-11-29 05:35:02 UTC web7 {}: {}",
        "1764394502.123456 web7 {}: {}",
        "[    5.123456] web7 {}: {}",
        "<6>Nov 29 05:35:02 web7 {}: {}",
    ],
)
def test_every_form_of_a_journal_is_read(sender: str) -> None:
    lines = [
        ("kernel", "Linux version 6.1"),
        *[("kernel", "nvme nvme0: 4/0/0 default/read/poll queues")] * 20,
        ("systemd[1]", "Failed to start sshd.service - OpenSSH server daemon."),
        ("systemd[2017]", "Reached target Shutdown."),
        ("mariadbd[812]", "BUG: the server hit general protection fault"),
        ("kernel", "EXT4-fs error (device sda2): ext4_lookup:1855"),
    ]

    boot = only(*(sender.format(*line) for line in lines))

    assert ids(boot) == ["unit-failed", "disk-error"], "what a database reports is not about the boot"
    assert boot.stage == "kernel", "a user's session ended, not the boot"
    assert "journalctl -b -u sshd.service" in "\n".join(boot.next)


def test_two_messages_in_one_line_are_both_found() -> None:
    stall = "[    1.1] INFO: task mount:411 blocked for more than 120 seconds."

    boot = only(KERNEL, f"[    1.0] foo: b{stall}[    2.0] {PANIC}")

    assert sorted(ids(boot)) == ["kernel-lockup", "kernel-panic"]
    assert boot.cause == "kernel-panic"


@pytest.mark.parametrize("width", [80, 100, 132])
@pytest.mark.parametrize("before", ["", "[    1.23] "])
def test_a_message_that_a_terminal_wrapped_is_found(width: int, before: str) -> None:
    filler = "x" * (width - len("Kernel panic - not"))
    lines = [KERNEL, *["y" * (width + 20)] * 10, f"{filler}{PANIC}"]
    wrapped = [line[at : at + width] for line in lines for at in range(0, len(line), width)]

    boot = only(*(f"{before}{line}" for line in wrapped))

    assert len(wrapped) == 23
    assert [(seen.id, seen.quote.line) for seen in boot.findings] == [("kernel-panic", 22)]
    assert PANIC in boot.findings[0].quote.text


def test_a_journal_that_was_copied_from_a_terminal_is_found() -> None:
    messages = [f"kernel: usb 1-{number}: new full-speed USB device " + "x" * 40 for number in range(20)]
    lines = [f"Nov 29 05:35:02 web7 {message}" for message in [*messages, f"kernel: {'x' * 46} {PANIC}", "kernel: end"]]

    boot = only(*(line[at : at + 80] for line in lines for at in range(0, len(line), 80)))

    assert [(seen.id, seen.quote.line) for seen in boot.findings] == [("kernel-panic", 41)]


def test_the_end_of_a_wrapped_line_can_change_what_its_begin_means() -> None:
    assert ids(only(KERNEL, "x" * 65 + "I/O error, dev ", "fd0, sector 0")) == []
    assert ids(only(KERNEL, "x" * 65 + "I/O error, dev ", "sda, sector 0")) == ["disk-error"]


def test_lines_of_eighty_characters_are_not_joined_with_messages_of_their_own() -> None:
    boot = only(KERNEL, "[  OK  ] Reached target ".ljust(80, "x"), f"[    2.9] {PANIC}", "end")

    assert boot.findings[0].quote.text == f"[    2.9] {PANIC}"


@pytest.mark.parametrize(
    "line",
    [
        f"\x1b[2J\x1b[01;01H{PANIC}",
        f"{PANIC[:12]}\x1b[0m\x1b[1;31m{PANIC[12:]}",
        f"{PANIC[:12]}\x1b[05;13H{PANIC[12:]}",
        f"10 %\r20 %\r{PANIC}\r",
        f"{PANIC[:8]}|\b/\b-\b{PANIC[8:]}",
        f"\0\0{PANIC}",
    ],
)
def test_terminal_control_hides_nothing(line: str) -> None:
    assert ids(only(KERNEL, line)) == ["kernel-panic"]


def test_a_download_that_failed_once_and_succeeded_then_is_harmless() -> None:
    boot = only(FIRMWARE, IPXE, REFUSED, REFUSED, KERNEL, INITRD, READY)

    assert (boot.outcome, ids(boot)) == ("ready", [])
    assert [(seen.id, seen.count) for seen in boot.recovered] == [("ipxe-download-failed", 2)]


@pytest.mark.parametrize("end", [[], [IPXE]])
def test_a_download_after_which_nothing_came_is_a_failure(end: list[str]) -> None:
    boot = only(FIRMWARE, IPXE, REFUSED, *end)

    assert (boot.outcome, ids(boot), boot.stage) == ("failed", ["ipxe-download-failed"], "ipxe")
    assert "bootproof boot IMAGE --boot-path ipxe-bios: does the same image fail here?" in boot.next
    assert not any("BUNDLE" in step for step in boot.next)


def test_a_stall_counts_unless_the_boot_became_ready() -> None:
    stall = "[   97.8] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [systemd:1]"

    assert [seen.id for seen in only(KERNEL, stall, READY).recovered] == ["kernel-lockup"]
    assert ids(only(KERNEL, stall, INITRD)) == ["kernel-lockup"]


def test_a_warning_is_not_the_likely_cause_if_something_else_failed() -> None:
    warning = "[    1.0] WARNING: CPU: 0 PID: 1 at fs/inode.c:330 drop_nlink+0x2f/0x40"

    boot = only(KERNEL, warning, f"[    2.0] {PANIC}")

    assert (ids(boot), boot.cause) == (["kernel-warning", "kernel-panic"], "kernel-panic")
    assert only(KERNEL, warning).cause == "kernel-warning"


@pytest.mark.parametrize(
    ("hardware", "cause"),
    [
        ("[    0.0] DMI: QEMU Standard PC (Q35 + ICH9, 2009)", "emulator-fault"),
        ("[    2.4] Hardware name: Dell Inc. PowerEdge R640/0W23H8, BIOS 2.19.1", "kernel-oops"),
        ("[    0.0] Hypervisor detected: KVM", "kernel-oops"),
    ],
)
def test_an_emulator_is_blamed_only_if_there_was_one(hardware: str, cause: str) -> None:
    assert ids(only(KERNEL, "[    2.3] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI", hardware)) == [cause]


def test_each_boot_of_a_log_is_judged_by_itself() -> None:
    lines = [FIRMWARE, IPXE, REFUSED, FIRMWARE, KERNEL, f"[    2.9] {PANIC}", KERNEL, READY, "GRUB loading.", KERNEL]

    found = boots("\n".join(lines))

    assert [(boot.number, boot.first_line, boot.last_line, boot.stage) for boot in found] == [
        (1, 1, 3, "ipxe"), (2, 4, 6, "kernel"), (3, 7, 8, "login"), (4, 9, 10, "kernel"),
    ]  # fmt: skip
    assert [boot.cause for boot in found] == ["ipxe-download-failed", "kernel-panic", "", ""]
    assert [boot.outcome for boot in found] == ["failed", "failed", "ready", "unknown"]


def test_a_banner_in_the_line_of_the_last_words_begins_the_next_boot() -> None:
    first, second = boots(f"{KERNEL}\n---[ end {PANIC} ]---{FIRMWARE}\n{KERNEL}\n{READY}\n")

    assert (first.cause, second.outcome, second.first_line) == ("kernel-panic", "ready", 2)


@pytest.mark.parametrize("mark", ["-- Reboot --", f"-- Boot {'0a' * 16} --"])
def test_journalctl_says_where_a_boot_begins(mark: str) -> None:
    line = "Nov 29 05:35:02 web7 {}"
    panic = line.format(f"kernel: {PANIC}")
    log = [
        line.format("kernel: Linux version 6.1"),
        panic,
        mark,
        line.format("systemd[1]: Reached target Login Prompts."),
    ]

    first, second = boots("\n".join(log))

    assert (first.cause, first.last_line, second.outcome, second.first_line) == ("kernel-panic", 2, "ready", 3)


@pytest.mark.parametrize("form", ["json", "export"])
def test_a_journal_with_two_boots_is_two_boots(form: str) -> None:
    old, new = "0a" * 16, "0b" * 16
    messages = [(old, "kernel", "Linux version 6.1"), (old, "kernel", PANIC), (new, "kernel", "Linux version 6.1"),
                (new, "systemd", "Reached target Login Prompts.")]  # fmt: skip
    entries = [
        {"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1764394502123456", "_BOOT_ID": boot, "_HOSTNAME": "web7",
         "SYSLOG_IDENTIFIER": program, "MESSAGE": message}
        for boot, program, message in messages
    ]  # fmt: skip
    if form == "json":
        text = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    else:
        text = "".join("".join(f"{name}={value}\n" for name, value in entry.items()) + "\n" for entry in entries)

    first, second = boots(text)

    assert (first.cause, second.outcome) == ("kernel-panic", "ready")
    assert first.findings[0].quote.line == {"json": 2, "export": 8}[form]
    assert first.began == "2025-11-29T05:35:02"


def test_a_kernel_below_moves_of_the_cursor_is_one_boot() -> None:
    boot = only(f"\x1b[2J\x1b[1;1H{FIRMWARE}\x1b[2;1H{IPXE}\x1b[3;1H{KERNEL}", INITRD, READY)

    assert boot.stages == ("firmware", "ipxe", "kernel", "initrd", "login")


def test_each_network_card_has_an_ipxe_banner_of_its_own() -> None:
    nothing = "Nothing to boot: No such file or directory (http://ipxe.org/2d03e13b)"

    assert only(FIRMWARE, IPXE, nothing, IPXE, "net1: ok", KERNEL, READY).outcome == "ready"
    assert ids(only(FIRMWARE, IPXE, nothing, IPXE, nothing, "No bootable device.")) == ["no-boot-device"]


def test_a_loaders_message_counts_only_before_the_kernel() -> None:
    missing = "error: file `/boot/vmlinuz' not found."

    assert ids(only("Welcome to GRUB!", missing)) == ["grub-failed"]
    assert ids(only("Welcome to GRUB!", KERNEL, missing)) == []


def test_a_finding_has_the_lines_around_it_but_none_of_the_next_boot() -> None:
    first, _ = boots(f"{KERNEL}\none\n[    2.9] {PANIC}\nCPU: 0 PID: 1\n{FIRMWARE}\n{KERNEL}\n")

    (panic,) = first.findings
    assert (panic.context, panic.following) == ((KERNEL, "one"), ("CPU: 0 PID: 1",))


def test_an_unknown_end_is_called_unknown_with_its_last_lines() -> None:
    boot = only(KERNEL, INITRD, "[    3.0] waiting for the moon", "[-- MARK -- Sun Nov 29 06:00:00 2026]", "")

    assert (boot.outcome, boot.stage, boot.last.line) == ("unknown", "initrd", 3)
    assert boot.tail[-1] == "[    3.0] waiting for the moon"


def test_lines_are_counted_over_chunks_and_a_fault_at_their_border_is_found() -> None:
    good = GOOD.read_text("utf-8").partition("\n")[2]
    copies = 3_000_000 // len(good)

    found = boots(good * copies + f"{KERNEL}\n[    2.9] {PANIC}\n")

    assert len(found) == copies + 1
    assert {boot.outcome for boot in found[:-1]} == {"ready"}
    assert found[-1].findings[0].quote.line == copies * good.count("\n") + 2


def test_every_example_of_the_catalog_is_found_in_a_log() -> None:
    known = {pattern.id for pattern in PATTERNS}
    lines = [
        (name, one.line)
        for name, about in explanations().items()
        if name in known
        for one in about.seen
        if not has_registers(one.line)
    ]  # those mean something only below a bug

    assert [(name, line) for name, line in lines if ids(only("first", line, "last"))[:1] != [name]] == []


_OTHER = "[FAILED] Failed to start apache2.service - The Apache HTTP Server."
_MOUNT = "[FAILED] Failed to mount data.mount - /data."
_DEPENDS = "[DEPEND] Dependency failed for local-fs.target - Local File Systems."
_SHELL = 'You are in emergency mode. After logging in, type "journalctl -xb" to view'


def test_the_cause_of_an_emergency_is_the_last_unit_that_failed_before_it() -> None:
    boot = only(KERNEL, INITRD, _OTHER, _MOUNT, _DEPENDS, _SHELL, "[FAILED] Failed to start late.service - Late.")

    assert boot.main
    assert boot.main.quote.text == _MOUNT
    assert boot.main.context[-1] == _OTHER
    assert boot.findings[0].quote.text == _OTHER
    assert boot.findings[0].count == 3


def test_the_dependency_on_a_missing_device_is_the_cause_of_an_emergency() -> None:
    missing = "[ TIME ] Timed out waiting for device dev-disk-by\\x2dlabel-data.device - /dev/disk/by-label/data."

    boot = only(KERNEL, INITRD, _OTHER, missing, _DEPENDS, _SHELL)

    assert boot.main
    assert boot.main.quote.text == _DEPENDS
    assert boot.main.context[-1] == missing


def test_without_an_emergency_the_first_failed_unit_is_the_cause() -> None:
    boot = only(KERNEL, INITRD, _OTHER, _MOUNT, READY)

    assert boot.main
    assert boot.main.quote.text == _OTHER
    assert ids(boot) == ["unit-failed"]


def test_a_disk_error_before_failed_units_stays_the_cause_of_an_emergency() -> None:
    error = "[   12.400000] blk_update_request: I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x0"

    boot = only(KERNEL, INITRD, error, _OTHER, _MOUNT, _DEPENDS, _SHELL)

    assert boot.main
    assert boot.main.id == "disk-error"
