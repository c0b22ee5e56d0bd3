"""A network card that a release names otherwise is a loss."""

from __future__ import annotations

import subprocess

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.machine.verbs import GuestVerbs
from harness.persistence.network_cards import names, renamed


class Guest(GuestVerbs, Channel):
    """A guest whose shell is this host's, after ``before``."""

    name = "guest"

    def __init__(self, before: str = "") -> None:
        self.before = before

    @property
    def channel(self) -> Channel:
        return self

    def run(self, command: str, _: Deadline | None = None) -> Completed:
        done = subprocess.run(["sh", "-c", f"{self.before}\n{command}"], check=False, capture_output=True)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def test_only_devices_have_names_to_keep() -> None:
    assert "lo" not in names(Guest()).values()


@pytest.mark.parametrize("before", ["echo() { :; }", "exit 1"])
def test_a_guest_that_does_not_tell_is_an_error(before: str) -> None:
    with pytest.raises(ImageError, match="network cards"):
        names(Guest(before))


def test_another_name_and_none_are_losses_and_a_new_card_is_none() -> None:
    before = {"52:54:00:00:00:01": "enp0s2", "52:54:00:00:00:02": "enp0s3", "52:54:00:00:00:03": "enp0s4"}
    after = {"52:54:00:00:00:01": "enp0s2", "52:54:00:00:00:02": "ens3", "52:54:00:00:00:09": "enp0s4"}

    second, third = renamed(before, after)

    assert second.startswith("the network card 52:54:00:00:00:02 was enp0s3, is ens3: ")
    assert third.startswith("the network card 52:54:00:00:00:03 was enp0s4, is gone: ")
