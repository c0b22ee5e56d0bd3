"""Mount and PID namespaces for programs, which end with this process."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from harness.core import process
from harness.core.errors import HostError
from harness.core.user import user_name

_KEPT_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def prefix() -> list[str]:
    """The words before a command that run it in namespaces of its own; `HostError` if this host cannot.

    Needs util-linux 2.38 or newer, for ``--map-auto``.
    """
    words = [
        *(_user_namespace() if os.geteuid() else ()),
        # Entering a user namespace clears the death signal, so it is set after that.
        *process.tied_to_us(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"], parent=os.getpid()
        ),
        *("sh", "-c", 'umask 022 && exec "$@"', "umask"),  # the user's would reach the image
    ]
    _try(tuple(words))
    return words


def environment(**more: str) -> dict[str, str]:
    """The same environment for every user: no locale, home or configuration of theirs. Proxies are kept."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LC_ALL": "C.UTF-8", "HOME": "/root", "PYTHONHASHSEED": "0", **kept, **more}


def remove(folder: Path) -> None:
    """Remove ``folder``, including files of subordinate ids."""
    process.output([*prefix(), "rm", "-rf", "--one-file-system", str(folder)])


def _user_namespace() -> list[str]:
    process.require("newuidmap", "uidmap")
    user = user_name()
    for file in ("/etc/subuid", "/etc/subgid"):
        if not has_ids(Path(file), user):
            remedy = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}, or build as root"
            raise HostError(f"{user} has no 65536 subordinate ids in {file}", remedy=remedy)
    return ["unshare", "--user", "--map-root-user", "--map-auto"]


def has_ids(file: Path, user: str) -> bool:
    """Whether ``file``, as in subuid(5), gives ``user`` 65536 ids."""
    names = (user, str(os.getuid()))
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    rows = [line.split(":") for line in lines]
    return any(row[0] in names and int(row[2]) >= 65536 for row in rows if len(row) == 3)


@cache
def _try(words: tuple[str, ...]) -> None:
    process.require("unshare", "util-linux")
    process.require("setpriv", "util-linux")
    try:
        process.output([*words, "true"])
    except process.CommandFailed as error:
        raise HostError(
            f"no namespaces for the build: {error.tail}; build as root, in a container with "
            "CAP_SYS_ADMIN, or allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0 "
            "where that key exists)"
        ) from error
