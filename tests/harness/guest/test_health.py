"""The findings that follow from the health of a ready guest."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.guest.fingerprint import Fingerprint, compare, fingerprint_of
from harness.guest.health import GuestHealth, inspect_guest, judge_health, taints
from harness.guest.unit_states import UnitStart
from harness.model.artifacts import Artifacts, FileRecord, Manifest
from harness.model.verdict import Unit

MANIFEST = Manifest(
    image="nova-kvm", version="1", kernel_version="6.12.1", kernel_arguments=(), packages={}, dracut_modules=(),
    files={"vmlinuz": FileRecord(sha256="0" * 64, size_bytes=1)}, initrd_drivers=(), definition="0" * 64, sources={},
    builder={"mmdebstrap": "1.5"},
)  # fmt: skip
GOOD = GuestHealth(
    kernel="6.12.1", image="nova-kvm", version="1", boot_id="x", tainted=0, prints=Fingerprint(), failed_units=(),
    restarted_units=("systemd-journald.service 1",),
)  # fmt: skip


def ids(seen: GuestHealth) -> list[str]:
    return [finding.id for finding in judge_health(seen, MANIFEST, "here")]


def test_a_healthy_guest_has_no_finding() -> None:
    assert ids(GOOD) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"kernel": "6.12.0"}, "wrong-image"),
        ({"image": "base"}, "wrong-image"),
        ({"version": "2"}, "wrong-image"),
        ({"failed_units": ("ssh.service",)}, "unit-failed"),
        ({"restarted_units": ("ssh.service 2",)}, "unit-flapping"),
        ({"tainted": 1 << 9}, "kernel-tainted"),
    ],
)
def test_each_defect_is_one_finding(change: dict[str, object], finding: str) -> None:
    assert ids(replace(GOOD, **change)) == [finding]  # type: ignore[arg-type]  # values as the fields want them


@pytest.mark.parametrize(
    "health",
    [replace(GOOD, failed_units=("nova-compute.service",)), replace(GOOD, restarted_units=("nova-compute.service 3",))],
)
def test_a_unit_that_may_wait_for_a_control_plane_may_not_fail_or_start_again(health: GuestHealth) -> None:
    assert ids(health) in (["unit-failed"], ["unit-flapping"])


AS_BUILT = Fingerprint(kernel_build="#1 SMP Debian 6.12.1-1", initrd_bytes=100, rootfs_mark="a" * 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kernel_build": "#2 SMP Debian 6.12.1-2"}, "the running kernel is not"),
        ({"initrd_bytes": 101}, "the running initrd is not the one that was booted: 101 seen, 100 expected"),
        ({"rootfs_mark": "b" * 64}, "the running root file system is not"),
    ],
)
def test_a_file_of_another_build_of_the_same_version_is_recognized(change: dict[str, object], words: str) -> None:
    seen = replace(AS_BUILT, **change)  # type: ignore[arg-type]  # values as the fields want them
    [finding] = compare(seen, AS_BUILT, "here")

    assert finding.id == "wrong-image"
    assert words in finding.what


def test_what_a_guest_cannot_show_is_no_finding() -> None:
    assert list(compare(Fingerprint(), AS_BUILT, "here")) == []
    assert list(compare(AS_BUILT, Fingerprint(), "here")) == []
    assert list(compare(AS_BUILT, AS_BUILT, "here")) == []


def test_prints_are_read_from_the_files_themselves(tmp_path: Path) -> None:
    banner = b"6.12.1-amd64 (builder@example.org) #1 SMP Debian 6.12.1-1\0"
    kernel = bytearray(0x8000)
    kernel[0x202:0x206], kernel[0x20E:0x210] = b"HdrS", (0x300).to_bytes(2, "little")
    kernel[0x500 : 0x500 + len(banner)] = banner
    for name, content in (("vmlinuz", kernel), ("initrd.img", b"x" * 7), ("rootfs.squashfs", b"hsqs" + b"y" * 200)):
        (tmp_path / name).write_bytes(content)
    files = {name: FileRecord(sha256="0" * 64, size_bytes=7) for name in ("vmlinuz", "initrd.img", "rootfs.squashfs")}
    prints = fingerprint_of(Artifacts(folder=tmp_path, manifest=replace(MANIFEST, files=files)))

    assert (prints.kernel_build, prints.initrd_bytes) == ("#1 SMP Debian 6.12.1-1", 7)
    assert prints.rootfs_mark == hashlib.sha256(b"hsqs" + b"y" * 92).hexdigest()


def test_a_soft_lockup_alone_is_the_hosts_doing() -> None:
    assert ids(replace(GOOD, tainted=1 << 14)) == []
    assert ids(replace(GOOD, tainted=1 << 14 | 1 << 7)) == ["kernel-tainted"]


def test_what_another_builders_manifest_does_not_know_is_not_compared() -> None:
    foreign = replace(MANIFEST, builder={}, version="")

    seen = replace(GOOD, image="theirs", version="7")
    assert list(judge_health(seen, foreign, "here")) == []
    (finding,) = judge_health(replace(seen, kernel="6.1"), foreign, "here")
    assert finding.id == "wrong-image"


def test_taints_are_named() -> None:
    assert taints(1 << 7 | 1 << 9) == ["died (oops)", "warning"]


SYSTEMCTL = r"""#!/bin/sh
case $* in
    *UserspaceTimestampMonotonic*) echo 20000000 ;;
    *--type=*) cat <<'END'
Id=-.mount
ActiveState=active
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=15000000
InactiveEnterTimestampMonotonic=0

Id=data.mount
ActiveState=failed
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=0
END
    ;;
    *) cat <<'END'
Id=a.service
ActiveState=active
NRestarts=0
InactiveExitTimestampMonotonic=25000000
ActiveEnterTimestampMonotonic=26500000
InactiveEnterTimestampMonotonic=0

Id=once.service
ActiveState=inactive
NRestarts=0
InactiveExitTimestampMonotonic=21000000
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=24500000
After=data.mount "dev-disk-by\\x2dlabel-x.device" data.mount
Requires=data.mount
Wants="dev-disk-by\\x2dlabel-x.device"

Id=b.service
ActiveState=failed
NRestarts=2
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=0
END
    ;;
esac
"""
OD = '#!/bin/sh\ncase $* in *boot_params*) echo 4711 ;; *) exec /usr/bin/od "$@" ;; esac\n'


class LocalShell(Channel):
    """This host's bash, with a systemctl of the test's own."""

    def __init__(self, folder: Path, systemctl: str) -> None:
        self._folder = folder
        for name, content in (("systemctl", systemctl), ("od", OD)):
            (folder / name).write_text(content)
            (folder / name).chmod(0o755)

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        environment = {"PATH": f"{self._folder}:{os.environ['PATH']}", "LC_ALL": "C"}
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=environment)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def test_a_guest_names_its_failed_and_restarted_units_also_the_last(tmp_path: Path) -> None:
    seen = inspect_guest(LocalShell(tmp_path, SYSTEMCTL))

    assert seen.failed_units == ("b.service", "data.mount")
    assert seen.restarted_units == ("b.service 2",)
    assert (seen.kernel, seen.prints.initrd_bytes) == (os.uname().release, 4711)
    assert seen.prints.kernel_build == os.uname().version


def test_the_times_of_units_and_the_memory_are_read_in_the_same_look(tmp_path: Path) -> None:
    seen = inspect_guest(LocalShell(tmp_path, SYSTEMCTL))

    assert seen.started_units["a.service"] == Unit(state="active", begins_s=5.0, ready_s=6.5)
    assert set(seen.started_units) == {"a.service", "-.mount", "data.mount", "b.service"}
    assert seen.memory_mib > 0


def test_the_starts_of_units_are_read_with_what_they_start_after(tmp_path: Path) -> None:
    seen = inspect_guest(LocalShell(tmp_path, SYSTEMCTL))

    device = r"dev-disk-by\x2dlabel-x.device"
    assert seen.starts == (
        UnitStart(unit="a.service", begins_s=25.0, ends_s=26.5),
        UnitStart(
            unit="once.service", begins_s=21.0, ends_s=24.5, after=frozenset({"data.mount", device}),
            pulls=frozenset({"data.mount", device}),
        ),
    )  # fmt: skip
    assert seen.user_space_s == 20.0
    assert seen.uptime_s > 0


def test_a_guest_without_failed_units_names_none(tmp_path: Path) -> None:
    assert inspect_guest(LocalShell(tmp_path, SYSTEMCTL.replace("failed", "active"))).failed_units == ()


@pytest.mark.parametrize("what", ["UserspaceTimestamp", ".service -p", "--type="])
@pytest.mark.parametrize(("does", "words"), [("echo no bus >&2; exit 1", "status 1: no bus"), ("exit 0", "nothing")])
def test_a_guest_whose_systemctl_fails_is_not_a_healthy_one(what: str, does: str, words: str, tmp_path: Path) -> None:
    fails = f'case "$*" in *"{what}"*) {does} ;; esac\ncase'
    shell = LocalShell(tmp_path, SYSTEMCTL.replace("case", fails, 1))

    with pytest.raises(ImageError, match=f"systemctl show .* {words}"):
        inspect_guest(shell)


@pytest.mark.parametrize("lacks", ["NRestarts=2", "ActiveState=active", "Id=-.mount"])
def test_an_answer_about_units_that_lacks_something_is_an_error(lacks: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"answer to '(services|other units)', from .*, cannot be read"):
        inspect_guest(LocalShell(tmp_path, SYSTEMCTL.replace(f"{lacks}\n", "")))
