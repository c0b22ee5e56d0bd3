"""What is wrong about the registration of a host, and what a host and its control plane say."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.guests.controller import read_access
from harness.guests.nova import HostSize, Registration, causes, read_causes, read_host, wrong
from harness.model.seed_file import SeedFile

SIZE = HostSize(cpus=2, memory_mib=1967, disk_gib=5)
GOOD = Registration(
    name="compute",
    services=("up",),
    hypervisors=("compute",),
    providers=("compute",),
    inventory={"VCPU": 2, "MEMORY_MB": 1967, "DISK_GB": 5},
)


def test_a_host_that_is_registered_once_is_right() -> None:
    assert list(wrong(GOOD, SIZE)) == []
    assert GOOD.is_complete


@pytest.mark.parametrize(
    ("registration", "sentence"),
    [
        (replace(GOOD, services=()), "nova-compute of compute is not registered; expected: registered once, and up"),
        (replace(GOOD, services=("down",)), "nova-compute of compute is down; expected: registered once, and up"),
        (replace(GOOD, services=("up", "down")), "nova-compute of compute is up, down"),
        (replace(GOOD, hypervisors=("compute", "machine-0")), "as hypervisor there is: compute, machine-0"),
        (replace(GOOD, providers=()), "the only host is compute, but as resource provider there is: none"),
        (
            replace(GOOD, inventory={**GOOD.inventory, "MEMORY_MB": 512}),
            "the inventory of compute has MEMORY_MB 512, the host has 1967",
        ),
        (replace(GOOD, inventory={}), "has VCPU 0, the host has 2"),
    ],
)
def test_what_is_wrong_is_a_sentence(registration: Registration, sentence: str) -> None:
    assert sentence in next(wrong(registration, SIZE))


@pytest.mark.parametrize("registration", [replace(GOOD, services=("down",)), replace(GOOD, inventory={})])
def test_a_host_that_is_not_up_yet_is_waited_for(registration: Registration) -> None:
    assert not registration.is_complete


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "ERROR oslo.messaging._drivers.impl_rabbit [-] Connection failed: (0, 0): (403) ACCESS_REFUSED - Login was "
            "refused using authentication mechanism AMQPLAIN.",
            "RabbitMQ refuses the user or the password of transport_url",
        ),
        (
            "ERROR oslo_service.service nova.exception.InvalidConfiguration: No local node identity found, but this is "
            "not our first startup on this host.",
            "/var/lib/nova/compute_id is lost",
        ),
        (
            "libvirt.libvirtError: Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
            "is the user nova in the group libvirt?",
        ),
    ],
)
def test_a_line_of_nova_compute_that_is_known_has_a_cause(line: str, sentence: str) -> None:
    (found,) = causes(["INFO nova.service [-] Starting compute node", line, line])

    assert sentence in found
    assert found.endswith(line)


def test_that_rabbitmq_is_not_there_yet_is_no_cause() -> None:
    assert causes(["ERROR oslo.messaging._drivers.impl_rabbit [-] Connection failed: [Errno 111] ECONNREFUSED"]) == ()


class Here(Channel):
    """This host's shell, in which the programs of ``stubs`` print a text."""

    def __init__(self, folder: Path, stubs: dict[str, str]) -> None:
        for name, text in stubs.items():
            (folder / name).write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{text}END\n", "utf-8")
            (folder / name).chmod(0o755)
        self._environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=self._environment)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def test_a_host_says_what_it_has(tmp_path: Path) -> None:
    stubs = {"nproc": "2\n", "grep": "MemTotal:        2014208 kB\n", "df": "1G-blocks\n       5G\n"}

    name, size = read_host(Here(tmp_path, stubs))

    assert name == Path("/proc/sys/kernel/hostname").read_text().strip()
    assert size == SIZE


def test_the_journal_of_nova_compute_is_read_for_causes(tmp_path: Path) -> None:
    refused = "nova-compute[7]: (403) ACCESS_REFUSED - Login was refused\n"

    (found,) = read_causes(Here(tmp_path, {"journalctl": refused}))

    assert found.endswith(refused.strip())


def test_a_host_that_does_not_say_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="size of the host"):
        read_host(Here(tmp_path, {"df": ""}))


CLOUDS = "clouds:\n  controller:\n    region_name: RegionOne\n    auth: {auth_url: 'http://controller:5000/v3'}\n"


def test_a_control_plane_has_a_cloud_and_the_files_of_its_hosts(tmp_path: Path) -> None:
    place = tmp_path / "seed/etc/nova/nova.conf"
    place.parent.mkdir(parents=True)
    place.write_text("[DEFAULT]\n")
    place.chmod(0o640)
    packed = subprocess.run(
        "tar --owner=root --group=nova:64060 -C seed -c . | base64", shell=True, check=True, cwd=tmp_path,
        capture_output=True, text=True,
    ).stdout  # fmt: skip

    settings, seed = read_access(Here(tmp_path, {"cat": CLOUDS, "tar": "", "base64": packed}))

    assert settings == {"region_name": "RegionOne", "auth": {"auth_url": "http://controller:5000/v3"}}
    assert seed == (SeedFile(path="/etc/nova/nova.conf", content=b"[DEFAULT]\n", group="nova", mode=0o640),)
