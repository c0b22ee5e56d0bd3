"""Waiting until a guest is ready, and until its CPUs are idle: the guest itself waits, in one command."""

from __future__ import annotations

import shlex

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel
from harness.model.definition import ImageDefinition

_WAIT_UNTIL_READY = """
demanded={demanded}
waiting=" {waiting} "
while :; do
    busy=
    while read -r _ unit _ state; do
        [ -n "$unit" ] || continue
        case "$waiting" in *" $unit "*) continue ;; esac
        if [ "$state" = running ]; then busy="$busy $unit"; fi
    done <<EOF
$(systemctl list-jobs --no-legend --plain)
EOF
    if [ -z "$busy" ]; then
        broken=
        for unit in $demanded; do
            state=$(systemctl is-active "$unit")
            case $state in
                active) ;;
                failed) echo "failed $unit"; exit 1 ;;
                *) broken="$broken $unit($state)" ;;
            esac
        done
        [ -n "$broken" ] || exit 0
        idle=$((${{idle:-0}} + 1))
        if [ "$idle" -ge 15 ]; then echo "inactive$broken"; exit 1; fi
    fi
    sleep 1
done
"""
"""Ends when the guest is ready: no job runs except of units that may wait for a control plane (the jobs queued behind
those wait with them), and every demanded unit is active. A demanded unit that has no job and is inactive for 15 s will
not become active."""

_WAIT_UNTIL_QUIET = """
busy=0 all=0
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    busy_before=$busy all_before=$all
    read -r _ user nice system idle iowait irq softirq _ </proc/stat
    busy=$((user + nice + system + irq + softirq)) all=$((user + nice + system + irq + softirq + idle + iowait))
    [ $second = 1 ] || [ $(((busy - busy_before) * 100)) -ge $(((all - all_before) * 10)) ] || exit 0
    sleep 1
done
exit 1
"""
"""Ends with status 0 when at most 10 % of a second's CPU time was used, with 1 after 30 s."""


class NotReady(ImageError):
    """The demanded ``unit`` failed or was never started: ``state`` is systemd's word for it."""

    def __init__(self, machine: str, state: str, unit: str, journal: str) -> None:
        super().__init__(machine, state, unit, journal)
        self.machine, self.state, self.unit, self.journal = machine, state, unit, journal

    def __str__(self) -> str:
        return f"{self.machine}: {self.unit} must be active but is {self.state}. Its journal ends:\n{self.journal}"


def wait_until_ready(machine: str, channel: Channel, definition: ImageDefinition, deadline: Deadline) -> None:
    """Return when the guest is ready; raise `NotReady` as soon as it is certain that it will not become ready."""
    script = _WAIT_UNTIL_READY.format(
        demanded=shlex.quote(" ".join([*definition.services, *definition.sockets])),
        waiting=" ".join(definition.waiting),
    )
    done = channel.run(script, deadline)
    if done.status:
        state, _, units = done.text.strip().partition(" ")
        unit = units.split()[0].split("(")[0] if units else "?"
        journal = channel.run(f"journalctl -b -u {shlex.quote(unit)} -n 15 --no-pager -o cat")
        end = f"journalctl {journal.ending}: {journal.errors}" if journal.status else journal.text
        raise NotReady(machine, state, unit, end)


def wait_until_quiet(channel: Channel) -> bool:
    """Wait until the guest's CPUs were mostly idle for a second; False if they were still busy after half a minute.

    Services continue to start up after they have notified systemd: every copy of the machine would repeat that work.
    """
    return channel.run(_WAIT_UNTIL_QUIET).status == 0
