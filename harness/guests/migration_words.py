"""What libvirt says about a migration, and what a guest shows after it: pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.guests.tiny_guest import Answer

CANNOT_MIGRATE = "guest-cannot-migrate"
HARMED = "migration-harms-guest"
_TIMED_OUT = (124, 137)
"""timeout(1): the status of a command that was ended, by SIGTERM and by SIGKILL."""

LACKS_MACHINE_TYPE = "QEMU of the destination does not have the guest's machine type"
LACKS_CPU = "QEMU or the CPU of the destination cannot give the guest its CPU"
CLOSED = "a firewall closes the port at the destination, or nothing listens there"
UNTRUSTED = "the hosts do not trust each other: certificates in /etc/pki"
LINK_LOST = "the network between the hosts failed during the migration"
_CAUSES = (
    (r"machine type", LACKS_MACHINE_TYPE),
    (r"CPU model|guest CPU|cpu features?|CPU features?|missing features", LACKS_CPU),
    (r"certificate|TLS|x509|gnutls", UNTRUSTED),
    (r"unable to connect|Connection refused|Connection timed out|No route to host", CLOSED),
    (r"keepalive|Lost connection|Connection reset|Broken pipe|client socket is closed", LINK_LOST),
)
"""In libvirt 9 and 11, and QEMU 7 to 10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a migration ended: the status of virsh, and what it said, in one line."""

    status: int
    said: str

    @property
    def is_time_out(self) -> bool:
        return self.status in _TIMED_OUT

    def __str__(self) -> str:
        return f"status {self.status}, {self.said!r}"


def cause_of(said: str) -> str:
    """The suspected cause of what libvirt said; empty if it is not known."""
    return next((cause for pattern, cause in _CAUSES if re.search(pattern, said)), "")


def changes(before: Answer, after: Answer, acknowledged: int) -> Iterator[str]:
    """What is wrong with a guest that went on: its status before a migration and after it, and how many writes it had
    acknowledged meanwhile."""
    for name in ("nonce", "disk"):
        if after.fields.get(name) != before.fields["nonce"]:
            yield f"its {name} is {after.fields.get(name)}, and was {before.fields['nonce']}"
    if after.number("boots") != before.number("boots"):
        yield f"it was started anew: boots={after.number('boots')}, and was {before.number('boots')}"
    if after.number("counter") < before.number("counter"):
        yield f"its memory is of an earlier moment: counter={after.number('counter')}, was {before.number('counter')}"
    lost = before.number("writes") + acknowledged - after.number("writes")
    if lost > 0:
        yield f"its disk lacks {lost} of the {acknowledged} writes that it acknowledged meanwhile"
