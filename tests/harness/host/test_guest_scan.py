"""What the guests of a host have is counted by libvirt's files, without their names."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.fleet.host_file import GuestsInUse, parse_host
from harness.host.guest_scan import guest_lines

from ...small_fleet import text

DEFINED = """<!--
WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE
OVERWRITTEN AND LOST.
-->

<domain type='kvm'>
  <name>{name}</name>
  <os{firmware}>
    <type arch='{arch}' machine='{machine}'>hvm</type>
    {loader}
  </os>
  <cpu mode='{mode}' match='exact' check='partial'>
    <model fallback='allow'>{model}</model>
  </cpu>
</domain>
"""
RUNNING = "<domstatus state='running' reason='booted' pid='77'>\n{}\n</domstatus>"
LOADER = "<loader readonly='yes' secure='no' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"


class Host:
    """A tree with libvirt's files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder("etc")

    def folder(self, place: str) -> Path:
        folder = self.root / place / "libvirt" / "qemu"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def define(self, name: str, machine: str = "pc-q35-9.2", **more: str) -> str:
        words = {"arch": "x86_64", "mode": "custom", "model": "EPYC-Rome", "loader": "", "firmware": "", **more}
        definition = DEFINED.format(name=name, machine=machine, **words)
        (self.folder("etc") / f"{name}.xml").write_text(definition)
        return definition

    def seen(self) -> dict[str, Any]:
        return tomllib.loads("\n".join(guest_lines(self.root)))["seen"]["guests"]  # type: ignore[no-any-return]  # of TOML


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_guests_are_counted_and_not_named(host: Host) -> None:
    for number in range(3):
        host.define(f"secret-{number}", loader=LOADER)
    host.define("secret-old", "pc-i440fx-2.4", model="Opteron_G5")
    (host.folder("etc") / "networks").mkdir()

    lines = "\n".join(guest_lines(host.root))

    assert tomllib.loads(lines)["seen"]["guests"] == {
        "state": "whole",
        "count": 4,
        "machine_types": {"pc-i440fx-2.4": 1, "pc-q35-9.2": 3},
        "cpu_models": {"EPYC-Rome": 3, "Opteron_G5": 1},
        "firmware": {"/usr/share/OVMF/OVMF_CODE_4M.fd": 3},
    }
    assert "secret" not in lines


def test_a_guest_that_runs_with_another_machine_type_than_it_is_defined_with_counts_for_both(host: Host) -> None:
    running = host.define("a", "pc-q35-7.2")
    host.define("a", "pc-q35-9.2")
    (host.folder("run") / "a.xml").write_text(RUNNING.format(running.split("-->")[1]))

    seen = host.seen()

    assert (seen["count"], seen["machine_types"]) == (1, {"pc-q35-7.2": 1, "pc-q35-9.2": 1})
    assert seen["cpu_models"] == {"EPYC-Rome": 1}


def test_a_guest_with_the_hosts_cpu_or_of_another_processor_needs_no_cpu_model(host: Host) -> None:
    host.define("a", mode="host-model")
    host.define("b", "virt-9.2", arch="aarch64", model="cortex-a72")

    assert (host.seen()["machine_types"], host.seen()["cpu_models"]) == ({"pc-q35-9.2": 1}, {})


def test_what_is_not_readable_is_said(host: Host) -> None:
    (host.folder("etc") / "half.xml").write_text("<domain>")
    (host.folder("etc") / "folder.xml").mkdir()
    host.define("a")

    place = "a guest in /etc/libvirt/qemu is not"
    assert host.seen()["state"] == f"{place} XML; {place} readable: Is a directory"
    assert host.seen()["count"] == 1


def test_a_folder_that_is_not_readable_is_said(tmp_path: Path) -> None:
    (tmp_path / "etc" / "libvirt").mkdir(parents=True)
    (tmp_path / "etc" / "libvirt" / "qemu").write_text("")

    assert (
        tomllib.loads("\n".join(guest_lines(tmp_path)))["seen"]["guests"]["state"]
        == "/etc/libvirt/qemu is not readable: Not a directory"
    )


def test_a_host_without_libvirt_has_no_such_table(tmp_path: Path) -> None:
    assert list(guest_lines(tmp_path)) == []
    assert parse_host(text().encode(), "rack").guests is None


def test_fits_reads_what_was_written(host: Host) -> None:
    host.define("a", loader=LOADER)
    lines = "\n".join(guest_lines(host.root))

    assert parse_host(f"{text()}{lines}\n".encode(), "rack").guests == GuestsInUse(
        state="whole", machine_types=("pc-q35-9.2",), cpu_models=("EPYC-Rome",),
        firmware=("/usr/share/OVMF/OVMF_CODE_4M.fd",),
    )  # fmt: skip
