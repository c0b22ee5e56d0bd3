"""Evidence of a boot that ended before user space: the network log in its finding, packets, the display."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import process
from harness.lab import Lab
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.model.artifacts import ROOTFS, Artifacts
from harness.model.layout import SCREENSHOT
from harness.model.machine_spec import BootPath, MachineSpec, NicSpec
from harness.model.network_faults import read
from harness.model.verdict import Finding
from harness.runs.folder import Run

Booting = Callable[..., AbstractContextManager[Machine]]


@pytest.fixture
def over_network(spec: MachineSpec) -> MachineSpec:
    return replace(spec, boot_path=BootPath.IPXE_BIOS)


def _failure(booting: Booting, spec: MachineSpec) -> tuple[Finding, Path]:
    with pytest.raises(BootFailed) as failure, booting(spec):
        pass
    return failure.value.finding, Path(failure.value.folder)


def _packets(lab: Lab, expression: str) -> str:
    return process.output(
        [process.require("tcpdump", "tcpdump"), "-n", "-A", "-r", str(lab.captures[0]), *expression.split()]
    )


def _greys(png: bytes) -> set[int]:
    """The distinct bytes in the rows of a picture: few, if the display shows no text."""
    at, data = 8, b""
    while at < len(png):
        size, kind = struct.unpack_from("!I4s", png, at)
        data += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    return set(zlib.decompress(data))


def test_a_rootfs_that_is_not_served_is_quoted_and_captured(
    booting: Booting, over_network: MachineSpec, lab: Lab, artifacts: Artifacts
) -> None:
    lab.inject(read("http-404-rootfs"))

    finding, folder = _failure(booting, over_network)

    assert finding.id == "http-error"
    said, *_ = [line for line in finding.evidence if line.startswith("network: ") and ROOTFS in line]
    assert f"GET /{artifacts.digest[:12]}/{ROOTFS} 404 " in said
    network = (folder / "network.log").read_text("utf-8")
    assert "DHCP OFFER 10.77.0.10\n" in network
    assert f"/{artifacts.digest[:12]}/vmlinuz 200 " in network
    assert not (folder / SCREENSHOT).exists()  # Linux ran: its console says more
    assert "BOOTP/DHCP, Reply" in _packets(lab, "udp port 67")
    assert f"GET /{artifacts.digest}/{ROOTFS}" in _packets(lab, "tcp port 80 and dst 10.77.0.1")


def test_without_a_dhcp_answer_the_display_is_kept(
    booting: Booting, over_network: MachineSpec, lab: Lab, run: Run
) -> None:
    finding, folder = _failure(booting, replace(over_network, nics=(NicSpec(has_dhcp=False),)))

    assert finding.id == "dhcp-unanswered"
    assert finding.evidence[-1].endswith("] DHCP DISCOVER: no address available")
    picture = (folder / SCREENSHOT).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(_greys(picture)) > 2
    assert "BOOTP/DHCP, Request" in _packets(lab, "udp port 67")
    assert [boot.captures for boot in run.boots()] == [tuple(map(str, lab.captures))]
