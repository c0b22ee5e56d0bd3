"""An upgrade without firmware: what a running guest does to start the next kernel by itself, and how that fails."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.model.artifacts import INITRD, KERNEL, Artifacts
from harness.model.verdict import Finding
from harness.qemu import command_line

PHASE = "shutdown"
"""With which a boot by kexec begins: the running system loads the kernel and stops its services."""
RESTARTS = "running in system mode"
"""What systemd says when it begins (core/main.c); before a kernel has, its user space was only restarted."""
LEAVES = "Starting new kernel"
"""The last that the old kernel prints (Linux, kernel/kexec_core.c, kernel_kexec())."""

_MISSING = 64
_LOAD = """\
command -v kexec >/dev/null || exit {missing}
place=$(mktemp -d /run/bootproof-kexec.XXXXXX) && cd "$place" || exit
for name in {kernel} {initrd}; do curl -fsS -o "$name" {url}/"$name" || exit; done
kexec -s -l {kernel} --initrd={initrd} --command-line={arguments} ||
    kexec -l {kernel} --initrd={initrd} --command-line={arguments}
status=$?
rm -r "$place"
cat /proc/sys/kernel/random/boot_id
exit $status
"""
"""kexec(8): -s is kexec_file_load(2), which some kernels lack. Prints the boot id of the system that is to end."""


def load_command(artifacts: Artifacts, arguments: Sequence[str]) -> str:
    """Fetch kernel and initrd as the lab serves them, and make them the next kernel; its status goes to
    `load_finding`."""
    return _LOAD.format(
        missing=_MISSING,
        kernel=KERNEL,
        initrd=INITRD,
        url=command_line.base_url(artifacts.digest),
        arguments=shlex.quote(" ".join(arguments)),
    )


def load_finding(status: int, said: Sequence[str], where: str) -> Finding:
    if status == _MISSING:
        return Finding(
            id="kexec-missing",
            what="the image has no kexec(8), and cannot be upgraded by kexec",
            where=where,
            cause="add the package kexec-tools, or take kexec out of the definition's boot paths",
        )
    return Finding(
        id="kexec-load-failed",
        what=f"the running system could not load the next kernel (status {status})",
        where=where,
        evidence=tuple(said[-8:]),
        cause="it was not fetched (curl), or the kernel refused it: lockdown, a signature, too little memory",
    )


def reset_finding(where: str, reason: str, lines: Sequence[str]) -> Finding:
    return Finding(
        id="kexec-reset",
        what=f"the machine was reset ({reason}) instead of starting the next kernel",
        where=where,
        evidence=tuple(lines[-8:]),
        cause="the next kernel was not loaded any more, or crashed before its first line: a real host goes through its "
        "firmware then, and comes up with whatever that starts",
    )


def silent_finding(where: str, waited_s: float, lines: Sequence[str]) -> Finding:
    return Finding(
        id="kexec-hangs",
        what=f"waited {waited_s:.0f} s for the first line of the kernel that the old one started, in vain",
        where=where,
        evidence=tuple(lines[-8:]),
        cause="the new kernel hangs where the old one left a device or a CPU, or has no console=ttyS0",
    )


def same_boot_finding(where: str) -> Finding:
    return Finding(
        id="kexec-did-not-happen",
        what="the boot id is the one from before: no other kernel was started",
        where=where,
        cause="the guest only restarted its user space",
    )
