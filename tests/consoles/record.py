"""Record what kernels, initrds and systemds of several generations print, when all is well and when it is not.

    python -m tests.consoles.record /tmp/work focal bullseye …        (as root; some 30 s a console)

Another distribution's keyring must be installed; $MIRROR names an archive other than mmdebstrap's own choice.
Each system is made as its distribution makes it, with its own initrd, and booted once for each fault. Of the
good boot the whole console is kept, of others what is around the first console pattern.
tests/harness/guest/test_console_patterns.py reads them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness.core import process
from harness.core.text import plain
from harness.guest.console_patterns import patterns_in

CONSOLES = Path(__file__).parent
GOOD = "good"
_DEBIAN = ("linux-image-cloud-amd64",)
_UBUNTU = ("linux-image-virtual",)
_ENOUGH_S, _QUIET_S = 300.0, 6.0
_BEFORE, _LINES = 30, 80


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A suite, the packages of its kernel, and what makes its initrd."""

    name: str
    kernel: tuple[str, ...]
    initrd: str = "initramfs-tools"

    @property
    def is_ubuntu(self) -> bool:
        return self.kernel == _UBUNTU


SYSTEMS = {
    "bionic": System(name="ubuntu-18.04", kernel=_UBUNTU),
    "focal": System(name="ubuntu-20.04", kernel=_UBUNTU),
    "jammy": System(name="ubuntu-22.04", kernel=_UBUNTU, initrd="dracut"),
    "noble": System(name="ubuntu-24.04", kernel=_UBUNTU),
    "resolute": System(name="ubuntu-26.04", kernel=_UBUNTU, initrd="dracut"),
    "bullseye": System(name="debian-11", kernel=_DEBIAN, initrd="dracut"),
    "bookworm": System(name="debian-12", kernel=_DEBIAN),
    "trixie": System(name="debian-13", kernel=_DEBIAN, initrd="dracut"),
    "sid": System(name="debian-sid", kernel=_DEBIAN, initrd="dracut"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Kernel arguments that bring it about; ``root`` in place of the disk's; what becomes of the initrd."""

    arguments: str = ""
    root: str = "root=/dev/vda"
    initrd_share: float = 1.0
    memory_mib: int = 768


UNITS = {
    "fails": "[Service]\nType=oneshot\nExecStart=/bin/false\n",
    "needs": "[Unit]\nRequires=fails.service\nAfter=fails.service\n[Service]\nExecStart=/bin/sleep infinity\n",
    "circle": "[Unit]\nRequires=circles.service\nAfter=circles.service\n[Service]\nExecStart=/bin/sleep infinity\n",
    "circles": "[Unit]\nRequires=circle.service\nAfter=circle.service\n[Service]\nExecStart=/bin/sleep infinity\n",
    "crash": "[Service]\nExecStart=/bin/sh -c 'sleep 2; echo c >/proc/sysrq-trigger'\n",
    # tail of uutils, which Ubuntu 26.04 has, needs no memory for this; perl-base is everywhere
    "eats": "[Service]\nExecStart=/usr/bin/perl -e 'push @kept, q(x) x 65536 while 1'\n",
    "ext4": "[Service]\nExecStart=/bin/sh -c 'sleep 2; echo planted >/sys/fs/ext4/vda/trigger_fs_error'\n",
}
FAULTS = {
    GOOD: Fault(),
    "unit-failed": Fault(arguments="systemd.wants=fails.service"),
    "unit-dependency-failed": Fault(arguments="systemd.wants=needs.service"),
    "ordering-cycle": Fault(arguments="systemd.wants=circle.service"),
    "emergency-mode": Fault(arguments="systemd.unit=emergency.target"),
    "crash": Fault(arguments="systemd.wants=crash.service"),
    "out-of-memory": Fault(arguments="systemd.wants=eats.service", memory_mib=384),
    "disk-error": Fault(arguments="systemd.wants=ext4.service"),
    "initrd-timeout": Fault(root="root=LABEL=nowhere", arguments="rootdelay=8 rd.retry=8 rd.timeout=20"),
    "initrd-corrupt": Fault(initrd_share=0.6),
    "kernel-panic": Fault(initrd_share=0.0, root="root=/dev/nowhere"),
}


def main() -> None:
    process.unwind_when_told_to_end()
    place = Path(sys.argv[1])
    for suite in sys.argv[2:]:
        system = SYSTEMS[suite]
        folder = place / suite
        if not (folder / "root.ext4").exists():
            _bootstrap(suite, system, folder)
        programs = _programs(folder / "root")
        for name, fault in FAULTS.items():
            target = CONSOLES / f"{system.name}.{name}.log"
            if target.exists():
                continue
            lines = _boot(folder, fault, is_good=name == GOOD)
            kept = lines if name == GOOD else _around_the_first_pattern(lines)
            target.write_text("\n".join([f"# {programs}", *kept]) + "\n", "utf-8")
            print(target.name, len(lines), [pattern.id for line in lines for pattern in patterns_in(line)], flush=True)


def _bootstrap(suite: str, system: System, folder: Path) -> None:
    folder.mkdir(parents=True)
    root = folder / "root"
    packages = ",".join((*system.kernel, system.initrd, "systemd-sysv", "udev", "dbus", "kmod", "zstd", "login"))
    components = "main,universe" if system.is_ubuntu else "main"
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", f"--include={packages}",
            f"--components={components}", "--aptopt=Acquire::Check-Valid-Until false", suite, str(root)]  # fmt: skip
    subprocess.run([*argv, *filter(None, [os.environ.get("MIRROR")])], check=True)
    for name, text in UNITS.items():
        (root / f"etc/systemd/system/{name}.service").write_text(text)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(folder / "root.ext4"), "4G"], check=True)


def _programs(root: Path) -> str:
    """ "linux 5.4.0-26.30 systemd 245.4-4ubuntu3 initramfs-tools 0.136ubuntu6", from what dpkg has."""
    text = (root / "var/lib/dpkg/status").read_text("utf-8")
    blocks = (dict(re.findall(r"^(Package|Version): (.*)$", block, re.M)) for block in text.split("\n\n"))
    versions = {block["Package"]: block["Version"] for block in blocks if block}
    kernel = next(version for name, version in versions.items() if re.match(r"linux-image-\d", name))
    about = {"linux": kernel} | {name: versions[name] for name in ("systemd", "initramfs-tools", "dracut")
                                 if name in versions}  # fmt: skip
    return " ".join(f"{name} {version}" for name, version in about.items())


def _boot(folder: Path, fault: Fault, *, is_good: bool) -> list[str]:
    boot = folder / "root" / "boot"
    kernel = max(boot.glob("vmlinuz-*"))
    initrd = folder / "initrd"
    content = max(boot.glob("initrd.img-*")).read_bytes()
    initrd.write_bytes(content[: int(len(content) * fault.initrd_share)])
    log = folder / "console"
    log.write_bytes(b"")
    arguments = f"{fault.root} rw console=ttyS0,115200 systemd.show_status=1 {fault.arguments}"
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "1",
            "-m", str(fault.memory_mib), "-kernel", str(kernel), "-append", arguments, "-serial", f"file:{log}",
            "-drive", f"file={folder / 'root.ext4'},format=raw,if=virtio,snapshot=on"]  # fmt: skip
    argv += ["-initrd", str(initrd)] if fault.initrd_share else []
    with subprocess.Popen(argv) as qemu:
        try:
            _wait(qemu, log, is_good=is_good)
        finally:
            qemu.kill()
    return _lines(log)


def _wait(qemu: subprocess.Popen[bytes], log: Path, *, is_good: bool) -> None:
    """Until it has said what it should, and then nothing for a while, or as much as is kept."""
    began_s = seen_s = time.monotonic()
    size, is_over, is_full = 0, False, False
    while qemu.poll() is None and time.monotonic() - began_s < _ENOUGH_S:
        time.sleep(0.5)
        if log.stat().st_size != size:
            size, seen_s = log.stat().st_size, time.monotonic()
            lines = _lines(log)
            is_over = " login:" in lines[-1] if is_good else any(any(patterns_in(line)) for line in lines)
            is_full = not is_good and len(_around_the_first_pattern(lines)) == _LINES
        if is_over and (is_full or time.monotonic() - seen_s > _QUIET_S):
            break


def _around_the_first_pattern(lines: list[str]) -> list[str]:
    """The end, if there is none."""
    at = next((number for number, line in enumerate(lines) if any(patterns_in(line))), len(lines))
    return lines[max(0, at - _BEFORE) :][:_LINES]


def _lines(log: Path) -> list[str]:
    """As `harness.guest.console` sees them, but for who built the kernel."""
    text = plain(log.read_bytes().decode("utf-8", "replace"))
    return re.sub(r" \(\S+@\S+\)", "", text).split("\n")


if __name__ == "__main__":
    main()
