"""What a version takes away from guests is found, and what only changes is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.guests.broken import broken
from harness.model.finding_catalog import explanations
from harness.model.guest_contract import GuestContract, losses

BEFORE = GuestContract(
    programs={"QEMU": "9.2.0", "libvirt": "11.0.0"},
    machine_types={"pc-q35-2.4": "deprecated", "pc-q35-9.2": "", "q35": "alias of pc-q35-9.2"},
    cpu_models={"EPYC": "kvm, tcg", "Opteron_G5": "tcg", "host": "kvm"},
    firmware={"/usr/share/OVMF/OVMF_CODE_4M.fd": "3653632"},
    devices={"virtio-blk-pci": "PCI"},
    capabilities={"kvm disk bus": "sata, virtio", "qemu disk bus": "sata, virtio", "qemu vcpus": "288"},
)


def lost(**after: dict[str, str]) -> list[str]:
    return [str(one) for one in losses(BEFORE, replace(BEFORE, **after))]


@pytest.mark.parametrize(
    ("field", "after", "sentences"),
    [
        (
            "machine_types",
            {"pc-q35-9.2": "", "q35": "alias of pc-q35-9.2"},
            ["machine type pc-q35-2.4 is gone"],
        ),
        (
            "machine_types",
            {"pc-q35-2.4": "", "pc-q35-9.2": ""},
            ["machine type q35 is gone"],
        ),
        ("cpu_models", {**BEFORE.cpu_models, "EPYC": "kvm"}, ["CPU model EPYC cannot run under tcg any more"]),
        ("cpu_models", {"EPYC": "kvm, tcg", "host": "kvm"}, ["CPU model Opteron_G5 is gone"]),
        ("firmware", {}, ["firmware /usr/share/OVMF/OVMF_CODE_4M.fd is gone"]),
        ("devices", {}, ["device virtio-blk-pci is gone"]),
        (
            "capabilities",
            {**BEFORE.capabilities, "qemu disk bus": "fdc, virtio"},
            ["domain capability qemu disk bus lacks sata"],
        ),
        (
            "capabilities",
            {**BEFORE.capabilities, "qemu vcpus": "255"},
            ["domain capability qemu vcpus is 255, was 288"],
        ),
    ],
)
def test_what_guests_lose_is_named(field: str, after: dict[str, str], sentences: list[str]) -> None:
    assert lost(**{field: after}) == sentences


@pytest.mark.parametrize(
    ("field", "after"),
    [
        ("machine_types", {**BEFORE.machine_types, "pc-q35-10.0": "", "q35": "alias of pc-q35-10.0"}),
        ("machine_types", {**BEFORE.machine_types, "pc-q35-9.2": "deprecated"}),
        ("cpu_models", {**BEFORE.cpu_models, "EPYC": "deprecated, kvm, tcg"}),
        ("firmware", {"/usr/share/OVMF/OVMF_CODE_4M.fd": "1"}),
        ("capabilities", {**BEFORE.capabilities, "qemu disk bus": "sata, scsi, virtio", "qemu vcpus": "4096"}),
        ("programs", {"QEMU": "10.0.0"}),
    ],
)
def test_what_guests_still_have_is_no_loss(field: str, after: dict[str, str]) -> None:
    assert lost(**{field: after}) == []


@pytest.mark.parametrize("is_after", [True, False])
def test_nothing_is_lost_of_what_one_side_could_not_look_at(is_after: bool) -> None:
    blind = GuestContract(
        machine_types=BEFORE.machine_types, firmware=BEFORE.firmware, devices=BEFORE.devices,
        cpu_models={"EPYC": "tcg", "Opteron_G5": "tcg", "host": ""},
        unknown={"kvm": "the machine has no /dev/kvm", "capabilities": "there is no virsh"},
    )  # fmt: skip
    pair = (BEFORE, blind) if is_after else (blind, BEFORE)

    assert list(losses(*pair)) == []


def test_an_image_that_lost_qemu_lost_everything() -> None:
    assert len(list(losses(BEFORE, GuestContract()))) == 11


def test_a_version_that_takes_nothing_away_has_no_finding() -> None:
    assert broken(BEFORE, replace(BEFORE, programs={"QEMU": "10.0.0"}), "2026.10", "2026.11") is None


def test_the_finding_names_what_is_lost_the_gravest_first_and_why() -> None:
    after = replace(
        BEFORE, machine_types={"q35": "alias of pc-q35-10.0"}, devices={}, programs={"QEMU": "10.0.0"}, firmware={}
    )
    finding = broken(BEFORE, after, "2026.10", "2026.11")

    assert finding is not None
    assert finding.id in explanations()
    assert finding.what == (
        "guests that 2026.10 starts do not start under 2026.11: machine type pc-q35-2.4 is gone, and 3 more"
    )
    assert finding.evidence == (
        "machine type is gone: pc-q35-2.4, pc-q35-9.2", "firmware is gone: /usr/share/OVMF/OVMF_CODE_4M.fd",
        "device is gone: virtio-blk-pci", "QEMU: 9.2.0 → 10.0.0", "libvirt: 11.0.0 → none",
    )  # fmt: skip
    assert "deprecated" in finding.cause


def test_of_many_losses_the_finding_shows_some_and_counts_the_others() -> None:
    before = GuestContract(devices={f"device-{number:02}": "" for number in range(30)})
    finding = broken(before, GuestContract(), "a", "b")

    assert finding is not None
    (line,) = finding.evidence
    assert line.startswith("device is gone: device-00, device-01, ")
    assert line.endswith("device-11 and 18 more")
    assert "package" in finding.cause
