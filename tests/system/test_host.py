"""Faults in a running host, planted in one machine: the check ``host`` finds and names each, and none in a good one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from harness.examine import examine
from harness.lab.dnsmasq import DOMAIN
from harness.lint.finding import Findings
from harness.machine.machine import Machine
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import NicSpec

from .host_faults import ABSENT, CONSEQUENCES, DEMANDED, FAULTS, LATER, Fault, demanding
from .ready import Counting, ready_machine

MOST_ROUND_TRIPS = 12
KNOWN = f"lab.{DOMAIN}"


@pytest.fixture(scope="module")
def machine(base: ImageDefinition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """With two cards, of which DHCP answers one."""
    folder = tmp_path_factory.mktemp("host")
    with ready_machine(base, folder, nics=(NicSpec(), NicSpec(has_dhcp=False))) as machine:
        yield machine


@dataclass(frozen=True)
class Examined:
    """A host before and after `FAULTS` were planted, and after `LATER`; over the serial shell and over SSH."""

    before: Findings
    before_over_ssh: Findings
    after: Findings
    later_over_ssh: Findings
    round_trips: int
    cards: tuple[str, str]

    def place(self, where: str) -> str:
        """``where``, with the names of the cards."""
        return where.replace("CARD", self.cards[0]).replace("OTHER", self.cards[1])

    def found(self, findings: Findings, fault: Fault) -> list[tuple[str, str, str]]:
        """Findings with the id, the place and the words of ``fault``."""
        return [
            (one.what, one.cause, one.next)
            for one in findings.failing
            if one.id == fault.id and one.path.startswith(self.place(fault.where)) and fault.what in one.what
        ]


@pytest.fixture(scope="module")
def examined(machine: Machine, base: ImageDefinition) -> Examined:
    """The machine before and after all faults were planted in it."""
    channel = Counting(machine.channel)
    before = examine(channel, base, resolves=KNOWN)
    round_trips = channel.count
    before_over_ssh = examine(machine.ssh, base, resolves=KNOWN)
    card = machine.check("ip -o route get 10.77.0.1").split(" dev ")[1].split()[0]
    every = machine.check(
        "for card in /sys/class/net/*/device; do card=${card%/device}; echo ${card##*/}; done"
    ).split()
    (other,) = set(every) - {card}

    def plant(faults: dict[str, Fault]) -> None:
        for name, fault in faults.items():
            done = machine.run(fault.plant.replace("CARD", card).replace("OTHER", other))
            print(f"{name}: {done.ending} {done.errors}")

    plant(FAULTS)
    after = examine(machine.channel, demanding(base), resolves=KNOWN)
    plant(LATER)
    later = examine(machine.ssh, demanding(base), resolves=KNOWN)
    return Examined(before, before_over_ssh, after, later, round_trips, (card, other))


def test_a_good_host_has_no_finding_and_is_examined_in_few_round_trips(examined: Examined) -> None:
    for findings in (examined.before, examined.before_over_ssh):
        found = [(one.id, one.path, one.what, one.evidence) for one in findings.findings if not one.allowed]
        assert found == []
        assert findings.unchecked == ()
    assert examined.round_trips <= MOST_ROUND_TRIPS


@pytest.mark.parametrize("name", [*FAULTS, *DEMANDED])
def test_a_planted_fault_is_found_and_named(examined: Examined, name: str) -> None:
    fault = (FAULTS | DEMANDED)[name]
    same = [one for one in examined.after.failing if one.id == fault.id]

    found = examined.found(examined.after, fault)
    assert found, [(one.path, one.what, one.evidence) for one in same]
    assert all(what and cause and next_step for what, cause, next_step in found)


@pytest.mark.parametrize("name", LATER)
def test_a_fault_is_found_over_ssh(examined: Examined, name: str) -> None:
    same = [one for one in examined.later_over_ssh.failing if one.id == LATER[name].id]

    assert examined.found(examined.later_over_ssh, LATER[name]), [(one.path, one.what, one.evidence) for one in same]


def test_each_of_two_faults_of_one_kind_is_found(examined: Examined) -> None:
    def number(name: str) -> int:
        return sum(one.id == name for one in examined.after.failing)

    assert number("process-without-unit") == 2
    assert number("data-at-risk") == 3


def test_nothing_else_is_found(examined: Examined) -> None:
    planted = [(fault.id, fault.where) for fault in (*FAULTS.values(), *DEMANDED.values())]
    places = [(name, examined.place(where)) for name, where in (*planted, *CONSEQUENCES)]
    others = [
        f"{one.id} {one.path}: {one.what}"
        for one in examined.after.failing
        if not any(one.id == name and one.path.startswith(place) for name, place in places)
    ]

    assert "\n".join(others) == ""


def test_a_socket_that_is_declared_and_absent_is_a_warning(examined: Examined) -> None:
    assert [(one.id, one.path) for one in examined.after.warning] == [("listener-missing", f"socket:{ABSENT}")]
