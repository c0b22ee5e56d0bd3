"""What a test changed on a machine that it should only have looked at."""

from __future__ import annotations

from harness.machine.shared import differences


def test_each_kind_of_change_has_its_word() -> None:
    before = {"/data/a": "1", "/etc/b": "1", "cron.service": "active", "x.service": "failed", "same": "1"}
    after = {"/data/a": "2", "/etc/c": "1", "y.service": "active", "x.service": "active", "same": "1"}

    assert differences(before, after) == [
        "/data/a was changed",
        "/etc/b is gone",
        "/etc/c is new",
        "cron.service is no longer active",
        "x.service is active",
        "and 1 more",
    ]


def test_nothing_changed() -> None:
    assert differences({"/data/a": "1"}, {"/data/a": "1"}) == []
