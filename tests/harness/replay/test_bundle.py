"""Bundles: what is written is read back, secrets are left out, and hostile bundles are refused."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shlex
import struct
import subprocess
import tarfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core import serialization
from harness.core.errors import HostError, UsageError
from harness.machine import boot_files
from harness.machine.boot_plan import BootPlan, BootRecord
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.layout import BOOT_RECORD
from harness.model.machine_spec import BootPath, DiskFormat, DiskSpec, MachineSpec, Network
from harness.model.qemu import Qemu
from harness.model.verdict import Finding
from harness.qemu import command_line, disk_images
from harness.replay.bundle import Failure
from harness.replay.bundle_read import Unpacked, unpack
from harness.replay.bundle_write import Member, pack, write_bundle

from ... import samples

BASE = load_definition(Path(__file__).parents[3] / "images" / "base")
FINDING = Finding(id="boot-hangs", what="no boot within 60 s", where="host1, boot 2 (direct)", evidence=("a", "b"))
SECRET = "hunter2=, and more"
DELAY = {"systemd.unit-dropin.ssh.service~bootproof": "[Service]\nExecStartPre=sleep 5\n"}


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return samples.artifacts(tmp_path / "artifacts", "1")


class FakeLab:
    network = Network.LAB
    network_faults = ()
    captures: tuple[Path, ...] = ()


@pytest.fixture
def boot(tmp_path: Path, artifacts: Artifacts) -> Path:
    """The folder of a boot of a machine with two disks, one of them blank, and credentials of which one is secret."""
    base, overlay = tmp_path / "base.raw", tmp_path / "data.qcow2"
    disk_images.make_raw(base, size_bytes=16 << 20)
    with base.open("r+b") as file:
        file.write(b"of the template")
    disk_images.make_overlay(overlay, base)
    spec = MachineSpec(
        name="host1",
        uuid=uuid.uuid4(),
        boot_path=BootPath.DIRECT,
        disks=(
            DiskSpec(path=overlay, serial="a", format=DiskFormat.QCOW2),
            disk_images.make_disk(tmp_path / "blank.raw", "b", size_gib=1),
        ),
        credentials={**DELAY, "passwd.hashed-password.root": SECRET},
    )
    folder = tmp_path / "host1" / "boot-2"
    capture = tmp_path / "lab" / "capture.pcap"
    capture.parent.mkdir()
    capture.write_bytes(b"packets")
    lab: Any = type("Lab", (FakeLab,), {"captures": (capture,)})
    boot_files.save(BootPlan(number=2, folder=folder, spec=spec, artifacts=artifacts, definition=BASE), lab)
    (folder / "console.log").write_text("[    0.00] Linux version 6.12\n")
    argv = command_line.command(
        spec,
        qemu=Qemu(program="qemu", version="7.2.22"),
        sockets=command_line.QemuSockets(netdevs=("user,id=net0",)),
        clock="utc",
    )
    (folder / "argv").write_text(shlex.join(command_line.shown(argv)))
    return folder


@pytest.fixture
def made(tmp_path: Path, boot: Path, artifacts: Artifacts) -> Path:
    return write_bundle(
        tmp_path / "x.bundle", Failure(finding=FINDING, test="t.py::test_x[base]", seed=7), boot, [artifacts], BASE
    )


def test_a_bundle_is_read_back_as_it_was_written(tmp_path: Path, made: Path, artifacts: Artifacts) -> None:
    opened = _unpacked(made, tmp_path)

    assert opened.bundle.failure.finding == FINDING
    assert (opened.bundle.failure.test, opened.bundle.failure.seed) == ("t.py::test_x[base]", 7)
    assert opened.bundle.manifest == artifacts.manifest
    assert opened.bundle.definition == BASE
    assert opened.bundle.plan.number == 2
    assert (opened.folder / "capture.pcap").read_bytes() == b"packets"
    assert (opened.folder / "console.log").read_text() == "[    0.00] Linux version 6.12\n"
    assert list(tmp_path.glob(".*")) == []


def test_disks_have_the_content_from_before_the_boot_and_no_backing_file(tmp_path: Path, made: Path) -> None:
    (tmp_path / "base.raw").unlink()
    opened = _unpacked(made, tmp_path)

    assert opened.bundle.plan.disks == ("disk-0.qcow2", "")
    disk_images.flatten(opened.folder / "disk-0.qcow2", tmp_path / "flat.raw")
    assert (tmp_path / "flat.raw").read_bytes().startswith(b"of the template\0")


def test_secret_credentials_are_not_in_the_bundle(tmp_path: Path, made: Path, boot: Path) -> None:
    opened = _unpacked(made, tmp_path)

    assert opened.bundle.plan.spec.credentials == DELAY
    everything = b"".join(file.read_bytes() for file in [*opened.folder.iterdir(), boot / BOOT_RECORD])
    assert b"passwd.hashed-password.root=" in everything
    assert SECRET.encode() not in everything
    assert base64.b64encode(SECRET.encode()) not in everything


def test_artifacts_are_included_on_request(tmp_path: Path, boot: Path, artifacts: Artifacts) -> None:
    made = write_bundle(tmp_path / "x.bundle", Failure(finding=FINDING), boot, [artifacts], BASE, with_artifacts=True)

    assert (_unpacked(made, tmp_path).folder / "vmlinuz").read_text().startswith("vmlinuz of 1")


def test_the_next_boot_keeps_the_disks_instead(boot: Path, artifacts: Artifacts) -> None:
    spec = serialization.read(BootRecord, boot / BOOT_RECORD).spec
    after = boot.parent / "boot-3"
    lab: Any = FakeLab
    boot_files.save(BootPlan(number=3, folder=after, spec=spec, artifacts=artifacts, definition=BASE), lab)

    assert not list(boot.glob("disk-*"))
    assert [file.name for file in after.glob("disk-*")] == ["disk-0.qcow2"]


def test_an_upgrade_by_kexec_keeps_how_the_machine_was_switched_on(boot: Path, artifacts: Artifacts) -> None:
    switched_on = serialization.read(BootRecord, boot / BOOT_RECORD)
    lab: Any = FakeLab
    spec = replace(switched_on.spec, boot_path=BootPath.KEXEC)
    running = BootPlan(number=2, folder=boot, spec=spec, artifacts=artifacts, definition=BASE)
    newer = replace(artifacts, manifest=replace(artifacts.manifest, version="2"))
    after = boot.parent / "boot-3"
    upgraded = replace(running, number=3, folder=after, artifacts=newer, is_kexec=True)
    boot_files.save_upgrade(upgraded, running, lab)

    upgrade = serialization.read(BootRecord, after / BOOT_RECORD)
    assert (upgrade.before, upgrade.artifacts) == (artifacts.digest, newer.digest)
    assert (upgrade.number, upgrade.boot_path, upgrade.disks) == (3, BootPath.KEXEC, switched_on.disks)
    made = write_bundle(boot.parent / "x.bundle", Failure(finding=FINDING), after, [newer, artifacts], BASE)
    assert _unpacked(made, boot.parent).bundle.before == artifacts.manifest


def test_a_log_may_grow_while_it_is_packed(tmp_path: Path, made: Path) -> None:
    """When a run is interrupted, its machines still run."""
    opened = _unpacked(made, tmp_path)
    console = opened.folder / "console.log"
    before = console.read_bytes()
    with ExitStack() as stack:
        members = {
            name: Member.of(stack.enter_context((opened.folder / name).open("rb")), frozenset())
            for name in opened.bundle.files
        }
        with console.open("a") as log:
            log.write("one more line\n")
        pack(tmp_path / "again.bundle", opened.bundle, members)

    (again := tmp_path / "again").mkdir()
    unpack(tmp_path / "again.bundle", again)
    assert (again / "console.log").read_bytes() == before


def test_a_bundle_that_cannot_be_written_leaves_no_file(tmp_path: Path, boot: Path, artifacts: Artifacts) -> None:
    with pytest.raises(HostError, match="No such file"):
        write_bundle(tmp_path / "no" / "such" / "x.bundle", Failure(finding=FINDING), boot, [artifacts], BASE)

    assert not [file for file in boot.iterdir() if file.name.startswith(".")]


def _unpacked(source: Path, tmp_path: Path) -> Unpacked:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return unpack(source, folder)


Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def _altered(source: Path, target: Path, change: Change, members: list[tarfile.TarInfo] | None = None) -> Path:
    """``source``, changed as an attacker might."""
    plain = subprocess.run(["zstd", "-dcq", str(source)], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # all are files
    index = json.loads(files.pop("bundle.json"))
    change(index, files)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in {"bundle.json": json.dumps(index).encode(), **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in members or []:
            tar.addfile(member)
    target.write_bytes(subprocess.run(["zstd", "-cq"], input=packed.getvalue(), capture_output=True, check=True).stdout)
    return target


def _listed(index: dict[str, Any], files: dict[str, bytes], name: str, content: bytes) -> None:
    index["files"][name] = hashlib.sha256(content).hexdigest()
    files[name] = content


def _set(place: str, value: object) -> Change:
    """Set one value of the index, such as ``failure.test``."""

    def change(index: Any, _: dict[str, bytes]) -> None:
        *parents, name = place.split(".")
        for parent in parents:
            index = index[int(parent) if parent.isdigit() else parent]
        index[name] = value

    return change


def _newer(index: dict[str, Any], _: dict[str, bytes]) -> None:
    index |= {"format": 9, "unheard": "of"}


def _path_outside(index: dict[str, Any], files: dict[str, bytes]) -> None:
    _listed(index, files, "../../outside", b"x")


def _unlisted(_: dict[str, Any], files: dict[str, bytes]) -> None:
    files["surprise"] = b"x"


def _damaged(_: dict[str, Any], files: dict[str, bytes]) -> None:
    files["console.log"] = b"other"


def _missing(_: dict[str, Any], files: dict[str, bytes]) -> None:
    del files["console.log"]


def _strange_file(index: dict[str, Any], _: dict[str, bytes]) -> None:
    index["manifest"]["files"]["../x"] = index["manifest"]["files"]["vmlinuz"]


def _backed(index: dict[str, Any], files: dict[str, bytes]) -> None:
    content = bytearray(files["disk-0.qcow2"])
    struct.pack_into(">QI", content, 8, 200, 11)
    content[200:211] = b"/etc/shadow"
    _listed(index, files, "disk-0.qcow2", bytes(content))


def _data_elsewhere(index: dict[str, Any], files: dict[str, bytes]) -> None:
    content = bytearray(files["disk-0.qcow2"])
    struct.pack_into(">Q", content, 72, 4)
    _listed(index, files, "disk-0.qcow2", bytes(content))


def _raw(index: dict[str, Any], files: dict[str, bytes]) -> None:
    _listed(index, files, "disk-0.qcow2", b"raw" * 100)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_newer, "has format 9 of a bundle; this Bootproof reads up to 3: upgrade Bootproof"),
        (_set("architecture", "riscv64"), "is for riscv64"),
        (_path_outside, "'../../outside', which its index does not list as a file"),
        (_unlisted, "'surprise', which its index does not list"),
        (_damaged, "the SHA-256 of console.log is not the one in bundle.json"),
        (_missing, "console.log is missing"),
        (_set("plan.spec.name", "../../etc"), "'../../etc' is not a valid name"),
        (_set("manifest.kernel_arguments", ["quiet\nchain http://elsewhere/"]), "is not a valid kernel argument"),
        (_strange_file, "'../x', which is not a valid name of a file"),
        (_set("plan.network_faults", ["hail"]), "no network fault 'hail'"),
        (_set("failure.test", "--pyargs=t.py::x"), "is not a test below this folder"),
        (_set("failure.test", "tests/../../other/t.py::test_x"), "is not a test below this folder"),
        (_set("failure.test", "/srv/t.py::test_x"), "is not a test below this folder"),
        (_set("failure.tests", ["t.py::test_x", "--pyargs=t.py::x"]), "is not a test below this folder"),
        (_set("plan.spec.hardware", "../secret.toml"), "'../secret.toml' is not a valid name"),
        (_set("plan.spec.disks.0.serial", "x,drive=/dev/sda"), "'x,drive=/dev/sda' is not a valid name"),
        (_set("plan.spec.clock", "noon,driftfix=slew"), "'noon,driftfix=slew' is not a valid time"),
        (_set("plan.spec.memory_mib", 1 << 40), "MiB of memory"),
        (_set("failure.tries", 0), "it says 1 of 0 tries failed"),
        (_set("failure.finding", ["x"]), "is not a valid bundle: bundle.json"),
        (_backed, "disk-0.qcow2 has a backing file"),
        (_data_elsewhere, "disk-0.qcow2 has an external data file"),
        (_raw, "disk-0.qcow2 is not a qcow2 image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hostile_bundle_is_refused_in_one_sentence(tmp_path: Path, made: Path, change: Change, problem: str) -> None:
    hostile = _altered(made, tmp_path / "hostile.bundle", change)

    with pytest.raises(UsageError) as refused:
        _unpacked(hostile, tmp_path)

    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path.parent / "outside").exists()


def test_a_header_that_claims_a_terabyte_is_refused_unread(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    packed = subprocess.run(["zstd", "-cq"], input=header.tobuf(tarfile.GNU_FORMAT), capture_output=True, check=True)
    (tmp_path / "bomb.bundle").write_bytes(packed.stdout)

    with pytest.raises(UsageError, match="contains 'x'"):
        _unpacked(tmp_path / "bomb.bundle", tmp_path)


def test_a_link_or_a_bomb_is_refused(tmp_path: Path, made: Path) -> None:
    link = tarfile.TarInfo("console.log")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
    with pytest.raises(UsageError, match="does not list as a file"):
        _unpacked(_altered(made, tmp_path / "link.bundle", _missing, [link]), tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="unpacks to more than"):
        unpack(made, tmp_path / "other", most_bytes=1 << 10)


@pytest.mark.parametrize("kept", [0, 10, -10])
def test_a_bundle_that_was_cut_short_is_refused(tmp_path: Path, made: Path, kept: int) -> None:
    made.write_bytes(made.read_bytes()[:kept])

    with pytest.raises(UsageError, match="is not a"):
        _unpacked(made, tmp_path)


def test_a_file_that_is_not_a_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for name, problem in {"text": "is not a bundle: it does not begin", "none": "bundle not found"}.items():
        with pytest.raises(UsageError, match=problem):
            unpack(tmp_path / name, tmp_path)


def test_a_definition_is_read_back_from_json() -> None:
    assert serialization.load(ImageDefinition, json.loads(json.dumps(serialization.dump(BASE)))) == BASE
