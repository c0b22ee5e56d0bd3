"""Denials, errors that nobody expects, and lost entries."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import journal
from harness.examine.journal import Entry, JournalReading
from harness.model.definition import ExpectedError

ANSWERS = {
    "errors in the journal": 'look\n{"UNIT":"a.service","MESSAGE":"it broke","SYSLOG_IDENTIFIER":"systemd"}\n'
    '{"SYSLOG_IDENTIFIER":"kernel","MESSAGE":[104,105]}\n{"MESSAGE":null}',
    "messages of systemd": "look\nStarted a.service.",
    "messages of the kernel": "Linux version 6.12\nCommand line: quiet",
    "messages of the journal itself": "look\nJournal started",
    "messages of the bus": "look",
    "the log of auditd": "absent",
    "files of the journal": "look\n/run/log/journal/1/system.journal",
}
APPARMOR = (
    'audit: type=1400 audit(1.5:7): apparmor="DENIED" operation="open" class="file" profile="libvirtd" '
    'name="/data/x" pid=9 comm="libvirtd" requested_mask="r" denied_mask="r" fsuid=0 ouid=0'
)
SECCOMP = 'audit: type=1326 audit(1.5:8): auid=4294967295 uid=0 pid=9 comm="worker" exe="/usr/bin/w" sig=31'
SELINUX = 'audit: type=1400 audit(1.5:9): avc:  denied  { read } for  pid=9 comm="sshd" name="x" dev="sda2" ino=7'


def found(reading: JournalReading, *expected: ExpectedError) -> list[tuple[str, str]]:
    return [(one.id, one.path) for one in journal.judge(reading, expected)]


def test_the_journal_is_read() -> None:
    read = journal.parse(ANSWERS)

    assert [(one.source, one.message) for one in read.errors] == [
        ("a.service", "it broke"),
        ("kernel", "hi"),
        ("kernel", ""),
    ]
    assert read.systemd == ("Started a.service.",)
    assert read.places == ("/run/log/journal/1/system.journal",)


@pytest.mark.parametrize("name", sorted(set(ANSWERS)))
def test_another_answer_is_an_error(name: str) -> None:
    with pytest.raises(ImageError, match=name):
        journal.parse({**ANSWERS, name: "sorry"})


def test_a_quiet_journal_is_in_order() -> None:
    boot = ("Linux version 6.12", 'apparmor="STATUS" operation="profile_load"', "systemd 257 running (+SMACK +SECCOMP)")

    assert not found(JournalReading(kernel=boot))


@pytest.mark.parametrize(
    ("line", "program"), [(APPARMOR, "libvirtd"), (SECCOMP, "worker"), (SELINUX, "sshd")], ids=["aa", "seccomp", "se"]
)
def test_a_denial_is_found(line: str, program: str) -> None:
    assert found(JournalReading(kernel=(line, line))) == [("access-denied", f"process:{program}")]


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ('apparmor="DENIED" operation="dbus_method_call" bus="system" mask="send" label="site"', "site"),
        ('type=AVC msg=audit(1.0:1): apparmor="DENIED" operation="open" profile="x" comm="reader"', "reader"),
        ("type=SECCOMP msg=audit(1.0:2): auid=0 sig=31", "a program"),
    ],
    ids=["bus", "auditd", "no-program"],
)
def test_a_denial_that_the_kernel_log_lacks_is_found(line: str, program: str) -> None:
    assert found(JournalReading(audit=(line,))) == [("access-denied", f"process:{program}")]


def test_an_error_is_found_once_with_its_unit_and_is_known_if_it_is_declared() -> None:
    errors = tuple(Entry(source="a.service", message=f"no sensor {number}") for number in range(9))
    reading = JournalReading(errors=errors)

    assert found(reading) == [("journal-error", "journal:a.service")]
    assert not found(reading, ExpectedError(message="^no sensor", reason="none here"))


def test_errors_that_any_board_makes_are_in_order() -> None:
    errors = (Entry(source="kernel", message="kvm: no hardware support"),)

    assert not found(JournalReading(errors=errors))


@pytest.mark.parametrize(
    "reading",
    [JournalReading(journald=("Suppressed 1200 messages from a.service",)), JournalReading(places=())],
    ids=["lost", "none"],
)
def test_a_journal_that_keeps_too_little_is_found(reading: JournalReading) -> None:
    assert found(reading) == [("journal-not-kept", "journal:systemd-journald")]


@pytest.mark.parametrize("path", ["/var/log", "/var/log/journal"])
def test_a_journal_in_ram_is_found_if_the_definition_keeps_it(path: str) -> None:
    def paths(*places: str) -> list[str]:
        return [one.path for one in journal.judge(JournalReading(places=places), (), ("/etc/nova", path))]

    assert paths("/run/log/journal/0/system.journal") == ["/var/log/journal"]
    assert paths("/var/log/journal/0/system.journal") == []
