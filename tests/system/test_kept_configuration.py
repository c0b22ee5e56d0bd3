"""Kept configuration that a version does not understand is found and named: in a host, and by a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from harness.build.pipeline import build
from harness.machine.machine import Machine
from harness.model.definition import ImageDefinition, load_definition
from harness.model.definition_persist import Validator
from harness.model.verdict import Outcome
from harness.persistence.kept_configuration import KeptConfiguration, read_kept_configuration
from harness.store.store import find_store

from .conftest import ROOT, Judge, MakeImage
from .ready import ready_machine

IMAGE = "nova-kvm"
OWN = Validator(path="/etc/nova", command="! grep -r planted /etc/nova/site.conf")


@dataclass(frozen=True)
class Planted:
    """``plant`` is a command for the machine; then there is the complaint ``named`` about ``file``."""

    plant: str
    file: str
    named: str


PLANTED = {
    "an option that is unknown": Planted(
        r"sed -i '/^\[DEFAULT\]/a no_such_option = 1' /etc/nova/nova.conf",
        "/etc/nova/nova.conf", "option no_such_option of [DEFAULT]: is unknown",
    ),
    "an option that was renamed": Planted(
        r"sed -i '/^\[DEFAULT\]/a vnc_enabled = true' /etc/nova/nova.conf",
        "/etc/nova/nova.conf", "option vnc_enabled of [DEFAULT]: is deprecated; enabled of [vnc] replaces it",
    ),
    "a domain with an unknown element": Planted(
        "echo '<domain type=\"qemu\"><name>a</name><memory>65536</memory><colour/></domain>' >/etc/libvirt/qemu/a.xml",
        "/etc/libvirt/qemu/a.xml", "colour",
    ),
    "a network with an unknown key": Planted(
        "printf '[Match]\\nName=none9\\n[Network]\\nColour=red\\n' >/etc/systemd/network/90-none.network"
        " && systemctl restart systemd-networkd",
        "/etc/systemd/network/90-none.network", "Colour",
    ),
    "a port without a device": Planted(
        "ovs-vsctl --timeout=60 add-br planted -- set bridge planted datapath_type=netdev"
        "; ovs-vsctl --no-wait add-port planted none9",
        "/etc/openvswitch", "none9",
    ),
    "what the image's own command refuses": Planted("echo planted >/etc/nova/site.conf", "/etc/nova", "planted"),
}  # fmt: skip


# Whole runs come first, before machines that the other tests share.
def test_a_run_finds_what_an_upgrade_no_longer_understands(
    base: ImageDefinition, judge: Judge, make_image: MakeImage
) -> None:
    previous = build(base, find_store(), version="2026.10").folder
    images = make_image("stricter", STRICTER, ("[budget]", VALIDATE))

    status, verdict = judge(
        "stricter", "--thorough", "tests/image/test_kept_configuration.py", f"--previous={previous}", images=images
    )

    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    (finding,) = verdict.findings
    assert finding.id == "kept-configuration-stale"
    assert finding.evidence == ("/var/local: colour is gone",)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    definition = replace(load_definition(ROOT / "images" / IMAGE), validators=(OWN,))
    with ready_machine(definition, tmp_path_factory.mktemp(IMAGE)) as machine:
        yield machine


@pytest.fixture(scope="module")
def seen(machine: Machine) -> tuple[KeptConfiguration, KeptConfiguration]:
    """Before and after all `PLANTED`."""
    before = read_kept_configuration(machine)
    for planted in PLANTED.values():
        machine.check(planted.plant)
    return before, read_kept_configuration(machine)


def test_all_of_a_good_host_is_looked_at(seen: tuple[KeptConfiguration, KeptConfiguration]) -> None:
    before, _ = seen

    assert before.unchecked == ()
    assert {"/etc/nova/nova.conf", "/etc/libvirt/qemu/networks/default.xml", "/etc/openvswitch"} <= set(before.files)


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_not_understood_is_named(seen: tuple[KeptConfiguration, KeptConfiguration], name: str) -> None:
    before, after = seen

    assert [one for one in after.stale(before) if one.file == PLANTED[name].file and PLANTED[name].named in str(one)]


def test_nothing_else_is_complained_of(seen: tuple[KeptConfiguration, KeptConfiguration]) -> None:
    before, after = seen

    files = {planted.file for planted in PLANTED.values()}
    assert [str(one) for one in after.stale(before) if one.file not in files] == []


STRICTER = """\
- import_playbook: base.yml
- hosts: all
  tasks:
    - name: a version that refuses what the version before took
      ansible.builtin.file: { path: /usr/lib/stricter, state: directory, mode: "0755" }
"""
VALIDATE = """\
[[persist.validate]]
path = "/var/local"
command = "! test -e /usr/lib/stricter || { echo colour is gone; false; }"

[budget]"""
