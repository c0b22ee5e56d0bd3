"""A network card that a release names otherwise is a loss."""

from __future__ import annotations

from harness.persistence.network_cards import names, renamed

from .test_file_survey import Here


def test_only_devices_have_names_to_keep() -> None:
    assert "lo" not in names(Here()).values()


def test_another_name_and_none_are_losses_and_a_new_card_is_none() -> None:
    before = {"52:54:00:00:00:01": "enp0s2", "52:54:00:00:00:02": "enp0s3", "52:54:00:00:00:03": "enp0s4"}
    after = {"52:54:00:00:00:01": "enp0s2", "52:54:00:00:00:02": "ens3", "52:54:00:00:00:09": "enp0s4"}

    second, third = renamed(before, after)

    assert second.startswith("the network card 52:54:00:00:00:02 was enp0s3, is ens3: ")
    assert third.startswith("the network card 52:54:00:00:00:03 was enp0s4, is gone: ")
