"""Files whose owner's number belongs to somebody else in another version are found: the guest's program, run here."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from harness.persistence.owners import owners, sample, strangers

from .test_file_survey import Here

DAEMON = pwd.getpwnam("daemon")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_one_file_of_each_pair_of_owners_is_sampled_and_the_same_is_looked_at_later(tmp_path: Path) -> None:
    for name, user in (("first", DAEMON.pw_uid), ("second", DAEMON.pw_uid), ("unnamed", 61234)):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, user, 0)

    before = sample(Here(), (str(tmp_path),))

    root, one, unnamed = sorted(before, key=lambda path: before[path]["user"])
    assert (root, unnamed) == (str(tmp_path), f"{tmp_path}/unnamed")
    assert {kind: tuple(owner) for kind, owner in before[one].items()} == {
        "user": (DAEMON.pw_uid, "daemon"),
        "group": (0, "root"),
    }
    assert tuple(before[unnamed]["user"]) == (61234, "")
    assert list(strangers(before, owners(Here(), tuple(before)))) == []

    os.chown(one, 61234, 0)
    (tmp_path / "unnamed").unlink()
    assert list(strangers(before, owners(Here(), tuple(before)))) == [
        f"{one} and its like were of user daemon ({DAEMON.pw_uid}), are of nobody (61234)"
    ]


def test_a_number_that_another_user_has_now_is_a_loss_and_one_that_moved_with_its_user_is_none() -> None:
    before = {
        "/a": {"user": (998, "nova"), "group": (998, "nova")},
        "/b": {"user": (101, "ovs"), "group": (0, "root")},
        "/c": {"user": (500, ""), "group": (0, "root")},
    }
    after = {
        "/a": {"user": (998, "chrony"), "group": (998, "nova")},
        "/b": {"user": (102, "ovs"), "group": (0, "root")},
        "/c": {"user": (500, "new"), "group": (0, "root")},
    }

    assert list(strangers(before, after)) == ["/a and its like were of user nova (998), are of chrony (998)"]
