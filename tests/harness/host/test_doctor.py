"""Doctor on hosts that are not well: each condition is planted for real, in namespaces of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.host.doctor import CheckState, HostCheck, examine, remedies
from harness.host.doctor.resources import clock

Examine = Callable[..., dict[str, HostCheck]]

_AS_JSON = """
import json
from harness.core import serialization
from harness.host.doctor.{0} import {1}
print(json.dumps(serialization.dump(list({1}()))))
"""
_NO_FLOCK = """
import ctypes, os, struct, sys
# seccomp(2): what calls flock gets ENOLCK, as on some network file systems
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 73), (0x06, 0, 0, 0x00050000 | 37), (0x06, 0, 0, 0x7FFF0000)]
filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in code))
program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def examined(tmp_path: Path) -> Examine:
    """``examined("places", after="mount …")``: these checks by name, of a host on which root ran that before."""

    def examined(
        module: str, *, after: str = ":", before: tuple[str, ...] = (), cwd: Path = tmp_path, **variables: str
    ) -> dict[str, HostCheck]:
        function = {"boots": "for_boots", "builds": "for_builds"}.get(module, module)
        inner = [*before, sys.executable, "-c", _AS_JSON.format(module, function)]
        argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", f'{after}\nexec "$@"', "sh", *inner]
        env = os.environ | {"BOOTPROOF_STORE": str(tmp_path / "store"), **variables}
        done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return {row["name"]: HostCheck(**row | {"state": CheckState(row["state"])}) for row in json.loads(done.stdout)}

    return examined


# Programs


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with all of this host's programs; to be taken away from."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for path in Path("/usr/bin").iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def test_missing_programs_are_installed_by_one_line(examined: Examine, programs: Path) -> None:
    (programs / "qemu-img").unlink()
    (programs / "mmdebstrap").unlink()

    checks = examined("programs", PATH=str(programs))

    assert checks["qemu-system-x86"].state is CheckState.OK
    assert checks["qemu-utils"].is_missing
    assert remedies(checks.values()) == ["apt-get install qemu-utils mmdebstrap"]


def test_a_qemu_that_is_too_old_is_named_with_its_version(examined: Examine, programs: Path) -> None:
    old = programs / "qemu-system-x86_64"
    old.unlink()
    old.write_text("#!/bin/sh\necho 'QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)'\n")
    old.chmod(0o755)

    check = examined("programs", PATH=str(programs))["qemu-system-x86"]

    assert check.is_missing
    assert f"{old} is 5.2.0" in check.detail
    assert "7.2" in check.detail


def test_a_program_that_does_not_start_is_no_traceback(examined: Examine, programs: Path) -> None:
    (programs / "mmdebstrap").unlink()
    (programs / "mmdebstrap").write_bytes(b"\x7fELF of another machine")
    (programs / "mmdebstrap").chmod(0o755)

    assert examined("programs", PATH=str(programs))["mmdebstrap"].remedy == "apt-get install mmdebstrap"


# What boots and builds need


def test_a_host_without_tun_gets_the_line_that_makes_it(examined: Examine) -> None:
    checks = examined("boots", after="mount -t tmpfs tmpfs /dev/net")

    assert checks["/dev/net/tun"].state is CheckState.LIMITED
    mend = checks["/dev/net/tun"].remedy
    assert mend in ("modprobe tun", "mkdir -p /dev/net && mknod -m 0666 /dev/net/tun c 10 200")
    assert "user network takes its place" in checks["lab"].detail
    assert mend not in remedies([checks["lab"]])


def test_only_the_setting_that_forbids_user_namespaces_is_changed(examined: Examine) -> None:
    check = examined("boots", after="echo 0 > /proc/sys/user/max_user_namespaces")["user namespaces"]

    assert check.state is CheckState.LIMITED
    assert check.remedy == "sysctl -w user.max_user_namespaces=10000"


def test_without_kvm_machines_are_emulated(examined: Examine) -> None:
    other_dev = """
        mkdir dev && mount -t tmpfs tmpfs dev && mkdir dev/net
        for node in null zero random urandom net/tun; do : > dev/$node; mount --bind /dev/$node dev/$node; done
        mount --rbind dev /dev"""

    check = examined("boots", after=other_dev)["accelerator"]

    assert check.state is CheckState.LIMITED
    assert "emulated" in check.detail
    assert check.remedy in ("", "modprobe kvm_intel", "modprobe kvm_amd")


def test_without_the_rom_the_direct_boot_path_is_left(examined: Examine) -> None:
    hidden = (
        "for folder in /usr/lib/ipxe/qemu /usr/share/qemu; do [ ! -d $folder ] || mount -t tmpfs tmpfs $folder; done"
    )

    check = examined("boots", after=hidden)["iPXE ROM"]

    assert check.state is CheckState.LIMITED
    assert "--boot-path direct" in check.detail
    assert check.remedy == "apt-get install ipxe-qemu"


def test_without_uefi_firmware_the_other_boot_paths_are_left(examined: Examine) -> None:
    check = examined("boots", after="mount -t tmpfs tmpfs /usr/share/OVMF")["UEFI"]

    assert check.state is CheckState.LIMITED
    assert "ipxe-uefi" in check.detail
    assert check.remedy == "apt-get install ovmf"


def test_without_grubs_modules_the_other_boot_paths_are_left(examined: Examine) -> None:
    check = examined("boots", after="mount -t tmpfs tmpfs /usr/lib/grub/i386-pc/..")["GRUB"]

    assert check.state is CheckState.LIMITED
    assert check.remedy == "apt-get install grub-pc-bin grub-efi-amd64-bin"


def test_ansible_is_looked_for_in_this_python(examined: Examine) -> None:
    import ansible_collections

    (folder,) = ansible_collections.__path__

    check = examined("builds", after=f"mount -t tmpfs tmpfs {folder}")["Ansible"]

    assert check.is_missing
    assert check.remedy == f"{sys.executable} -m pip install 'bootproof[build]'"


# Where things are kept


def test_a_small_store_is_moved_to_where_there_is_room(examined: Examine) -> None:
    check = examined("places", after="mkdir store && mount -t tmpfs -o size=1m tmpfs store")["store"]

    assert check.is_missing
    assert "0.0 GiB free" in check.detail
    assert check.remedy.startswith("export BOOTPROOF_STORE=/")


def test_a_store_that_is_read_only_is_found(examined: Examine) -> None:
    read_only = "mkdir store && mount --bind store store && mount -o remount,bind,ro store"

    check = examined("places", after=read_only)["store"]

    assert check.is_missing
    assert "Read-only file system" in check.detail


def test_a_store_in_which_nothing_can_be_run_is_found(examined: Examine) -> None:
    check = examined("places", after="mkdir store && mount -t tmpfs -o noexec tmpfs store")["store"]

    assert check.is_missing
    assert "noexec" in check.detail


def test_a_store_without_locks_is_found(examined: Examine) -> None:
    check = examined("places", before=(sys.executable, "-c", _NO_FLOCK))["store"]

    assert check.is_missing
    assert "flock" in check.detail
    assert "No locks available" in check.detail


def test_a_store_on_two_file_systems_is_found(examined: Examine) -> None:
    check = examined("places", after="mkdir -p store/tmp store/artifacts && mount -t tmpfs tmpfs store/tmp")["store"]

    assert check.is_missing
    assert "one file system" in check.detail


def test_a_folder_for_runs_that_is_read_only_is_told_with_the_option(examined: Examine, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    read_only = f"mount --bind {here} {here} && mount -o remount,bind,ro {here} && cd {here}"

    check = examined("places", after=read_only)["runs"]

    assert check.state is CheckState.LIMITED
    assert "--run-dir" in check.remedy


def test_examining_a_store_leaves_nothing_in_it(examined: Examine, tmp_path: Path) -> None:
    for name in ("artifacts", "layers", "tmp"):
        (tmp_path / "store" / name).mkdir(parents=True)

    assert examined("places")["store"].state is not CheckState.MISSING
    assert not [path for path in (tmp_path / "store").rglob("*") if path.name not in ("artifacts", "layers", "tmp")]


# What the host has


@pytest.mark.parametrize(
    ("mib", "state"), [(900, CheckState.MISSING), (2000, CheckState.LIMITED), (9000, CheckState.OK)]
)
def test_memory_is_what_can_be_had(examined: Examine, tmp_path: Path, mib: int, state: CheckState) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: {mib << 10} kB\n")

    check = examined("resources", after="mount --bind meminfo /proc/meminfo")["memory"]

    assert check.state is state
    assert f"{mib} MiB" in check.detail


def test_one_core_is_fine_and_told(examined: Examine) -> None:
    check = examined("resources", before=("taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))))["cores"]

    assert check.state is CheckState.OK
    assert "one machine boots at a time" in check.detail


def test_another_encoding_than_utf8_is_told_the_c_locale_is_utf8(examined: Examine) -> None:
    latin = examined("resources", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="latin-1")["locale"]

    assert latin.state is CheckState.LIMITED
    assert "iso8859-1" in latin.detail
    assert latin.remedy == "export LC_ALL=C.UTF-8"
    assert examined("resources", LC_ALL="C")["locale"].state is CheckState.OK


def test_a_clock_in_1970_is_set() -> None:
    check = clock(0.0)

    assert check.is_missing
    assert "1970-01-01" in check.detail
    assert check.remedy.endswith("timedatectl set-ntp true")


# All of it


def test_every_check_that_is_not_fine_says_what_to_do_or_what_it_means(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path))
    checks = examine()

    assert len({check.name for check in checks}) == len(checks)
    assert all(check.detail for check in checks)
    assert all(not check.remedy for check in checks if check.state is CheckState.OK)


def test_the_exit_status_says_whether_images_can_be_proven_here(programs: Path, tmp_path: Path) -> None:
    (programs / "qemu-img").unlink()
    env = os.environ | {"PATH": str(programs), "BOOTPROOF_STORE": str(tmp_path / "store")}

    done = subprocess.run(
        [sys.executable, "-m", "harness", "doctor"], env=env, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 75
    assert "MISSING  qemu-utils" in done.stdout
    assert "apt-get install qemu-utils" in done.stdout
    assert not (tmp_path / "store").exists()
