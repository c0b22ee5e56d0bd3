"""What changes on a running host is in the diff, and what its persistent data refers to comes first: planted in one
machine, whose facts are read before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from harness.diff import Change, Diff, Side, Weight, as_text, compare, on_hosts
from harness.examine.facts import read_facts
from harness.guest.runtime_profile import read_profile
from harness.guests.contract import read_contract
from harness.machine.machine import Machine
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.verdict import Verdict

from .. import samples
from .ready import ready_machine

TIMER = "systemd-tmpfiles-clean.timer"


@dataclass(frozen=True)
class Planted:
    """``plant`` is a command for the guest; the section gets the entry, of that weight."""

    plant: str
    section: str
    what: str
    change: Change
    weight: Weight


PLANTED = (
    Planted("sysctl -w kernel.kptr_restrict=2", "sysctl", "kernel.kptr_restrict", Change.CHANGED, Weight.NOTABLE),
    Planted("mount -o remount,suid /dev/shm", "mounts", "/dev/shm", Change.CHANGED, Weight.ALARM),
    Planted("useradd -s /bin/bash operator1", "logins", "operator1", Change.ADDED, Weight.ALARM),
    Planted("usermod -aG adm nobody", "members of groups", "adm", Change.ADDED, Weight.ALARM),
    Planted(
        "systemctl set-property --runtime ssh.service TasksMax=9", "limits", "ssh.service TasksMax", Change.ADDED,
        Weight.NOTABLE,
    ),
    Planted("modprobe dummy numdummies=0", "loaded modules", "dummy", Change.ADDED, Weight.MINOR),
    Planted("ip link add br-site type bridge", "interfaces", "br-site", Change.ADDED, Weight.USUAL),
    Planted(
        "systemd-run --slice=site.slice --unit=agent sleep 9999", "control groups", "agent.service", Change.ADDED,
        Weight.NOTABLE,
    ),
    Planted(
        "ln -sf /usr/share/zoneinfo/Europe/Berlin /etc/localtime || true; "
        "printf '0.0 0 0.0\\n0\\nLOCAL\\n' >/etc/adjtime",
        "settings", "the board's clock", Change.CHANGED, Weight.NOTABLE,
    ),
    Planted(f"systemctl stop {TIMER}", "timers", TIMER, Change.REMOVED, Weight.ALARM),
)  # fmt: skip
RENAME = "ip link set CARD down && ip link set CARD name lan0 && ip link set lan0 up"


@pytest.fixture(scope="module")
def machine(base: ImageDefinition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("diff")
    with ready_machine(base, folder) as machine:
        yield machine


def verdict(machine: Machine) -> Verdict:
    """About the machine as it is now."""
    paths = machine.definition.persistent_paths
    profile = read_profile(machine.channel, paths)
    host = replace(read_facts(machine.channel, paths, profile.units), guests=read_contract(machine.channel))
    profile = replace(profile, host=host)
    return replace(samples.verdict(()), digests={"artifacts": machine.artifacts.digest}, runtime_profile=profile)


@pytest.fixture(scope="module")
def difference(machine: Machine) -> Diff:
    card = machine.check("ip -o route get 10.77.0.1").split(" dev ")[1].split()[0]
    network = machine.definition.persistent_paths[0]
    machine.check(f"printf '[Match]\\nName={card}\\n[Network]\\nDHCP=yes\\n' >{network}/10-lan.network")
    machine.check(f"ln -s /usr/lib/systemd/system/{TIMER} {network}/{TIMER}")
    before = Side(artifacts=machine.artifacts, verdict=verdict(machine))
    for planted in PLANTED:
        machine.check(planted.plant)
    machine.check(RENAME.replace("CARD", card))
    after = Side(artifacts=machine.artifacts, verdict=verdict(machine))
    found = on_hosts(compare(before, after))
    print("\n".join(as_text(found, limit=None)))
    return found


def test_a_host_that_did_not_change_has_no_difference(machine: Machine, artifacts: Artifacts) -> None:
    before, after = (Side(artifacts=artifacts, verdict=verdict(machine)) for _ in range(2))
    found = on_hosts(compare(before, after))

    assert [(section.name, entry.what) for section in found.sections for entry in section.entries] == []
    assert [(section.name, section.unknown) for section in found.sections if section.unknown] == []
    assert "deprecated sysctl" not in machine.check("journalctl -k -b -q --no-pager -o cat"), "a look logs a warning"


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.section)
def test_what_changed_on_the_host_is_in_the_diff(difference: Diff, planted: Planted) -> None:
    (section,) = (one for one in difference.sections if one.name == planted.section)
    entries = {entry.what: entry for entry in section.entries}

    assert planted.what in entries, list(entries)
    assert (entries[planted.what].change, entries[planted.what].weight) == (planted.change, planted.weight)


def test_what_persistent_data_refers_to_comes_first(difference: Diff) -> None:
    leading = [section for section in difference.sections if section.is_referred_to]

    assert {section.name for section in leading} == {"interfaces", "timers", "units"}
    assert list(difference.sections[: len(leading)]) == leading
    card = next(section for section in leading if section.name == "interfaces").entries[0]
    assert (card.new, card.referring) == ("lan0", ("/etc/systemd/network/10-lan.network",))
    timer = next(section for section in leading if section.name == "timers").entries[0]
    assert (timer.what, timer.referring) == (TIMER, (f"/etc/systemd/network/{TIMER}",))
