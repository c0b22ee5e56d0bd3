"""Three hosts on this one: each an sshd in namespaces of its own, with a store and a clock of its own."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.core.deadline import Deadline, poll
from harness.core.process import tied_to_us

_INIT = "while :; do sleep 3600 & wait $!; done"
_AHEAD = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += SECONDS;
    return status;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void) zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec, at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""
"""A library that sets the clock of programs ahead; the kernel has one for all namespaces."""
_SSHD = """\
Port 22
HostKey {folder}/key
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
SetEnv BOOTPROOF_STORE={folder}/store TMPDIR={folder}/store/elsewhere PATH={path} {more}
"""


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _inside(pid: int, *words: str) -> list[str]:
    return ["nsenter", "-t", str(pid), "--mount", "--net", "--pid", "--uts", "--", *words]


@dataclass(slots=True)
class Host:
    """One host; ``pid`` is the first process of its namespaces."""

    name: str
    address: str
    folder: Path
    pid: int
    key: Path
    more: str = ""

    @property
    def store(self) -> Path:
        """It is on a small disk of its own, which only the host's namespaces have."""
        return Path(f"/proc/{self.pid}/root{self.folder}/store")

    def line(self) -> str:
        """As the file of hosts has it."""
        options = f"-i {self.key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -F none"
        return f"root@{self.address}:22 {options}"

    def start_sshd(self) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        (self.folder / "sshd_config").write_text(_SSHD.format(folder=self.folder, path=path, more=self.more))
        _run(
            *_inside(
                self.pid, "/usr/sbin/sshd", "-E", str(self.folder / "sshd.log"), "-f", str(self.folder / "sshd_config")
            )
        )

    def call(self, *words: str) -> str:
        """Run a program there."""
        return _run(*_inside(self.pid, *words))

    def processes(self) -> dict[int, str]:
        """What runs there besides the first process and its sleep: number here, command line."""
        found = dict[int, str]()
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if (
                    int(place.name) != self.pid
                    and words
                    and "sleep 3600" not in words
                    and os.readlink(place / "ns/pid") == own
                ):
                    found[int(place.name)] = words
            except OSError:
                continue
        return found

    def signal(self, number: int, *, of: str = "") -> int:
        """Send a signal to all processes whose command line has ``of``; how many there were."""
        found = [pid for pid, words in self.processes().items() if of in words]
        for pid in found:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        return len(found)

    def drop_packets(self) -> None:
        self.call("nft", "add table ip lost; add chain ip lost in { type filter hook input priority 0; policy drop; }")

    def pass_packets(self) -> None:
        self.call("nft", "delete table ip lost")

    def fill_disk(self) -> None:
        with (self.store / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                return

    def left(self) -> list[str]:
        """Processes and folders of runs that are still there."""
        running = [words for words in self.processes().values() if "sshd: /usr/sbin/sshd" not in words]
        folders = [*(self.store / "tmp").glob("*"), *(self.store / "elsewhere").glob("*")]
        return [*running, *map(str, folders)]


@dataclass(slots=True)
class Hosts:
    """The hosts, the namespace with the way to them, and the artifacts of runs on them."""

    folder: Path
    built: Path
    control: int
    hosts: list[Host]

    @property
    def file(self) -> Path:
        file = self.folder / "hosts.txt"
        file.write_text("# three hosts\n" + "".join(f"{host.line()}\n" for host in self.hosts))
        return file

    def here(self, *words: str) -> list[str]:
        """``words``, run where the hosts can be reached."""
        return ["nsenter", "-t", str(self.control), "--net", "--", *words]

    def left(self, within_s: float = 45.0) -> list[str]:
        """What is still on the hosts after that time; empty as soon as there is nothing."""
        poll(lambda: not any(host.left() for host in self.hosts), Deadline(within_s, scaled=False), every_s=0.5)
        return [f"{host.name}: {what}" for host in self.hosts for what in host.left()]


@contextmanager
def open_hosts(
    folder: Path,
    count: int = 3,
    clocks: dict[int, int] | None = None,
    env: dict[int, str] | None = None,
    disk_mib: int = 64,
    slots: Path | None = None,
) -> Iterator[Hosts]:
    """``count`` hosts until the block ends.

    ``clocks`` maps a host's number to the seconds that its clock is ahead, ``env`` to more variables of its shells.
    Each has a store of ``disk_mib``. Hosts that boot machines share the cores and the memory of this one, by the folder
    with its boot ``slots``.
    """
    Path("/run/sshd").mkdir(exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "client"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    with ExitStack() as stack:
        control = stack.enter_context(_namespaces("--net"))
        for words in (
            "link set lo up",
            "link add pool type bridge",
            "addr add 10.77.0.1/24 dev pool",
            "link set pool up",
        ):
            _run("nsenter", "-t", str(control), "--net", "ip", *words.split())
        numbers = range(1, count + 1)
        hosts = [stack.enter_context(_host(folder, number, control, key, disk_mib, slots)) for number in numbers]
        for number, host in enumerate(hosts, 1):
            ahead = [f"LD_PRELOAD={_library(host.folder, clocks[number])}"] if clocks and number in clocks else []
            host.more = " ".join([*ahead, (env or {}).get(number, "")])
            host.start_sshd()
        yield Hosts(folder=folder, control=control, hosts=hosts, built=write_artifacts(folder / "built"))


def _library(folder: Path, seconds: int) -> Path:
    source, library = folder / "ahead.c", folder / "ahead.so"
    source.write_text(_AHEAD)
    _run("cc", "-shared", "-fPIC", f"-DSECONDS={seconds}", "-o", str(library), str(source), "-ldl")
    return library


@contextmanager
def _namespaces(*options: str) -> Iterator[int]:
    """The process id, here, of the first process in new namespaces, which end with the block."""
    argv = ["unshare", *options, "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _INIT]
    holder = subprocess.Popen(tied_to_us(argv))
    try:
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        found = poll(lambda: children.read_text().split(), Deadline(10, scaled=False), every_s=0.02)
        assert found
        yield int(found[0])
    finally:
        holder.kill()
        holder.wait()


@contextmanager
def _host(folder: Path, number: int, control: int, key: Path, disk_mib: int, slots: Path | None) -> Iterator[Host]:
    name, place = f"host{number}", folder / f"host{number}"
    place.mkdir()
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "key"))
    shutil.copy(key.with_suffix(".pub"), place / "authorized")
    with _namespaces("--net", "--mount", "--uts") as pid:
        host = Host(name=name, address=f"10.77.0.{number + 1}", folder=place, pid=pid, key=key)
        host.call("hostname", name)
        (place / "store").mkdir()
        host.call("mount", "-t", "tmpfs", "-o", f"size={disk_mib}m", "store", str(place / "store"))
        (host.store / "elsewhere").mkdir()
        if slots:
            (host.store / "slots").mkdir()
            host.call("mount", "--bind", str(slots), str(place / "store" / "slots"))
        there = ["nsenter", "-t", str(control), "--net", "ip"]
        _run(*there, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _run(*there, "link", "set", name, "master", "pool", "up")
        for words in ("link set lo up", f"addr add {host.address}/24 dev eth0", "link set eth0 up"):
            host.call("ip", *words.split())
        yield host


# A run that boots nothing

_DEFINITION = """\
description = "an image that another builder makes"
version = "1"

[boot]
paths = ["direct"]
memory_mib = 1024

[budget]
boot_s = 60
rootfs_mib = 250
initrd_mib = 50
"""
_TESTS = """\

import time

import pytest

TESTS = {tests}


@pytest.mark.check("lint")
@pytest.mark.check("image")
@pytest.mark.check("host")
@pytest.mark.check("ssh")
@pytest.mark.check("identity")
@pytest.mark.check("survival")
@pytest.mark.parametrize("number", range(TESTS))
def test_definition(definition, number):
    time.sleep({takes_s})
    assert number not in {failing}, "this one is planted"
    assert definition.name == "tiny"
"""

_EMPTY_ARCHIVE = b"070701" + b"0" * 88 + b"0000000b00000000" + b"TRAILER!!!\0" + bytes(3)
"""cpio in format newc: its last entry only."""


def bzimage(version: str) -> bytes:
    """The head of a kernel that QEMU refuses at once."""
    head = bytearray(0x400)
    head[0x1F1] = 64  # sectors of setup code, which the file does not have
    head[0x202:0x206] = b"HdrS"
    head[0x206:0x208] = (0x20C).to_bytes(2, "little")
    head[0x20E:0x210] = (0x300 - 0x200).to_bytes(2, "little")
    head[0x300 : 0x300 + len(version)] = version.encode()
    return bytes(head)


def write_repository(folder: Path, *, tests: int = 9, takes_s: float = 1.0, failing: tuple[int, ...] = ()) -> Path:
    """A repository with an image of another builder, whose tests look at nothing but its definition."""
    (folder / "images" / "tiny").mkdir(parents=True)
    (folder / "images" / "tiny" / "image.toml").write_text(_DEFINITION)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_tiny.py").write_text(_TESTS.format(tests=tests, takes_s=takes_s, failing=failing or "()"))
    return folder


def write_artifacts(built: Path) -> Path:
    """Kernel, initrd and root file system that no machine boots. All runs have the same: none proves a host with it."""
    built.mkdir()
    (built / "vmlinuz").write_bytes(bzimage("6.1.0-tiny"))
    (built / "initrd.img").write_bytes(gzip.compress(_EMPTY_ARCHIVE, mtime=0))
    tree = built.with_name("tree")
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "os-release").write_text("IMAGE_VERSION=1\n")
    _run("mksquashfs", str(tree), str(built / "rootfs.squashfs"), "-quiet", "-no-progress")
    return built


OPTIONS = ["--image", "tiny", "--accel", "tcg", "--network", "user", "tests"]
