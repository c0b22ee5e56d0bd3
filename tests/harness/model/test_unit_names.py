"""One service with different names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.model.definition import load_definition
from harness.model.unit_names import same_service
from harness.persistence.unit_delays import delays

BASE = load_definition(Path(__file__).parents[3] / "images" / "base")


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("ssh.service", ("ssh.service", "sshd.service")),
        ("sshd.socket", ("sshd.socket", "ssh.socket")),
        ("crond.service", ("crond.service", "cron.service", "cronie.service")),
        ("systemd-networkd.service", ("systemd-networkd.service",)),
        ("firewalld.service", ("firewalld.service",)),
    ],
)
def test_a_unit_has_the_names_of_the_same_service_and_its_own_suffix(unit: str, names: tuple[str, ...]) -> None:
    assert same_service(unit) == names


def test_a_unit_that_may_wait_may_wait_by_each_of_its_names() -> None:
    definition = replace(BASE, waiting=("nova-compute.service",))

    assert definition.may_wait == ("nova-compute.service", "openstack-nova-compute.service")


def test_a_unit_is_delayed_by_each_of_its_names() -> None:
    assert list(delays("cron.service+a.service")) == [
        f"systemd.unit-dropin.{name}.service~late" for name in ("cron", "crond", "cronie", "a")
    ]
