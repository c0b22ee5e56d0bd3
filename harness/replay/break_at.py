"""``--break-at WHERE``: where a machine stops and waits for a person."""

from __future__ import annotations

from dataclasses import replace

from harness.core.errors import UsageError
from harness.model.machine_spec import BootPath, BreakPoint
from harness.replay.case import SERVICE, Case

_SETTING = {"before": "ExecStartPre", "after": "ExecStartPost"}


def stop_at(case: Case, where: str) -> Case:
    """``case`` with a machine that waits at ``where``.

    ``where`` is a `BreakPoint`; ``initrd``, before dracut mounts the root file system; or a service, before or after
    it starts. `UsageError` for anything else.
    """
    path = case.spec.boot_path
    if where in tuple(BreakPoint):
        stop = BreakPoint(where)
        if (stop is BreakPoint.IPXE and not path.is_netboot) or (stop is BreakPoint.GRUB and path is not BootPath.GRUB):
            raise UsageError(
                f"--break-at {where}: the boot path {path} does not use it; choose another with --set boot-path=PATH"
            )
        return replace(case, stop=stop)
    if where == "initrd":
        return replace(case, arguments=(*case.arguments, "rd.break=pre-mount"))
    when, _, unit = where.rpartition(":")
    if not SERVICE.fullmatch(unit) or when not in ("", *_SETTING):
        raise UsageError(
            f"--break-at {where}: expected {', '.join(BreakPoint)}, initrd, or a service, such as before:ssh.service "
            "or after:ssh.service"
        )
    setting = _SETTING[when or "before"]
    return case.with_service_settings(unit, "break", f"TimeoutStartSec=infinity\n{setting}=sleep infinity")
