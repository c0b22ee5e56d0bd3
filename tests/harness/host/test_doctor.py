"""Doctor on broken hosts: each fault is planted for real, in namespaces; tests share the runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import serialization
from harness.host.doctor import CheckState, HostCheck, examine, remedies
from harness.host.doctor.boots import settings_against_namespaces
from harness.host.doctor.emulators import emulators, of_release
from harness.host.doctor.resources import clock, memory
from harness.host.emulator import EmulatorTime, EmulatorTimes, installed, memory_file
from harness.model.qemu import Qemu

Checks = dict[str, HostCheck]
Examine = Callable[..., Checks]

_AS_JSON = """
import json, os, sys
from harness.core import serialization
from harness.host.doctor.{0} import {1}
found = dict()
for store in sys.argv[1:]:
    os.environ["BOOTPROOF_STORE"] = store
    found[store] = serialization.dump(list({1}()))
print(json.dumps(found))
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


def examine_host(
    folder: Path,
    module: str,
    *,
    after: str = ":",
    before: tuple[str, ...] = (),
    stores: tuple[str, ...] = ("store",),
    env: Mapping[str, str] | None = None,
) -> dict[str, dict[str, HostCheck]]:
    """The checks of a module by name, for each of the ``stores`` in ``folder``.

    They run in namespaces of their own, in which root first ran the script ``after`` in ``folder``.
    """
    function = {"boots": "for_boots", "builds": "for_builds"}.get(module, module)
    inner = [*before, sys.executable, "-c", _AS_JSON.format(module, function), *stores]
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", f'{after}\nexec "$@"', "sh", *inner]
    done = subprocess.run(
        argv, env=os.environ | (env or {}), cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {
        store: {row["name"]: HostCheck(**row | {"state": CheckState(row["state"])}) for row in rows}
        for store, rows in json.loads(done.stdout).items()
    }


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> Examine:
    """``examined("places", after="mount …")``: these checks by name, of a host on which root ran that before."""

    def examined(module: str, *, after: str = ":", before: tuple[str, ...] = (), **variables: str) -> Checks:
        folder = tmp_path_factory.mktemp("host")
        return examine_host(folder, module, after=after, before=before, env=variables)["store"]

    return examined


# Programs


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This host's programs, but two missing, an old QEMU, a mksquashfs that does not start, a silent dnsmasq."""
    folder = tmp_path_factory.mktemp("bin")
    for path in Path("/usr/bin").iterdir():
        (folder / path.name).symlink_to(path)
    for name in ("qemu-img", "mmdebstrap", "qemu-system-x86_64", "mksquashfs"):
        (folder / name).unlink()
    (folder / "qemu-system-x86_64").write_text("#!/bin/sh\necho 'QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)'\n")
    (folder / "mksquashfs").write_bytes(b"\x7fELF of another machine")
    (folder / "dnsmasq").write_text("#!/bin/sh\n")
    for name in ("qemu-system-x86_64", "mksquashfs", "dnsmasq"):
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def of_programs(examined: Examine, programs: Path) -> Checks:
    return examined("programs", PATH=str(programs))


def test_missing_programs_are_installed_by_one_line(of_programs: Checks) -> None:
    missing = [of_programs[name] for name in ("qemu-utils", "mmdebstrap")]

    assert of_programs["openssh-client"].state is CheckState.OK
    assert all(check.is_missing for check in missing)
    assert remedies(missing) == ["apt-get install qemu-utils mmdebstrap"]


def test_a_qemu_that_is_too_old_is_named_with_its_version(of_programs: Checks, programs: Path) -> None:
    check = of_programs["qemu-system-x86"]

    assert check.is_missing
    assert f"{programs}/qemu-system-x86_64 is 5.2.0" in check.detail
    assert "7.2" in check.detail


def test_a_program_that_prints_no_version_is_not_taken_for_a_new_one(of_programs: Checks) -> None:
    check = of_programs["dnsmasq-base"]

    assert check.state is not CheckState.OK
    assert "dnsmasq --version prints no version but ''" in check.detail


def test_a_program_that_does_not_start_causes_no_traceback(of_programs: Checks) -> None:
    assert of_programs["squashfs-tools"].remedy == "apt-get install squashfs-tools"


# The emulator

BOOKWORM = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
OF_BOOKWORM = Qemu(program="/usr/bin/qemu-system-x86_64", version="7.2.22")


def install_qemu(folder: Path, version: str) -> Path:
    folder.mkdir()
    path = folder / "qemu-system-x86_64"
    path.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("has_backports", [False, True])
def test_debian_12_is_told_what_a_quicker_qemu_gains_and_how_to_get_it(has_backports: bool) -> None:
    check = of_release(OF_BOOKWORM, BOOKWORM, has_backports=has_backports)

    assert check.state is CheckState.LIMITED
    assert "64 to 69 CPU seconds instead of 92 to 99" in check.detail
    assert ("once apt knows that archive" in check.detail) is not has_backports
    assert check.remedy == "make setup QEMU_FROM_BACKPORTS=1"


@pytest.mark.parametrize(
    ("version", "release"), [("10.0.2", BOOKWORM), ("10.0.2", {"VERSION_CODENAME": "trixie"}), ("7.2.22", {})]
)
def test_a_qemu_without_a_known_quicker_one_is_only_named(version: str, release: dict[str, str]) -> None:
    check = of_release(replace(OF_BOOKWORM, version=version), release, has_backports=True)

    assert (check.state, check.remedy) == (CheckState.OK, "")
    assert version in check.detail


def test_a_wrong_variable_leaves_no_machine_to_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTPROOF_QEMU", "/nowhere/qemu")

    (check,) = emulators(None)

    assert check.is_missing
    assert check.detail.startswith("$BOOTPROOF_QEMU /nowhere/qemu: /nowhere/qemu is not a program")
    assert check.remedy == "unset BOOTPROOF_QEMU"


def test_of_several_the_measured_one_is_named_with_its_gain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow, quick = install_qemu(tmp_path / "a", "7.2.22"), install_qemu(tmp_path / "b", "10.0.2")
    monkeypatch.setenv("PATH", f"{slow.parent}:{quick.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    (tmp_path / "vmlinuz").write_bytes(b"a kernel")

    (before,) = emulators(tmp_path)
    found = installed()
    times = [EmulatorTime(qemu=qemu, cpu_s=9.0 if qemu.version != "10.0.2" else 6.0) for qemu in found]
    file = memory_file(found, tmp_path / "vmlinuz", tmp_path / "store" / "accelerators")
    file.parent.mkdir(parents=True)
    serialization.write(file, EmulatorTimes(times=tuple(times)))
    (after,) = emulators(tmp_path)

    assert f"the next emulated run measures which is quickest: QEMU 7.2.22 ({slow})" in before.detail
    assert after.detail.startswith(f"QEMU 10.0.2 ({quick}): the same work took it 6.0 CPU seconds, 9.0 for")


# What boots and builds need


_NO_BOOTS = """
mkdir dev && mount -t tmpfs tmpfs dev && mkdir dev/net
for node in null zero random urandom; do : > dev/$node; mount --bind /dev/$node dev/$node; done
mount --rbind dev /dev
echo 0 > /proc/sys/user/max_user_namespaces
for folder in /usr/lib/ipxe/qemu /usr/share/qemu /usr/share/OVMF /usr/lib/grub; do
    [ ! -d $folder ] || mount -t tmpfs tmpfs $folder
done
"""


@pytest.fixture(scope="module")
def of_boots(examined: Examine) -> Checks:
    """The checks of a host without devices, user namespaces, ROMs, firmware and GRUB."""
    return examined("boots", after=_NO_BOOTS)


def test_a_host_without_tun_gets_the_line_that_makes_it(of_boots: Checks) -> None:
    assert of_boots["/dev/net/tun"].state is CheckState.LIMITED
    remedy = of_boots["/dev/net/tun"].remedy
    assert remedy in ("modprobe tun", "mkdir -p /dev/net && mknod -m 0666 /dev/net/tun c 10 200")
    assert "user network takes its place" in of_boots["lab"].detail
    assert remedies([of_boots["lab"]]) == []


def test_only_the_setting_that_forbids_user_namespaces_is_changed(of_boots: Checks) -> None:
    check = of_boots["user namespaces"]

    assert check.state is CheckState.LIMITED
    assert check.remedy == "sysctl -w user.max_user_namespaces=10000"


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"apparmor_restrict_unprivileged_userns": "1"}, ["kernel.apparmor_restrict_unprivileged_userns=0"]),
        ({"apparmor_restrict_unprivileged_userns": "0", "unprivileged_userns_clone": "1"}, []),
        ({"unprivileged_userns_clone": "0"}, ["kernel.unprivileged_userns_clone=1"]),
        ({}, []),
    ],
)
def test_the_settings_of_debian_and_ubuntu_that_forbid_user_namespaces_are_named(
    tmp_path: Path, settings: dict[str, str], wrong: list[str]
) -> None:
    (tmp_path / "kernel").mkdir()
    for name, value in settings.items():
        (tmp_path / "kernel" / name).write_text(f"{value}\n")

    assert settings_against_namespaces(tmp_path) == wrong


def test_without_kvm_machines_are_emulated(of_boots: Checks) -> None:
    check = of_boots["accelerator"]

    assert check.state is CheckState.LIMITED
    assert "emulated" in check.detail
    assert check.remedy in ("", "modprobe kvm_intel", "modprobe kvm_amd")


def test_with_kvm_doctor_says_what_to_expect_and_names_no_quicker_emulator(examined: Examine, tmp_path: Path) -> None:
    """The device is one that opens; a script that prints a kernel's first line takes the place of QEMU."""
    qemu = install_qemu(tmp_path / "bin", "7.2.22")
    with qemu.open("a") as script:
        script.write("echo '[    0.000000] Linux version 6.12'\n")
    after = """
    mkdir dev && mount -t tmpfs tmpfs dev
    for node in null zero random urandom; do : > dev/$node; mount --bind /dev/$node dev/$node; done
    : > dev/kvm; mount --bind /dev/null dev/kvm
    mount --rbind dev /dev
    mkdir -p store/artifacts/one && echo kernel > store/artifacts/one/vmlinuz
    """

    checks = examined("boots", after=after, PATH=f"{qemu.parent}:{os.environ['PATH']}")

    check = checks["accelerator"]
    assert check.state is CheckState.OK
    assert check.detail.startswith("kvm: the kernel's first line came after ")
    assert "a boot uses as many cores as its machine has; `make bench ROWS=kvm`" in check.detail
    assert "emulator" not in checks


def test_without_the_rom_the_direct_boot_path_is_left(of_boots: Checks) -> None:
    check = of_boots["iPXE ROM"]

    assert check.state is CheckState.LIMITED
    assert "--boot-path direct" in check.detail
    assert check.remedy == "apt-get install ipxe-qemu"


def test_without_uefi_firmware_the_other_boot_paths_are_left(of_boots: Checks) -> None:
    check = of_boots["UEFI"]

    assert check.state is CheckState.LIMITED
    assert "ipxe-uefi" in check.detail
    assert check.remedy == "apt-get install ovmf"


def test_without_grubs_modules_the_other_boot_paths_are_left(of_boots: Checks) -> None:
    check = of_boots["GRUB"]

    assert check.state is CheckState.LIMITED
    assert check.remedy == "apt-get install grub-pc-bin grub-efi-amd64-bin"


def test_ansible_is_looked_for_in_this_python(examined: Examine) -> None:
    import ansible_collections

    hidden = "\n".join(f"mount -t tmpfs tmpfs {folder}" for folder in set(ansible_collections.__path__))

    check = examined("builds", after=hidden)["Ansible"]

    assert check.is_missing
    assert check.remedy == f"{sys.executable} -m pip install 'bootproof[build]'"


# The folders that are written to


_STORES = """
mkdir small read-only noexec two empty whole
mount -t tmpfs -o size=1m tmpfs small
mount --bind read-only read-only
mount -o remount,bind,ro read-only
mount -t tmpfs -o noexec tmpfs noexec
mkdir -p two/tmp two/artifacts whole/tmp whole/artifacts whole/layers
mount -t tmpfs tmpfs two/tmp
mkdir here
mount --bind here here
mount -o remount,bind,ro here
cd here
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Checks]]:
    """The folder of several stores, and their checks by the name of the store; run in a read-only folder."""
    folder = tmp_path_factory.mktemp("host")
    names = ("small", "read-only", "noexec", "two", "whole")
    found = examine_host(folder, "places", after=_STORES, stores=tuple(str(folder / name) for name in names))
    return folder, {Path(store).name: checks for store, checks in found.items()}


@pytest.mark.parametrize(
    ("store", "detail"),
    [
        ("small", "0.0 GiB free"),
        ("read-only", "Read-only file system"),
        ("noexec", "noexec"),
        ("two", "one file system"),
    ],
)
def test_a_store_that_cannot_be_used_is_found(places: tuple[Path, dict[str, Checks]], store: str, detail: str) -> None:
    check = places[1][store]["store"]

    assert check.is_missing
    assert detail in check.detail
    assert check.remedy.startswith("export BOOTPROOF_STORE=/")


def test_a_store_without_locks_is_found(examined: Examine) -> None:
    check = examined("places", before=(sys.executable, "-c", _NO_FLOCK))["store"]

    assert check.is_missing
    assert "flock" in check.detail
    assert "No locks available" in check.detail


def test_for_a_read_only_folder_of_runs_the_option_is_named(places: tuple[Path, dict[str, Checks]]) -> None:
    check = places[1]["whole"]["runs"]

    assert check.state is CheckState.LIMITED
    assert "--run-dir" in check.remedy


def test_examining_a_store_leaves_nothing_in_it(places: tuple[Path, dict[str, Checks]]) -> None:
    folder, found = places

    assert found["whole"]["store"].state is not CheckState.MISSING
    assert sorted(path.name for path in (folder / "whole").rglob("*")) == ["artifacts", "layers", "tmp"]


# What the host has


@pytest.mark.parametrize(
    ("mib", "state"), [(900, CheckState.MISSING), (2000, CheckState.LIMITED), (9000, CheckState.OK)]
)
def test_memory_is_enough_for_machines_or_not(mib: int, state: CheckState) -> None:
    assert memory(mib).state is state
    assert f"{mib} MiB" in memory(mib).detail


@pytest.fixture(scope="module")
def of_resources(tmp_path_factory: pytest.TempPathFactory) -> Checks:
    """The checks of a host with 2000 MiB, one core and the encoding latin-1."""
    folder = tmp_path_factory.mktemp("host")
    (folder / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: {2000 << 10} kB\n")
    return examine_host(
        folder, "resources", after="mount --bind meminfo /proc/meminfo",
        before=("taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))),
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
    )["store"]  # fmt: skip


def test_memory_is_what_is_available(of_resources: Checks) -> None:
    assert "2000 MiB" in of_resources["memory"].detail


def test_one_core_is_enough(of_resources: Checks) -> None:
    assert of_resources["cores"].state is CheckState.OK
    assert "one machine boots at a time" in of_resources["cores"].detail


def test_another_encoding_than_utf8_is_named_and_the_c_locale_is_utf8(of_resources: Checks, examined: Examine) -> None:
    latin = of_resources["locale"]

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


def test_every_check_has_a_detail_and_one_that_passes_has_no_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path))
    checks = examine()

    assert len({check.name for check in checks}) == len(checks)
    assert all(check.detail for check in checks)
    assert all(not check.remedy for check in checks if check.state is CheckState.OK)


def test_the_exit_status_says_whether_images_can_be_tested_here(programs: Path, tmp_path: Path) -> None:
    env = os.environ | {"PATH": str(programs), "BOOTPROOF_STORE": str(tmp_path / "store")}

    done = subprocess.run(
        [sys.executable, "-m", "harness", "doctor"], env=env, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 75
    assert "MISSING  qemu-utils" in done.stdout
    assert "apt-get install qemu-utils" in done.stdout
    assert not (tmp_path / "store").exists()
