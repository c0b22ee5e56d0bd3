"""The name that a guest has for a unit of the image definition, which may be written for another distribution."""

from __future__ import annotations

import shlex

from harness.guest.channel import Channel
from harness.model.unit_names import same_service

UNIT_NAME = """\
unit_name() {
    for name; do
        [ "$(systemctl show -p LoadState --value -- "$name")" = not-found ] || { echo "$name"; return; }
    done
    echo "$1"
}
"""
"""A shell function that prints the first of its arguments that is a unit of the guest, or an alias of one; else the
first."""


def word(unit: str) -> str:
    """A word of shell that expands to the guest's name of ``unit``, in a script that begins with `UNIT_NAME`."""
    names = same_service(unit)
    return f'"$(unit_name {shlex.join(names)})"' if names[1:] else shlex.quote(unit)


def name_in_guest(machine: str, channel: Channel, unit: str) -> str:
    """The name that the guest of ``machine`` has for ``unit``; ``unit`` itself if it has none."""
    if not same_service(unit)[1:]:
        return unit
    return channel.run(f"{UNIT_NAME}echo {word(unit)}").checked(machine)
