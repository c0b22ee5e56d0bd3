"""What Ubuntu installs or starts elsewhere, and a hypervisor in RAM must not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.pipeline import build
from harness.model.definition import load_definition
from harness.store.store import find_store

from .conftest import ROOT, Judge

UNWANTED = {"snapd", "apport", "netplan.io", "cloud-init", "ifupdown", "network-manager", "unattended-upgrades"}

OWN_TESTS = """
def test_names_are_resolved_by_systemd(host):
    assert host.file("/etc/resolv.conf").linked_to == "/run/systemd/resolve/stub-resolv.conf"
    assert host.check_output("resolvectl --no-pager dns")
    assert host.check_output("getent hosts localhost")


def test_only_networkd_configures_the_network(host):
    units = host.check_output("systemctl list-unit-files --state=enabled --no-legend")
    names = {line.split()[0] for line in units.splitlines()}
    assert "systemd-networkd.service" in names
    assert not names & {"NetworkManager.service", "networking.service", "cloud-init-network.service"}
    assert not host.file("/etc/netplan").exists


def test_sshd_runs_from_boot_on_and_not_by_a_socket(host):
    assert host.service("ssh").is_running
    assert host.check_output("systemctl show --property=ActiveState --value ssh.socket") == "inactive"
"""


@pytest.mark.parametrize("image", ["base-ubuntu", "base-noble", "nova-kvm-ubuntu"])
def test_no_definition_installs_what_ubuntu_installs_elsewhere(image: str) -> None:
    artifacts = build(load_definition(ROOT / "images" / image), find_store())

    assert len(artifacts.manifest.packages) > 100
    assert set(artifacts.manifest.packages) & UNWANTED == set()


@pytest.mark.parametrize("image", ["base-ubuntu", "base-noble"])
def test_ubuntus_resolver_network_and_sshd_are_as_the_roles_say(judge: Judge, tmp_path: Path, image: str) -> None:
    tests = tmp_path / "test_own.py"
    tests.write_text(OWN_TESTS)

    _, verdict = judge(image, "--boot-path=direct", str(tests))

    assert verdict.findings == ()
    assert verdict.boots
