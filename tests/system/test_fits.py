# ruff: noqa: E501  # a plant is one line
"""Planted hosts against the files of `base`: `bootproof fits` names each fault, and nothing on a host that boots it.

Planted images are values: what is known of `base`, with changes. Nothing is booted but what compares predictions with
the truth.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.fleet import Device, Effect, FleetHost, ImageDrivers, pci_modalias, predict, read_drivers
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from tests.truth import cpus
from tests.truth.boots import boot_and_compare
from tests.truth.devices import DEVICES
from tests.truth.pairs import NOT_TOLD

PCI = "pci0000:00/0000:00:02.0"
BRIDGE = Device(
    bus="pci", id="1af4:1041", driver="virtio-pci", module="virtio_pci", path=PCI,
    modalias=pci_modalias(0x1AF4, 0x1041, 0x1AF4, 0x1100, class_=0x0200),
)  # fmt: skip
NIC = Device(
    bus="virtio", id="1af4:0001", driver="virtio_net", module="virtio_net", path=f"{PCI}/virtio0", is_boot=True,
    modalias="virtio:d00000001v00001AF4", interfaces=("enp0s2",), names=(("path", "enp0s2"),),
)  # fmt: skip
DISK = Device(
    bus="pci", id="1b36:0010", driver="nvme", module="nvme", path="pci0000:00/0000:00:03.0", has_data=True,
    modalias=pci_modalias(0x1B36, 0x0010, 0x1AF4, 0x1100, class_=0x0108, interface=2),
)  # fmt: skip
GOOD = FleetHost(
    name="good", firmware="uefi", secure_boot=False, cpu_level=3, devices=(BRIDGE, NIC, DISK), kernel_log="whole"
)
RAID = replace(
    DISK,
    id="1000:005d",
    driver="megaraid_sas",
    module="megaraid_sas",
    modalias=pci_modalias(0x1000, 0x5D, class_=0x0104),
)
IGB = Device(
    bus="pci", id="8086:10c9", driver="igb", module="igb", modalias=pci_modalias(0x8086, 0x10C9, class_=0x0200)
)


@pytest.fixture(scope="module")
def drivers(artifacts: Artifacts) -> ImageDrivers:
    return read_drivers(artifacts)


def test_the_cloud_kernel_of_base_drives_a_virtual_machine(drivers: ImageDrivers) -> None:
    assert predict(drivers, GOOD) == ()
    assert drivers.data_in == "initrd"
    assert len(drivers.root.modules) > 300


def plants(drivers: ImageDrivers) -> dict[str, tuple[str, ImageDrivers, FleetHost]]:
    """Each with the prediction that it must give."""
    needy = replace(
        drivers.root, modules={**drivers.root.modules, "virtio_net": ("a.bin", "b.bin")}, firmware=("a.bin",)
    )
    without = replace(needy, firmware=())
    return {
        "a card of a server": ("boot-nic-undriven", drivers, with_devices(replace(IGB, is_boot=True), DISK)),
        "a RAID controller": ("boot-disk-undriven", drivers, with_devices(BRIDGE, NIC, RAID)),
        "a second card": ("device-undriven", drivers, with_devices(BRIDGE, NIC, DISK, IGB)),
        "a CPU without the level": ("cpu-too-old", replace(drivers, cpu_level=3), replace(GOOD, cpu_level=2)),
        "Secure Boot": ("kernel-unsigned", replace(drivers, is_signed=False), replace(GOOD, secure_boot=True)),
        "no EFI": ("kernel-not-efi", replace(drivers, is_efi=False), GOOD),
        "another driver": ("driver-changes", drivers, with_devices(BRIDGE, replace(NIC, driver="x", module="x"), DISK)),
        "a name of the kernel's": ("interface-renamed", drivers, with_devices(BRIDGE, replace(NIC, interfaces=("eth0",)), DISK)),
        "a name of a rule": ("interface-not-told", drivers, with_devices(BRIDGE, replace(NIC, interfaces=("lan0",)), DISK)),
        "no modalias": ("driver-not-told", drivers, with_devices(BRIDGE, NIC, DISK, replace(IGB, modalias=""))),
        "some firmware": (
            "firmware-not-told", replace(drivers, root=needy, initrd=replace(drivers.initrd, firmware=("a.bin",))), GOOD,
        ),
        "no firmware": (
            "driver-firmware-missing", replace(drivers, root=without, initrd=replace(drivers.initrd, firmware=())), GOOD,
        ),
        "no devices": ("host-not-told", drivers, with_devices()),
    }  # fmt: skip


def with_devices(*devices: Device) -> FleetHost:
    return replace(GOOD, devices=devices)


def test_each_planted_fault_is_predicted_and_named(drivers: ImageDrivers) -> None:
    found = {name: {one.id for one in predict(image, host)} for name, (_, image, host) in plants(drivers).items()}

    assert {name: ids for name, ids in found.items() if plants(drivers)[name][0] not in ids} == {}


def test_effects_follow_from_where_a_driver_is_missing(drivers: ImageDrivers) -> None:
    found = predict(drivers, with_devices(replace(IGB, is_boot=True), RAID))

    assert [one.effect for one in found] == [Effect.WILL_NOT_BOOT] * 2


def test_predictions_come_true_in_the_initrd_and_in_the_root(
    base: ImageDefinition, artifacts: Artifacts, drivers: ImageDrivers, tmp_path: Path
) -> None:
    """One boot with devices that the cloud kernel drives, and others that it has no drivers for."""
    names = {"virtio-net-pci", "e1000e", "i82559er", "usb-net", "virtio-blk-pci", "nvme", "megasas", "usb-storage"}
    devices = [one for one in DEVICES if one.name in names]

    pairs, problems = boot_and_compare(base, artifacts, drivers, devices, tmp_path)

    assert problems == []
    assert [pair for pair in pairs if pair.is_wrong or pair.predicted == NOT_TOLD] == []
    assert {pair.is_driven for pair in pairs} == {True, False}
    assert len(pairs) == 2 * len(names)


@pytest.mark.parametrize("model", ["coreduo", "Nehalem"])
def test_a_cpu_without_64_bits_is_refused_as_predicted(
    base: ImageDefinition, artifacts: Artifacts, drivers: ImageDrivers, model: str
) -> None:
    (pair,) = cpus.pairs(base, artifacts, drivers, [model])

    assert pair.is_driven is (model == "Nehalem")
    assert not pair.is_wrong
