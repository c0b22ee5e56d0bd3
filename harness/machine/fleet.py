"""Several machines that are powered on at the same moment."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from harness.host import admission
from harness.machine.machine import Machine


def power_on_together(machines: Sequence[Machine]) -> None:
    """Boot all machines at the same moment, like a rack whose power returns, and wait until all are ready.

    They are admitted as one: memory for all of them, and one boot slot. After all boots have ended, the error of the
    first machine that failed is raised.
    """
    slots = machines[0].context.slots
    needed_mib = sum(admission.of_a_boot(machine.spec.memory_mib) for machine in machines)
    with admission.memory_share(slots, needed_mib) as share, admission.boot_slot(slots):
        share.begin()
        with ThreadPoolExecutor(len(machines), thread_name_prefix="boot") as pool:
            boots = [pool.submit(machine.boot_admitted) for machine in machines]
    for machine, boot in zip(machines, boots, strict=True):
        with machine.holding_failed():
            boot.result()
