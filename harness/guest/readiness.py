"""Waiting until a guest is ready: the guest itself waits, in one command."""

from __future__ import annotations

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, ChannelTimeout, Completed
from harness.guest.unit_names import UNIT_NAME, word
from harness.model.definition import ImageDefinition

_SLICE_S, _INACTIVE_S = 30, 15
_BUSY = 3
_WAIT_UNTIL_READY = """
{unit_name}demanded={demanded}
waiting=" {waiting} "
look() {{ read -r up _ </proc/uptime; now=$((${{up%.*}} * 100 + 1${{up#*.}} - 100)); }}
look
end=$((now + {slice_s}00)) idle_until=
while :; do
    begun=$now busy=
    jobs=$(systemctl list-jobs --no-legend --plain --full) || jobs="- systemctl(failed) - running"
    while read -r _ unit _ state; do
        [ -n "$unit" ] || continue
        case "$waiting" in *" $unit "*) continue ;; esac
        if [ "$state" = running ]; then busy="$busy $unit"; fi
    done <<EOF
$jobs
EOF
    if [ -z "$busy" ]; then
        broken=
        set -- $demanded
        for state in $([ $# = 0 ] || systemctl is-active -- "$@"); do
            case $state in
                active) ;;
                failed) echo "failed $1"; exit {not_ready} ;;
                *) broken="$broken $1($state)" ;;
            esac
            shift
        done
        for unit; do broken="$broken $unit(unknown)"; done
        [ -n "$broken" ] || exit 0
        [ -n "$idle_until" ] || idle_until=$((now + {inactive_s}00))
        if [ "$now" -ge "$idle_until" ]; then echo "inactive$broken"; exit {not_ready}; fi
    else
        idle_until=
    fi
    look
    if [ "$now" -ge "$end" ]; then echo "$busy$broken"; exit {busy}; fi
    pause=$(((now - begun) * 9))
    [ "$pause" -ge 20 ] || pause=20
    [ "$pause" -le 500 ] || pause=500
    sleep "$((pause / 100)).$((pause / 10 % 10))"
    look
done
"""
"""Ends when the guest is ready: no job runs except of units that may wait for a control plane (the jobs queued behind
those wait with them), and every demanded unit is active (systemctl(1) prints states in the order asked). A demanded
unit that has no job and is inactive for 15 s will not become active. After 30 s the script ends in any case, so that a
guest that never becomes ready can be asked why. Between two looks it sleeps for nine times as long as one takes, so
that looking leaves a slow guest its CPUs; times are in hundredths of a second."""
_NOT_READY = 2


class NotReady(ImageError):
    """The demanded ``unit`` failed or was never started: ``state`` is systemd's word for it."""

    def __init__(self, machine: str, state: str, unit: str) -> None:
        super().__init__(machine, state, unit)
        self.machine, self.state, self.unit = machine, state, unit

    def __str__(self) -> str:
        return f"{self.machine}: {self.unit} must be active but is {self.state}"


class StillStarting(ImageError):
    """The guest answers, and did not become ready within ``waited_s``: the jobs of ``units`` had not ended."""

    def __init__(self, machine: str, units: tuple[str, ...], waited_s: float) -> None:
        super().__init__(machine, units, waited_s)
        self.machine, self.units, self.waited_s = machine, units, waited_s

    def __str__(self) -> str:
        return f"{self.machine}: not ready after {self.waited_s:.0f} s: {', '.join(self.units)} had not started"


def wait_until_ready(machine: str, channel: Channel, definition: ImageDefinition, deadline: Deadline) -> None:
    """Return when the guest is ready; raise `NotReady` as soon as it is certain that it will not become ready.

    `StillStarting` if it is not ready by the deadline, `ChannelTimeout` if it does not answer by then.
    """
    script = _WAIT_UNTIL_READY.format(
        unit_name=UNIT_NAME,
        demanded="' '".join(map(word, [*definition.services, *definition.sockets])) or "''",
        waiting=" ".join(definition.may_wait),
        slice_s=_SLICE_S,
        inactive_s=_INACTIVE_S,
        not_ready=_NOT_READY,
        busy=_BUSY,
    )
    while (done := _run_patiently(channel, script, deadline)).status == _BUSY:
        if deadline.is_over:
            raise StillStarting(machine, tuple(done.text.split()), deadline.passed_s)
    if done.status == _NOT_READY:
        state, _, units = done.text.strip().partition(" ")
        raise NotReady(machine, state, units.split()[0].split("(")[0] if units else "?")
    if done.status:
        errors = done.stderr.decode("utf-8", "replace").strip()
        raise ImageError(f"{machine}: the wait for its units ended with status {done.status}: {errors or done.text}")


def _run_patiently(channel: Channel, script: str, deadline: Deadline) -> Completed:
    """As `Channel.run`, and again while no answer comes before the deadline: a guest may be starved for a while."""
    while True:
        try:
            return channel.run(script)
        except ChannelTimeout:
            if deadline.is_over:
                raise
