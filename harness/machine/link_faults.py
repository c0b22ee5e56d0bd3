"""Network faults of a machine's own link: QEMU unplugs its cable and plugs it in again (QMP, set_link)."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from harness.core.deadline import Deadline
from harness.core.errors import HarnessError
from harness.guest.console import Console
from harness.model.machine_spec import MachineSpec
from harness.model.network_faults import LinkFault, NetworkFault
from harness.qemu import command_line
from harness.qemu.qmp import Qmp, QmpGone

_FLAP_S = 2.0


@contextmanager
def with_link_faults(spec: MachineSpec, faults: Sequence[NetworkFault], qmp: Qmp, console: Console) -> Iterator[None]:
    """While the block lasts, the link of the machine's first network card has the link faults among ``faults``."""
    link = [fault for fault in faults if isinstance(fault, LinkFault) and (fault.down_s or fault.flaps)]
    if not link:
        yield
        return
    is_over, problems = threading.Event(), list[HarnessError]()

    def set_link(*, is_up: bool) -> None:
        qmp.execute("set_link", {"name": command_line.nic_id(0), "up": is_up}, deadline=Deadline(10))

    def play() -> None:
        try:
            for fault in link:
                _play(fault, spec, console, is_over, set_link)
        except QmpGone:
            pass  # the machine is off
        except HarnessError as error:
            problems.append(error)

    if any(fault.down_s for fault in link):
        set_link(is_up=False)
    thread = threading.Thread(target=play, name=f"link of {spec.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        for problem in problems:
            raise problem


def _play(
    fault: LinkFault, spec: MachineSpec, console: Console, is_over: threading.Event, set_link: Callable[..., None]
) -> None:
    """Apply ``fault``; its time starts when the firmware, iPXE or the initrd first needs the link."""
    first = "firmware" if spec.is_uefi else "ipxe"
    if fault.down_s == math.inf or not _has_begun(first if spec.boot_path.is_netboot else "initrd", console, is_over):
        return
    if fault.down_s and not is_over.wait(fault.down_s):
        set_link(is_up=True)
    if fault.flaps and _has_begun("initrd", console, is_over):
        for _ in range(fault.flaps):
            for is_up in (False, True):
                set_link(is_up=is_up)
                if is_over.wait(_FLAP_S * (1 + is_up)):
                    return


def _has_begun(phase: str, console: Console, is_over: threading.Event) -> bool:
    """Wait until the machine gets to ``phase``; False if it is switched off before that."""
    while phase != "firmware" and phase not in console.phases:
        if is_over.wait(0.1):
            return False
    return True
