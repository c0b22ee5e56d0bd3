"""Boot path kexec: a running guest starts the next kernel without firmware. Its command, and findings for failures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.model.artifacts import INITRD, KERNEL, Artifacts
from harness.model.verdict import Finding
from harness.qemu import ipxe

PHASE = "shutdown"
"""The first phase of a boot by kexec: the running system loads the kernel and stops its services."""
RESTARTS = "running in system mode"
"""systemd prints it when it starts (core/main.c). Without a kernel line before it, only user space was restarted."""
LEAVES = "Starting new kernel"
"""The last line of the old kernel (Linux, kernel/kexec_core.c, kernel_kexec())."""

_MISSING = 64
_LOAD = """\
command -v kexec >/dev/null || exit {missing}
cat /proc/sys/kernel/random/boot_id || exit
place=$(mktemp -d /run/bootproof-kexec.XXXXXX) && cd "$place" || exit
for name in {kernel} {initrd}; do curl -fsS -o "$name" {url}/"$name" || exit; done
kexec -s -l {kernel} --initrd={initrd} --command-line={arguments} ||
    kexec -l {kernel} --initrd={initrd} --command-line={arguments}
status=$?
rm -r "$place"
exit $status
"""
"""kexec(8): -s is kexec_file_load(2), which some kernels lack. Prints the boot id of the running system."""


def load_command(artifacts: Artifacts, arguments: Sequence[str]) -> str:
    """A shell command that downloads kernel and initrd from the lab and loads them as the next kernel.

    If its status is not 0, pass the status to `load_finding`.
    """
    line, url = shlex.quote(" ".join(arguments)), ipxe.base_url(artifacts.digest)
    return _LOAD.format(missing=_MISSING, kernel=KERNEL, initrd=INITRD, url=url, arguments=line)


def load_finding(status: int, output: Sequence[str], where: str) -> Finding:
    if status == _MISSING:
        return Finding(
            id="kexec-missing",
            what="the image has no kexec(8), which boot path kexec needs",
            where=where,
            cause="add the package kexec-tools, or remove kexec from the definition's boot paths",
        )
    return Finding(
        id="kexec-load-failed",
        what=f"the running system could not load the next kernel (status {status})",
        where=where,
        evidence=tuple(output[-8:]),
        cause="the download failed (curl), or the kernel refused it: lockdown, a signature, too little memory",
    )


def reset_finding(where: str, reason: str, lines: Sequence[str]) -> Finding:
    return Finding(
        id="kexec-reset",
        what=f"the machine was reset ({reason}) instead of starting the next kernel",
        where=where,
        evidence=tuple(lines[-8:]),
        cause="the next kernel was not loaded any more, or crashed before its first line: a real host would then boot "
        "whatever its firmware starts",
    )


def silent_finding(where: str, waited_s: float, lines: Sequence[str]) -> Finding:
    return Finding(
        id="kexec-hangs",
        what=f"no first line of the new kernel within {waited_s:.0f} s",
        where=where,
        evidence=tuple(lines[-8:]),
        cause="the new kernel hangs where the old one left a device or a CPU, or has no console=ttyS0",
    )


def same_boot_finding(where: str) -> Finding:
    return Finding(
        id="kexec-did-not-happen",
        what="the boot id has not changed: no new kernel was started",
        where=where,
        cause="the guest only restarted its user space",
    )
