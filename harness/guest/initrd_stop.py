"""Stopping a guest in its initrd, before any of its units looks for a disk, until it has the disks of one machine.

A unit that comes as systemd credentials stops the boot when the root file system is on /sysroot: ``Before=`` keeps all
units that come after ``initrd-root-fs.target``. It talks on the second serial port, which the shell takes later:

    guest → host   \\n bootproof-stop \\n
    host → guest   go DISKS EPOCH \\n                DISKS is how many the guest must know, EPOCH the time to set
    guest → host   \\n bootproof-goes \\n             or \\n bootproof-stays REASON \\n, and it stays stopped
    host → guest   \\n                              it goes; what is not sent when the script ends is lost
"""

from __future__ import annotations

import time

from harness.core.deadline import Deadline
from harness.guest.serial_shell import SerialChannel

CLOCK_LATE_S = 0.05
"""About as long as a guest that has just continued takes until it sets the clock."""

_STOPPED, _ANSWER, _GOES = "bootproof-stop", "bootproof-", "goes"

_SCRIPT = f"""\
know_disks() {{
    known=0
    for file in /sys/block/sd*/dev; do
        [ -e "$file" ] && read -r number <"$file" && [ -e "/run/udev/data/b$number" ] && known=$((known + 1))
    done
    [ $known -ge "$1" ]
}}
printf '\\n{_STOPPED}\\n'
while read -r verb disks now; do
    [ "$verb" = go ] || continue
    problem=$(chroot /sysroot date -s "@$now" 2>&1 >/dev/null) || {{
        printf '\\n{_ANSWER}stays %s\\n' "its clock cannot be set: $problem"
        continue
    }}
    tries=0
    until know_disks "$disks" || [ $tries -ge 300 ]; do tries=$((tries + 1)); sleep 0.1; done
    if know_disks "$disks"; then
        udevadm settle --timeout=10
        printf '\\n{_ANSWER}{_GOES}\\n'
        read -r _
        exit 0
    fi
    printf '\\n{_ANSWER}stays %s\\n' "it knows $known of $disks disks"
done
"""
"""Needs what an initrd of dracut has, and date(1) of the root file system. udev has read a disk when its database has
an entry; in a boot from power-on it has read all disks by then."""

STOP_UNIT = "bootproof-stop.service"
_UNIT = """\
[Unit]
Description=Stop of the boot until Bootproof attaches the disks
ConditionPathExists=/etc/initrd-release
DefaultDependencies=no
After=sysroot.mount
Before=initrd-root-fs.target initrd-parse-etc.service
Conflicts=shutdown.target emergency.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /run/credentials/@system/bootproof.stop
StandardInput=tty-force
StandardOutput=tty
StandardError=journal
TTYPath=/dev/ttyS1
"""

STOP_CREDENTIALS = {
    "bootproof.stop": _SCRIPT,
    f"systemd.extra-unit.{STOP_UNIT}": _UNIT,
    "systemd.unit-dropin.initrd-root-fs.target~bootproof": f"[Unit]\nWants={STOP_UNIT}\n",
}
"""The credentials that stop an unmodified guest in its initrd (systemd 256 or newer)."""


def wait_for_stop(serial: SerialChannel, deadline: Deadline) -> None:
    """Wait until the guest has stopped in its initrd; `ChannelTimeout` if it has not by then."""
    serial.wait_for_text(f"\n{_STOPPED}", "the stop in the initrd", deadline)


def go_on(serial: SerialChannel, disks: int, deadline: Deadline) -> str:
    """Let the guest go on with this host's clock when it knows that many ``disks``; why it stays, empty if it goes.

    Raises `ChannelTimeout` and `ChannelClosed`.
    """
    serial.send_line(f"go {disks} {time.time() + CLOCK_LATE_S:.3f}")
    awaited = f"the {disks} disks in the initrd"
    serial.wait_for_text(f"\n{_ANSWER}", awaited, deadline)
    answer = serial.wait_for_text("\n", awaited, deadline).strip()
    if answer == _GOES:
        serial.send_line("")
        return ""
    return answer.removeprefix("stays ")
