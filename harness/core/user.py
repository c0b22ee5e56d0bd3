"""The user that this process runs as, who in a container may have neither a name nor a home."""

from __future__ import annotations

import getpass
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from harness.core.errors import HostError


def user_name() -> str:
    """The name of this user, or the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def home(environ: Mapping[str, str], user: int) -> Path:
    """``$HOME``, else the home of ``user`` by passwd(5); `HostError` if there is neither."""
    if named := environ.get("HOME"):
        return Path(named)
    try:
        return Path(pwd.getpwuid(user).pw_dir)
    except KeyError:
        raise HostError(f"no home folder: HOME is not set, and user id {user} is not in /etc/passwd") from None
