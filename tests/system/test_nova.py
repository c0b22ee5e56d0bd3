"""A control plane takes a good hypervisor in, and a host with a planted fault says by name why it is not taken in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from harness.build.pipeline import build
from harness.core.deadline import Deadline, poll
from harness.guests.controller import ControlPlane, read_control_plane, templates_of
from harness.guests.nova import INSTANCES, UP_S, read_causes, read_host, wait_until_registered, wrong
from harness.lab import Lab, open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import Machine, boot
from harness.machine.states import BOOTED
from harness.model.definition import load_definition
from harness.model.machine_spec import CONTROLLER, Network
from harness.persistence.kept_configuration import read_kept_configuration
from harness.persistence.locations import misplaced
from harness.persistence.seed import make_seeded_disk
from harness.store.store import find_store

from ..machines import run_in, specify
from .conftest import ROOT

NOVA = load_definition(ROOT / "images" / "nova-kvm")
CONTROL_PLANE = load_definition(ROOT / "images" / "control-plane")
RESTART = (
    "systemctl stop nova-compute; journalctl -q --rotate --vacuum-time=1ms; systemctl start --no-block nova-compute"
)


@dataclass(frozen=True, kw_only=True)
class Planted:
    """``plant`` is a command for the host, ``undo`` another; with the fault, the host says ``named``."""

    plant: str
    undo: str
    named: str


PLANTED = {
    "a wrong password of RabbitMQ on /data": Planted(
        plant="sed -i.good 's|://openstack:[^@]*@|://openstack:wrong@|' /etc/nova/nova.conf",
        undo="mv /etc/nova/nova.conf.good /etc/nova/nova.conf",
        named="RabbitMQ refuses the user or the password of transport_url",
    ),
    "a lost compute_id": Planted(
        plant="mv /var/lib/nova/compute_id /var/lib/nova/compute_id.good",
        undo="mv /var/lib/nova/compute_id.good /var/lib/nova/compute_id",
        named="compute_id is lost",
    ),
    "no group libvirt for nova": Planted(
        plant="gpasswd -d nova libvirt",
        undo="gpasswd -a nova libvirt",
        named="is the user nova in the group libvirt?",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A control plane, and a host of it in the same lab."""

    control_plane: ControlPlane
    host: Machine


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder, store = tmp_path_factory.mktemp("nova"), find_store()
    artifacts, run = build(NOVA, store), run_in(folder)
    spec = specify(NOVA, artifacts, folder)

    def context_of(lab: Lab) -> BootContext:
        return BootContext(lab=lab, run=run, slots=store.folder("slots"))

    templates = templates_of(
        CONTROL_PLANE,
        build(CONTROL_PLANE, store),
        accelerator=spec.accelerator,
        network=Network.LAB,
        run=run,
        context_of=context_of,
    )
    for name in ("lab", "host", "clone"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        lab = stack.enter_context(open_lab(folder / "lab"))
        machine = stack.enter_context(templates.machine(BOOTED, CONTROLLER, lab=lab, folder=folder / "clone"))
        control_plane = read_control_plane(machine)
        disk = make_seeded_disk(folder / "host" / "data.raw", artifacts, NOVA.persistent_paths, control_plane.seed)
        host = boot(replace(spec, disks=(disk,)), artifacts, NOVA, context=context_of(lab))
        yield Pair(control_plane=control_plane, host=stack.enter_context(host))


def test_a_good_host_registers_once_and_nothing_is_wrong_with_it(pair: Pair) -> None:
    channel = pair.host.channel
    name, size = read_host(channel)

    registration = wait_until_registered(pair.control_plane.cloud, channel, name)

    assert [*read_causes(channel), *wrong(registration, size), *misplaced(channel, [INSTANCES])] == []
    pair.host.wait_for_unit("nova-compute.service")


def test_nova_understands_the_configuration_of_the_control_planes_hosts(pair: Pair) -> None:
    assert read_kept_configuration(pair.host).complaints == ()


def test_an_option_that_no_longer_exists_is_named(pair: Pair) -> None:
    pair.host.check(r"sed -i.good '/^\[DEFAULT\]/a no_such_option = 1' /etc/nova/nova.conf")

    complaints = read_kept_configuration(pair.host).complaints

    pair.host.check("mv /etc/nova/nova.conf.good /etc/nova/nova.conf")
    assert [str(one) for one in complaints] == ["/etc/nova/nova.conf: option no_such_option of [DEFAULT]: is unknown"]


def test_disks_of_guests_in_ram_are_named(pair: Pair) -> None:
    pair.host.check(f"mount -t tmpfs none {INSTANCES}")

    problems = list(misplaced(pair.host.channel, [INSTANCES]))

    pair.host.check(f"umount {INSTANCES}")
    assert len(problems) == 1
    assert problems[0].startswith(f"{INSTANCES} is on ")


@pytest.mark.parametrize("fault", PLANTED)
def test_what_keeps_nova_compute_from_the_control_plane_is_named(pair: Pair, fault: str) -> None:
    planted, host = PLANTED[fault], pair.host
    host.check(f"{planted.plant} && {{ {RESTART}; }}")

    poll(lambda: bool(read_causes(host.channel)), Deadline(UP_S), every_s=5.0)

    found = read_causes(host.channel)
    host.check(planted.undo)
    assert len(found) == 1
    assert planted.named in found[0]


def test_the_host_is_up_once_the_faults_are_gone(pair: Pair) -> None:
    pair.host.check(RESTART)

    pair.host.wait_for_unit("nova-compute.service")

    assert read_causes(pair.host.channel) == ()
