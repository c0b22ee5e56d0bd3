"""Boot checks: what is looked at during and after every boot, whether a test asks or not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.core.deadline import Deadline
from harness.core.errors import Blame, HostError, ImageError
from harness.guest import fingerprint
from harness.guest.channel import Channel
from harness.guest.console import Console
from harness.guest.fingerprint import Fingerprint
from harness.guest.pattern_watcher import PatternMatch
from harness.guest.serial_shell import SHELL_UNIT
from harness.model.artifacts import Manifest
from harness.model.definition import ImageDefinition
from harness.model.finding_catalog import nearest
from harness.model.verdict import Finding

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
"""One command that ends when the guest is ready: the guest waits, not the wire. Ready is DESIGN's word: no running
job but of units that may wait for a control plane (the jobs queued behind those wait with them), and every
demanded unit active. A demanded unit that has no job and stays inactive for 15 s never will be active."""

_WAIT_UNTIL_QUIET = """
busy=0 all=0
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    busy_before=$busy all_before=$all
    read -r _ user nice system idle iowait irq softirq _ </proc/stat
    busy=$((user + nice + system + irq + softirq)) all=$((user + nice + system + irq + softirq + idle + iowait))
    [ $second = 1 ] || [ $(((busy - busy_before) * 100)) -ge $(((all - all_before) * {most_percent})) ] || exit 0
    sleep 1
done
exit 1
"""
_QUIET_PERCENT = 10

_LOOK = r"""
printf 'uname=%s\n' "$(uname -r)"
. /etc/os-release
printf 'image=%s\nversion=%s\n' "$IMAGE_ID" "$IMAGE_VERSION"
printf 'boot_id=%s\n' "$(cat /proc/sys/kernel/random/boot_id)"
printf 'tainted=%s\n' "$(cat /proc/sys/kernel/tainted)"
systemctl list-units --failed --plain --no-legend | while read -r unit _; do printf 'failed=%s\n' "$unit"; done
systemctl show '*.service' -p Id -p NRestarts | while IFS='=' read -r key value; do
    case $key in
        Id) unit=$value ;;
        NRestarts) restarts=$value ;;
        '') [ "${restarts:-0}" = 0 ] || printf 'restarted=%s %s\n' "$unit" "$restarts"; restarts=0 ;;
    esac
done
"""


class NotReady(ImageError):
    """A demanded unit failed or never started; ``unit`` says which, ``state`` what it was."""

    def __init__(self, machine: str, state: str, unit: str, journal: str) -> None:
        super().__init__(machine, state, unit, journal)
        self.machine, self.state, self.unit, self.journal = machine, state, unit, journal

    def __str__(self) -> str:
        return f"{self.machine}: awaited active {self.unit}, seen {self.state}. Its journal ends:\n{self.journal}"


class BootFailed(ImageError):
    """A boot ended, or cannot end well: ``finding`` says why, with its evidence."""

    def __init__(self, machine: str, finding: Finding, folder: str, by_hand: str) -> None:
        super().__init__(machine, finding, folder, by_hand)
        self.machine, self.finding, self.folder, self.by_hand = machine, finding, folder, by_hand
        self.blame = finding.blame
        if self.blame is not Blame.IMAGE:
            self.exit_status = HostError.exit_status

    def __str__(self) -> str:
        evidence = "\n".join(f"    {line}" for line in self.finding.evidence)
        return (
            f"{self.machine}: {self.finding.what} [{self.finding.id}]\n{evidence}\n"
            f"  suspected cause: {self.finding.cause}\n"
            f"  all logs:        {self.folder}\n"
            f"  boot it by hand: {self.by_hand}"
        )


class EmulatorFault(HostError):
    """QEMU's emulation, not the image, broke this boot, early; another one will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHealth:
    """What one round trip into a ready guest shows."""

    kernel: str
    image: str
    version: str
    boot_id: str
    tainted: int
    prints: Fingerprint
    failed_units: tuple[str, ...]
    restarted_units: tuple[str, ...]


def wait_until_ready(machine: str, channel: Channel, definition: ImageDefinition, deadline: Deadline) -> None:
    """Until the guest is ready; `NotReady` as soon as it is certain that it will not be."""
    script = _WAIT_UNTIL_READY.format(
        demanded=shlex.quote(" ".join([*definition.services, *definition.sockets])),
        waiting=" ".join(definition.waiting),
    )
    done = channel.run(script, deadline)
    if done.status:
        state, _, units = done.text.strip().partition(" ")
        unit = units.split()[0].split("(")[0] if units else "?"
        journal = channel.run(f"journalctl -b -u {shlex.quote(unit)} -n 15 --no-pager -o cat").text
        raise NotReady(machine, state, unit, journal)


def wait_until_quiet(channel: Channel) -> bool:
    """Until the guest's CPUs have little to do for a second; False if they still had after half a minute.

    Services go on starting after they said that they are ready: every copy of the machine would do that work again.
    """
    return channel.run(_WAIT_UNTIL_QUIET.format(most_percent=_QUIET_PERCENT)).status == 0


def look(channel: Channel) -> GuestHealth:
    """One round trip: who the guest says it is, and what is wrong with it by its own account."""
    pairs = [line.partition("=")[::2] for line in channel.run(_LOOK + fingerprint.SCRIPT).text.splitlines()]
    single = dict(pairs)
    return GuestHealth(
        kernel=single.get("uname", ""),
        image=single.get("image", ""),
        version=single.get("version", ""),
        boot_id=single.get("boot_id", ""),
        tainted=int(single.get("tainted", "0") or 0),
        prints=fingerprint.parse(single),
        failed_units=tuple(value for key, value in pairs if key == "failed"),
        restarted_units=tuple(value for key, value in pairs if key == "restarted"),
    )


def judge(seen: GuestHealth, manifest: Manifest, definition: ImageDefinition, where: str) -> Iterator[Finding]:
    """The findings of a look: pure."""
    fingerprint = (seen.image, seen.version, seen.kernel)
    image = manifest.image if manifest.is_ours else seen.image
    awaited = (image, manifest.version or seen.version, manifest.kernel_version)
    if fingerprint != awaited:
        yield Finding(
            id="wrong-image",
            what=f"{' '.join(fingerprint)} is running, {' '.join(awaited)} was to boot",
            where=where,
            cause="an old local copy started, or kernel, initrd and root file system are of different builds",
        )
    for unit in seen.failed_units:
        if unit not in definition.waiting:
            yield Finding(
                id="unit-failed",
                what=f"{unit} failed",
                where=where,
                cause="see its journal in the run's folder",
            )
    for row in seen.restarted_units:
        unit, _, count = row.partition(" ")
        if unit not in (*definition.waiting, *_RESTARTED_BY_DESIGN):
            yield Finding(
                id="unit-flapping",
                what=f"{unit} was restarted {count} times before the machine was ready",
                where=where,
                cause="it fails at start and systemd tries again; see its journal",
            )
    tainted = seen.tainted & ~_SOFT_LOCKUP
    if tainted:
        yield Finding(
            id="kernel-tainted",
            what=f"the kernel is tainted ({tainted}: {', '.join(taints(tainted))})",
            where=where,
            cause="see the kernel's log for the first warning or foreign module",
        )


_RESTARTED_BY_DESIGN = (SHELL_UNIT, "systemd-journald.service")
"""journald of the initrd hands over to the real root's, which counts as a restart."""

_SOFT_LOCKUP = 1 << 14
"""Says that the host starved the machine for a while; it came up all the same."""

_TAINTS = {
    0: "proprietary module", 1: "module forced", 2: "out of specification", 4: "machine check", 5: "bad page",
    7: "died (oops)", 9: "warning", 11: "firmware workaround", 12: "out-of-tree module", 13: "unsigned module",
    14: "soft lockup", 15: "live patched",
}  # fmt: skip
"""Bits of /proc/sys/kernel/tainted: Linux's Documentation/admin-guide/tainted-kernels.rst."""


def taints(value: int) -> list[str]:
    return [_TAINTS.get(bit, f"bit {bit}") for bit in range(value.bit_length()) if value >> bit & 1]


def excused(finding: Finding, starved_share: float, slowness: float = 1.0) -> Finding:
    """``finding``, or the host's doing: pure.

    That is what ran out of time in a machine that mostly waited for a CPU; and limits of the image's own, which unlike
    our deadlines do not grow with ``slowness``, in one that emulation made so many times slower than usual.
    """
    timed_out = any(_TIMED_OUT.search(line) for line in finding.evidence)
    if starved_share >= _STARVED_SHARE and (timed_out or finding.id in _LATE):
        cause = (
            f"the host starved this machine, which waited for a CPU {starved_share:.0%} of the time it wanted one; "
            "take fewer workers (-n), or a host that does nothing else"
        )
    elif slowness >= _SLOW and any(_OWN_LIMIT.search(line) for line in finding.evidence):
        cause = (
            f"machines are {slowness:.1f} times slower on this host than usual, and the image's own time limits do not "
            "know it; try another hour, another host, or one with KVM"
        )
    else:
        return finding
    return replace(finding, blame=Blame.HOST, cause=cause)


def unknown(phase: str, after_s: float, console: Console) -> str:
    """Of an end that no console pattern explains: how far it came, what it did last, and what that is most like."""
    silent_s = console.silent_s
    said = f"unknown: {after_s:.0f} s after power-on it was in {phase}, and had printed nothing for {silent_s:.0f} s"
    if console.lines:
        said += f" since {console.lines[-1].strip()!r}"
    near, line = nearest(console.lines[-_LAST_LINES:])
    return f"{said}; most like what is known: {near}, for {line!r}" if near else f"{said}; like nothing that is known"


_LAST_LINES = 40


def doubted(finding: Finding, doubt: str) -> Finding:
    """``finding``, or the host's doing where there is a ``doubt`` that the image is what it was: pure."""
    return replace(finding, blame=Blame.HOST, cause=doubt) if doubt else finding


def with_network(finding: Finding, lines: Sequence[str]) -> Finding:
    """``finding``, with what the machine last asked of the network as more evidence: pure."""
    said = tuple(f"network: {line}" for line in lines[-_NETWORK_LINES:])
    return replace(finding, evidence=(*finding.evidence, *said))


OF_THE_NETWORK = ("served-bytes-differ",)
"""Findings of a machine in user space that are nevertheless about what it was served."""
_NETWORK_LINES = 4

_LATE = ("boot-hangs", "initrd-timeout", "kernel-lockup", "shutdown-hangs")
_OWN_LIMIT = re.compile(r"\[ TIME \]|operation timed out|Failed to start .*Wait for Network to be Configured")
"""systemd's; its networkd-wait-online fails for nothing but its 120 s."""
_TIMED_OUT = re.compile(rf"{_OWN_LIMIT.pattern}|[Tt]imed out")
_SLOW = 2.0
_STARVED_SHARE = 0.4
"""A boot that wrongly failed had waited more than that: 45 %, one of five machines that booted on two cores."""


def finding_of(match: PatternMatch, where: str) -> Finding:
    """What a console pattern means for the verdict."""
    return Finding(
        id=match.pattern.id,
        what=match.pattern.what,
        where=where,
        blame=match.pattern.blame,
        evidence=match.evidence,
        cause=match.pattern.cause,
    )
