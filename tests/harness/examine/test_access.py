"""Logins, setuid, ping, kernel arguments; and the clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.errors import ImageError
from harness.examine import access, clock
from harness.examine.access import AccessReading
from harness.examine.clock import ClockReading
from harness.examine.storage import Mount
from harness.examine.units import UnitRow

ROOT = Mount(place="/", kind="overlay", source="LiveOS_rootfs", options=("rw", "upperdir=/run/overlayfs"))
GOOD = AccessReading(arguments=("quiet",), set_uid={"/usr/bin/su": True})
GETTY = UnitRow(id="getty@tty1.service")
ANSWERS = {
    "kernel arguments": "console=ttyS0 quiet",
    "nologin": "look",
    "programs with setuid": "look\nsetuid /usr/bin/su\nplain /usr/bin/mount",
    "ping by an unprivileged user": "status 0\nPING 127.0.0.1",
    "what an ordinary user needs": "status 0\nmay",
    "what PAM says of accounts": "login root 0 Success\nlogin nobody 6 Permission denied\nasked",
    "new files with setuid": "/run/overlayfs\n/run/overlayfs/usr/bin/odd",
    "new files with capabilities": "/run/overlayfs/etc (Not a regular file)\n/run/overlayfs/usr/bin/odd\n"
    "/run/overlayfs/usr/bin/dump cap_net_raw=ep",
}


def found(reading: AccessReading, *mounts: Mount, getty: UnitRow = GETTY, declared: tuple[str, ...] = ()) -> list[str]:
    judged = access.judge(reading, mounts or (ROOT,), {getty.id: getty}, declared)
    return [f"{one.id} {one.path}" for one in judged]


def test_access_is_read() -> None:
    read = access.parse(ANSWERS, (ROOT,))

    assert read.set_uid == {"/usr/bin/su": True, "/usr/bin/mount": False}
    assert read.gained == ("/usr/bin/odd",)
    assert read.capable == ("/usr/bin/dump cap_net_raw=ep",)


@pytest.mark.parametrize("name", sorted(set(ANSWERS) - {"kernel arguments"}))
def test_another_answer_is_an_error(name: str) -> None:
    with pytest.raises(ImageError, match=name):
        access.parse({**ANSWERS, name: "sorry"}, (ROOT,))


@pytest.mark.parametrize("said", ["status 0", "status 127\nsh: setpriv: not found", "status 137"])
def test_a_shell_of_a_user_that_did_not_run_is_an_error(said: str) -> None:
    with pytest.raises(ImageError, match="ordinary user"):
        access.parse({**ANSWERS, "what an ordinary user needs": said}, (ROOT,))


@pytest.mark.parametrize("said", ["status 126\nsetpriv: failed to execute sh: Permission denied", "status 1\nno"])
def test_a_user_who_may_not_is_found(said: str) -> None:
    read = access.parse({**ANSWERS, "what an ordinary user needs": said, "new files with setuid": "absent",
                         "new files with capabilities": "absent"}, (ROOT,))  # fmt: skip

    assert "login-refused user:nobody" in found(read)


@pytest.mark.parametrize(
    ("line", "is_found"),
    [("su nobody 28 Module is unknown", True), ("su root 13 User account has expired", True),
     ("su nobody 6 Permission denied", False), ("su nobody 0 Success", False)],
)  # fmt: skip
def test_an_account_that_pam_refuses_is_found_unless_a_site_may_refuse_it(line: str, is_found: bool) -> None:
    read = access.parse({**ANSWERS, "what PAM says of accounts": f"{line}\nasked"}, (ROOT,))

    assert ("login-refused pam:su" in found(read)) == is_found


def test_a_usual_host_is_in_order() -> None:
    assert found(GOOD) == []


@pytest.mark.parametrize("argument", ["mitigations=off", "nopti", "spectre_v2=off", "apparmor=0"])
def test_a_defence_that_is_off_is_found_unless_it_is_declared(argument: str) -> None:
    weak = replace(GOOD, arguments=(argument,))

    assert found(weak) == ["mitigations-off kernel:arguments"]
    assert found(weak, declared=(argument,)) == []


def test_refused_logins_are_found() -> None:
    assert found(replace(GOOD, nologin=("/run/nologin",))) == ["login-refused /run/nologin"]
    assert found(GOOD, getty=replace(GETTY, active="failed")) == ["login-refused unit:getty.target"]
    assert found(replace(GOOD, user="status 2\nls: cannot open directory")) == ["login-refused user:nobody"]


def test_a_serial_console_of_the_definition_without_a_login_is_found() -> None:
    serial = "login-refused unit:serial-getty@ttyS1.service"

    assert found(GOOD, declared=("console=ttyS1,115200n8", "console=tty0")) == [serial]
    assert found(GOOD, getty=replace(GETTY, id="serial-getty@ttyS1.service"), declared=("console=ttyS1",)) == []


def test_lost_and_new_rights_are_found() -> None:
    assert found(replace(GOOD, set_uid={"/usr/bin/su": False})) == ["setid-lost /usr/bin/su"]
    assert found(GOOD, replace(ROOT, options=("rw", "nosuid"))) == ["setid-lost /usr/bin/su"]
    usr = Mount(place="/usr", kind="squashfs", source="/dev/loop1", options=("ro", "nosuid"))
    assert found(GOOD, ROOT, usr) == ["setid-lost /usr/bin/su"]
    assert found(replace(GOOD, gained=("/usr/bin/odd",))) == ["setid-unexpected /usr/bin/odd"]
    assert found(replace(GOOD, capable=("/usr/bin/dump cap_net_raw=ep",))) == ["setid-unexpected /usr/bin/dump"]


def test_a_refused_ping_is_found_and_a_missing_one_is_said() -> None:
    assert found(replace(GOOD, ping="status 2\nping: socket: Operation not permitted")) == [
        "ping-refused /usr/bin/ping"
    ]
    assert found(replace(GOOD, ping="absent ping")) == []
    assert (
        len(
            list(
                access.unchecked(replace(GOOD, ping="absent ping", user="absent setpriv", capable=None, accounts=None))
            )
        )
        == 4
    )


TIMESYNCD = {"systemd-timesyncd.service": UnitRow(id="systemd-timesyncd.service")}


def times(reading: ClockReading, units: dict[str, UnitRow] = TIMESYNCD) -> list[str]:
    return [f"{one.id} {one.path}" for one in clock.judge(reading, units)]


def test_the_clock_is_read() -> None:
    read = clock.parse({"date": "1000 +0100", "the RTC's zone": "0.0 0 0.0\n0\nLOCAL"}, 990.0)

    assert read == ClockReading(ahead_s=10.0, zone="+0100", adjtime="0.0 0 0.0\n0\nLOCAL")
    with pytest.raises(ImageError, match="date"):
        clock.parse({"date": "sorry"}, 0.0)


def test_a_clock_that_is_kept_is_in_order() -> None:
    assert times(ClockReading(ahead_s=-3.0)) == []


@pytest.mark.parametrize(
    ("reading", "finding"),
    [
        (ClockReading(ahead_s=3600.0), "clock-wrong clock:system"),
        (ClockReading(ahead_s=-9999.0), "clock-wrong clock:system"),
        (ClockReading(zone="+0200"), "clock-wrong /etc/localtime"),
        (ClockReading(adjtime="0.0 0 0.0\n0\nLOCAL"), "clock-wrong /etc/adjtime"),
    ],
    ids=["ahead", "behind", "zone", "local"],
)
def test_another_clock_is_found(reading: ClockReading, finding: str) -> None:
    assert times(reading) == [finding]


def test_a_clock_that_nobody_keeps_is_found() -> None:
    assert times(ClockReading(), {}) == ["clock-not-set /etc/systemd/timesyncd.conf"]
    stopped = {name: replace(row, active="inactive") for name, row in TIMESYNCD.items()}
    assert times(ClockReading(), stopped) == ["clock-not-set /etc/systemd/timesyncd.conf"]
