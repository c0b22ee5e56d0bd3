"""The state ``with-domain``: a machine with a guest that runs."""

from __future__ import annotations

from uuid import UUID

from harness.guests.domains import IMAGES, Domain
from harness.guests.hypervisor import Hypervisor
from harness.guests.tiny_guest import TinyGuest
from harness.machine.machine import Machine
from harness.machine.states import Versions, state

NAME = "bootproof"
DOMAIN = Domain(name=NAME, uuid=UUID(int=1), mac="52:54:00:67:75:01", disk=f"{IMAGES}/{NAME}.qcow2", network=None)


@state("with-domain")
def with_domain(machine: Machine, _: Versions) -> None:
    """A tiny guest without a card, called `NAME`."""
    hypervisor = Hypervisor(machine)
    hypervisor.put_disk(DOMAIN, TinyGuest(nonce=NAME))
    hypervisor.define(DOMAIN, hypervisor.kind())
    hypervisor.start(NAME)
