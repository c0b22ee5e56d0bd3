"""The user of this process, who in a container may have no name and no home."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from harness.core.errors import HostError
from harness.core.user import home, user_name

NOBODY_KNOWN = next(user for user in range(54321, 65000) if user not in {entry.pw_uid for entry in pwd.getpwall()})


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}])
def test_without_home_it_is_that_of_the_passwd_entry(environ: dict[str, str]) -> None:
    assert home(environ, os.getuid()) == Path(pwd.getpwuid(os.getuid()).pw_dir)


def test_home_outranks_the_passwd_entry() -> None:
    assert home({"HOME": "/somewhere"}, NOBODY_KNOWN) == Path("/somewhere")


def test_a_user_without_home_and_passwd_entry_is_an_error_of_the_host() -> None:
    with pytest.raises(HostError, match=f"HOME is not set, and user id {NOBODY_KNOWN} is not in /etc/passwd"):
        home({}, NOBODY_KNOWN)


def test_a_user_always_has_a_name() -> None:
    assert user_name()
