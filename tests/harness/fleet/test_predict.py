# ruff: noqa: E501  # a plant is one line
"""Each kind of fault is planted in a small image or a host, and predicted; the good pair has no prediction."""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core import serialization
from harness.fleet import Device, Effect, FleetHost, ImageDrivers, Prediction, pci_modalias, predict

from ... import small_fleet
from ...small_fleet import (
    ALIASES,
    BNX2X,
    DRIVERS,
    HOST,
    MODULES,
    NIC,
    RAID,
    VERSION,
    WIFI,
    drivers,
    kernel,
    module,
    program,
)
from ...small_image import Content

KO = f"{MODULES}/kernel/drivers"
FW = "usr/lib/firmware"
CONFIG = f"boot/config-{VERSION}"


def on(*devices: Device, **changes: Any) -> FleetHost:
    """The good host with further devices."""
    return replace(HOST, devices=(*HOST.devices, *devices), **changes)


def said(image: ImageDrivers, host: FleetHost) -> set[tuple[str, Effect]]:
    found = predict(image, host)
    print(*found, sep="\n")
    assert all(one.host == host.name and one.next and one.what.isprintable() for one in found)
    return {(one.id, one.effect) for one in found}


def only(image: ImageDrivers, host: FleetHost) -> Prediction:
    found = predict(image, host)
    print(*found, sep="\n")
    assert len(found) == 1
    return found[0]


def test_a_good_image_fits_a_good_host() -> None:
    assert predict(drivers(), on(BNX2X)) == ()


WILL_NOT, MISSING, CHANGES, NOT_TOLD = Effect

INITRD_FAULTS: dict[str, tuple[str, Effect, Mapping[str, Content]]] = {
    "no module of the card": ("boot-nic-undriven", WILL_NOT, {f"{KO}/e1000e.ko": None}),
    "no alias of the card": ("boot-nic-undriven", WILL_NOT, {f"{MODULES}/modules.alias": ALIASES.replace("10D3", "10D4")}),
    "no module of the controller": ("boot-disk-undriven", WILL_NOT, {f"{KO}/megaraid_sas.ko": None}),
    "no module of disks": ("boot-disk-undriven", WILL_NOT, {f"{KO}/sd_mod.ko": None}),
    "blacklisted": ("boot-nic-undriven", WILL_NOT, {"etc/modprobe.d/a.conf": "# x\nblacklist e1000e\n"}),
    "replaced": ("boot-nic-undriven", WILL_NOT, {"usr/lib/modprobe.d/a.conf": "install e1000e /bin/true\n"}),
    "a module that it needs is missing": (
        "boot-nic-undriven", WILL_NOT,
        {f"{MODULES}/modules.dep": "kernel/drivers/e1000e.ko: kernel/drivers/ptp.ko\n"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INITRD_FAULTS)
def test_a_driver_that_the_initrd_lacks_keeps_the_host_from_booting(name: str) -> None:
    wanted, effect, changed = INITRD_FAULTS[name]

    found = only(drivers(initrd=changed), HOST)

    assert (found.id, found.effect) == (wanted, effect)
    assert found.cause
    assert found.evidence


def test_what_the_root_has_is_named_as_evidence() -> None:
    found = only(drivers(initrd={f"{KO}/e1000e.ko": None}), HOST)

    assert "the root file system has e1000e" in found.evidence
    assert found.device == "pci 8086:10d3 (e1000e)"


def test_a_modprobe_file_of_etc_hides_that_of_usr() -> None:
    rules = {"usr/lib/modprobe.d/a.conf": "blacklist e1000e\n", "etc/modprobe.d/a.conf": "# nothing\n"}

    assert predict(drivers(initrd=rules), HOST) == ()


def test_kernel_arguments_blacklist_too() -> None:
    for argument in ("modprobe.blacklist=x,e1000e", "module_blacklist=e1000e", "rd.driver.blacklist=e1000e"):
        assert said(drivers(kernel_arguments=("quiet", argument)), HOST) == {("boot-nic-undriven", WILL_NOT)}


def test_a_driver_behind_which_the_card_is_counts_too() -> None:
    bridge = replace(NIC, id="1af4:1041", driver="virtio-pci", module="virtio_pci", is_boot=False, interfaces=(), names=(),
                     modalias=pci_modalias(0x1AF4, 0x1041, class_=0x0200), path="pci0000:00/0000:00:03.0")  # fmt: skip
    card = Device(bus="virtio", id="0x1af4:0x0001", driver="virtio_net", module="virtio_net", is_boot=True,
                  modalias="virtio:d00000001v00001AF4", path="pci0000:00/0000:00:03.0/virtio0")  # fmt: skip
    host = replace(HOST, devices=(bridge, card, RAID))

    assert predict(drivers(), host) == ()
    found = only(drivers(initrd={f"{KO}/virtio_pci.ko": None}), host)
    assert (found.id, found.device) == ("boot-nic-undriven", "pci 1af4:1041 (virtio-pci)")


def test_a_built_in_driver_counts_by_its_name_and_by_its_aliases() -> None:
    ahci = replace(
        RAID, id="8086:2922", driver="ahci", module="ahci", modalias=pci_modalias(0x8086, 0x2922, class_=0x0106)
    )
    assert predict(drivers(), replace(HOST, devices=(NIC, ahci))) == ()

    builtin = {
        f"{MODULES}/modules.builtin.modinfo": "lone.alias=pci:v000010ECd00008139sv*sd*bc*sc*i*\0lone.license=GPL\0"
    }
    card = replace(NIC, id="10ec:8139", driver="", module="", modalias=pci_modalias(0x10EC, 0x8139, class_=0x0200))
    assert predict(drivers(both=builtin), replace(HOST, devices=(card, RAID))) == ()
    assert said(drivers(), replace(HOST, devices=(card, RAID))) == {("boot-nic-undriven", WILL_NOT)}


def test_aliases_of_modules_count_where_the_index_is_missing() -> None:
    own = module(alias="pci:v00008086d000010D3sv*sd*bc*sc*i*", depends="")
    without = {f"{MODULES}/modules.alias": None, f"{MODULES}/modules.dep": None}
    disks = module(alias=("pci:v00001000d0000005Dsv*sd*bc*sc*i*", "scsi:t-0x00*"))
    for pack, end in ((bytes, ""), (lzma.compress, ".xz")):
        changed = {
            **without,
            f"{KO}/e1000e.ko": None,
            f"{KO}/e1000e.ko{end}": pack(own),
            f"{KO}/megaraid_sas.ko": disks,
        }
        changed |= {f"{KO}/sd_mod.ko": module(alias="scsi:t-0x00*")}
        assert predict(drivers(both=changed), HOST) == ()
    needs = {**without, f"{KO}/e1000e.ko": module(alias="pci:v00008086d000010D3sv*sd*bc*sc*i*", depends="ptp,pps-core")}
    found = [one for one in predict(drivers(both=needs), HOST) if one.id == "boot-nic-undriven"]
    assert any("e1000e needs ptp, which is missing" in line for line in found[0].evidence)


def test_an_image_without_data_needs_no_disk() -> None:
    stateless = {"usr/lib/persist/config": None, f"{KO}/megaraid_sas.ko": None}

    assert predict(drivers(initrd=stateless), HOST) == ()


def test_an_image_that_mounts_data_in_the_root_needs_the_driver_in_either() -> None:
    image = {"etc/fstab": "LABEL=data /data ext4 defaults 0 2\n"}
    without = {f"{KO}/megaraid_sas.ko": None}
    in_root = {"usr/lib/persist/config": None, **without}

    assert predict(drivers(root=image, initrd=in_root), HOST) == ()
    assert said(drivers(root={**image, **without}, initrd=in_root), HOST) == {("boot-disk-undriven", WILL_NOT)}


# Firmware files


def test_firmware_that_the_initrd_lacks_keeps_a_host_from_booting() -> None:
    host = replace(HOST, devices=(replace(BNX2X, is_boot=True), RAID))
    lost = {f"{FW}/bnx2x/bnx2x-e2-7.13.21.0.fw": None}

    found = only(drivers(initrd=lost), host)

    assert (found.id, found.effect) == ("driver-firmware-missing", WILL_NOT)
    assert "the initrd lacks the firmware of bnx2x: bnx2x/bnx2x-e2-7.13.21.0.fw" in found.what
    other = {f"{FW}/bnx2x/bnx2x-e1-7.13.21.0.fw": None}
    assert predict(drivers(initrd=other), host) == ()  # of another chip


def test_firmware_that_the_root_lacks_is_missing() -> None:
    lost = {f"{FW}/bnx2x/bnx2x-e2-7.13.21.0.fw": None}

    assert said(drivers(both=lost), on(BNX2X)) == {("driver-firmware-missing", MISSING)}
    assert said(drivers(initrd=lost), on(BNX2X)) == {
        ("firmware-not-told", NOT_TOLD)
    }  # the root has it, perhaps too late


E2 = f"{FW}/bnx2x/bnx2x-e2-7.13.21.0.fw"
READ: dict[str, Mapping[str, Content]] = {
    "xz, which the kernel reads": {E2: None, f"{E2}.xz": "x"},
    "a link": {E2: ("->", "../other.fw"), f"{FW}/other.fw": "x"},
    "a link to a compressed file": {E2: None, f"{E2}.xz": ("->", "../other.fw.xz"), f"{FW}/other.fw.xz": "x"},
    "a folder that is a link": {
        E2: None, f"{FW}/bnx2x/bnx2x-e1-7.13.21.0.fw": None, f"{FW}/bnx2x": ("->", "broadcom"),
        f"{FW}/broadcom/bnx2x-e2-7.13.21.0.fw": "x",
    },
    "in a folder of updates": {E2: None, f"{FW}/updates/bnx2x/bnx2x-e2-7.13.21.0.fw": "x"},
    "zstd, which the kernel reads": {E2: None, f"{E2}.zst": "x", CONFIG: "CONFIG_FW_LOADER_COMPRESS_ZSTD=y\n"},
    "zstd, without a configuration": {E2: None, f"{E2}.zst": "x", CONFIG: None},
    "xz, of an older kernel": {E2: None, f"{E2}.xz": "x", CONFIG: "CONFIG_FW_LOADER_COMPRESS=y\n"},
}  # fmt: skip
UNREAD: dict[str, Mapping[str, Content]] = {
    "zstd, which the kernel does not read": {E2: None, f"{E2}.zst": "x"},
    "xz, which the kernel does not read": {
        E2: None,
        f"{E2}.xz": "x",
        CONFIG: "# CONFIG_FW_LOADER_COMPRESS is not set\n",
    },
    "a link to nothing": {E2: ("->", "gone.fw")},
    "a link loop": {E2: ("->", "bnx2x-e2-7.13.21.0.fw")},
    "an empty file": {E2: ""},
}


@pytest.mark.parametrize("name", READ)
def test_firmware_is_found_as_the_kernel_finds_it(name: str) -> None:
    assert predict(drivers(both=READ[name]), on(BNX2X)) == ()


@pytest.mark.parametrize("name", UNREAD)
def test_firmware_that_the_kernel_cannot_load_is_missing_with_the_reason(name: str) -> None:
    found = only(drivers(both=UNREAD[name]), on(BNX2X))

    assert (found.id, found.effect) == ("driver-firmware-missing", MISSING)
    assert any(word in " ".join(found.evidence) for word in ("does not read", "link to nothing", "is empty"))


def test_alternatives_of_which_some_are_there_cannot_be_told() -> None:
    one = {f"{FW}/iwlwifi-a0-72.ucode": None}
    both = {**one, f"{FW}/iwlwifi-b0-72.ucode": None}

    assert predict(drivers(), on(WIFI)) == ()
    assert said(drivers(both=one), on(WIFI)) == {("firmware-not-told", NOT_TOLD)}
    assert said(drivers(both=both), on(WIFI)) == {("driver-firmware-missing", MISSING)}
    assert said(drivers(both=both), on(replace(WIFI, no_firmware=("iwlwifi-a0-72.ucode",)))) == {
        ("firmware-not-told", NOT_TOLD)
    }


def test_a_name_that_a_driver_prints_in_part_is_recognized() -> None:
    wifi = replace(WIFI, firmware=("a0-72.ucode",))

    assert predict(drivers(both={f"{FW}/iwlwifi-b0-72.ucode": None}), on(wifi)) == ()
    assert said(drivers(both={f"{FW}/iwlwifi-a0-72.ucode": None}), on(wifi)) == {("driver-firmware-missing", MISSING)}


def test_a_newer_driver_that_names_other_files_cannot_be_told() -> None:
    assert said(drivers(), on(replace(WIFI, firmware=("iwlwifi-a0-66.ucode",)))) == {("firmware-not-told", NOT_TOLD)}


def test_firmware_without_which_a_driver_starts_does_not_keep_a_host_from_booting() -> None:
    card = Device(bus="pci", id="14e4:165f", driver="tg3", module="tg3", is_boot=True,
                  modalias=pci_modalias(0x14E4, 0x165F, class_=0x0200))  # fmt: skip
    host = replace(HOST, devices=(card, RAID))
    lost = {f"{FW}/tigon/tg3.bin": None}

    assert predict(drivers(both=lost), host) == ()
    loaded = replace(host, devices=(replace(card, firmware=("tigon/tg3.bin",)), RAID))
    assert said(drivers(both=lost), loaded) == {("driver-firmware-missing", MISSING)}


# The host as a whole


def test_a_cpu_that_is_too_old() -> None:
    v3 = {"usr/lib/x86_64-linux-gnu/libc.so.6": program(3)}

    assert predict(drivers(v3), HOST) == ()
    assert said(drivers(v3), replace(HOST, cpu_level=2)) == {("cpu-too-old", WILL_NOT)}
    assert said(drivers(v3), replace(HOST, cpu_level=None)) == {("host-not-told", NOT_TOLD)}
    assert said(drivers(), replace(HOST, cpu_level=0)) == {("cpu-too-old", WILL_NOT)}
    assert predict(drivers({"usr/lib/x86_64-linux-gnu/libc.so.6": program(0)}), replace(HOST, cpu_level=1)) == ()


def test_secure_boot_and_uefi_need_a_kernel_that_fits() -> None:
    secure = replace(HOST, secure_boot=True)

    assert said(drivers(), secure) == {("kernel-unsigned", WILL_NOT)}
    assert said(drivers(head=kernel(is_signed=True)), secure) == {("host-not-told", NOT_TOLD)}
    assert predict(drivers(), replace(HOST, firmware="bios")) == ()
    assert said(drivers(head=kernel(is_efi=False)), HOST) == {("kernel-not-efi", WILL_NOT)}
    assert predict(drivers(head=kernel(is_efi=False)), replace(HOST, firmware="bios")) == ()


def test_a_host_that_does_not_say_how_it_boots_cannot_be_told() -> None:
    assert said(drivers(), replace(HOST, devices=())) == {("host-not-told", NOT_TOLD)}


# Devices


GPU = Device(
    bus="pci", id="10de:1eb8", driver="nvidia", module="nvidia", modalias=pci_modalias(0x10DE, 0x1EB8, class_=0x0302)
)
NOUVEAU: Mapping[str, Content] = {
    f"{KO}/nouveau.ko": module(),
    f"{MODULES}/modules.alias": ALIASES + "alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau\n",
}
NVIDIA: Mapping[str, Content] = {
    f"{KO}/nvidia.ko": module(),
    f"{MODULES}/modules.alias": ALIASES + small_fleet.alias(0x10DE, 0x1EB8, "nvidia"),
}
DEVICES: dict[str, tuple[Device, Mapping[str, Content], set[tuple[str, Effect]]]] = {
    "no driver": (GPU, {}, {("device-undriven", MISSING)}),
    "no driver, and the host has none": (replace(GPU, driver="", module=""), {}, set()),
    "another driver": (GPU, NOUVEAU, {("driver-changes", CHANGES)}),
    "out of tree, and another driver": (replace(GPU, is_out_of_tree=True), NOUVEAU, {("driver-not-told", NOT_TOLD)}),
    "out of tree, and none": (replace(GPU, is_out_of_tree=True), {}, {("device-undriven", MISSING)}),
    "out of tree, and the same": (replace(GPU, is_out_of_tree=True), NVIDIA, {("driver-not-told", NOT_TOLD)}),
    "blacklisted": (GPU, {**NVIDIA, "etc/modprobe.d/x.conf": "blacklist nvidia\n"}, {("device-undriven", MISSING)}),
    "no modalias": (replace(GPU, modalias=""), {}, {("driver-not-told", NOT_TOLD)}),
    "a driver without a module": (replace(GPU, module=""), {}, {("driver-not-told", NOT_TOLD)}),
    "in the image without an alias": (GPU, {f"{KO}/nvidia.ko": module()}, {("driver-not-told", NOT_TOLD)}),
    "bound by a rule": (replace(GPU, driver="vfio-pci", module="vfio_pci"), NOUVEAU, {("driver-not-told", NOT_TOLD)}),
    "of every kernel": (replace(GPU, driver="pcieport", module=""), {}, set()),
    "by its class": (
        Device(bus="pci", id="144d:a808", driver="special", module="special", modalias=pci_modalias(0x144D, 0xA808, class_=0x0108, interface=2)),
        {}, {("driver-not-told", NOT_TOLD)},
    ),
    "the same by its class": (
        Device(bus="pci", id="144d:a808", driver="nvme", module="nvme", modalias=pci_modalias(0x144D, 0xA808, class_=0x0108, interface=2)),
        {}, set(),
    ),
    "by softdep of another": (
        GPU, {**NOUVEAU, f"{KO}/nvidia.ko": module(), f"{MODULES}/modules.softdep": "softdep nouveau post: nvidia\n"}, set(),
    ),
    "by an alias of modprobe.d": (
        GPU, {f"{KO}/nvidia.ko": module(), "etc/modprobe.d/x.conf": "alias pci:v000010DEd* nvidia\n"}, set(),
    ),
    "of a file of the older schema": (replace(GPU, module="", is_exact=False), {}, {("driver-not-told", NOT_TOLD)}),
}  # fmt: skip


@pytest.mark.parametrize("name", DEVICES)
def test_what_a_device_gets(name: str) -> None:
    device, changed, wanted = DEVICES[name]

    assert said(drivers(both=changed), on(device)) == wanted


def test_a_driver_of_the_initrd_alone_drives_a_device() -> None:
    assert predict(drivers({f"{KO}/bnx2x.ko": None}), on(BNX2X)) == ()


@pytest.mark.parametrize(
    ("name", "names", "arguments", "wanted"),
    [
        ("eth0", (("path", "enp1s0"),), (), {("interface-renamed", CHANGES)}),
        ("enp1s0", (("path", "enp1s0"),), ("net.ifnames=0",), {("interface-renamed", CHANGES)}),
        ("eth0", (("path", "enp1s0"),), ("net.ifnames=0",), set()),
        ("eno1", (("onboard", "eno1"), ("path", "enp1s0")), (), set()),
        ("storage0", (("path", "enp1s0"),), (), {("interface-not-told", NOT_TOLD)}),
    ],
)
def test_names_of_interfaces(
    name: str, names: tuple[tuple[str, str], ...], arguments: tuple[str, ...], wanted: set[tuple[str, Effect]]
) -> None:
    card = replace(NIC, interfaces=(name,), names=names)

    assert said(drivers(kernel_arguments=arguments), replace(HOST, devices=(card, RAID))) == wanted


# The values


def test_what_is_known_of_an_image_reads_back_equal() -> None:
    known = drivers(both=NOUVEAU)

    assert serialization.load(ImageDrivers, serialization.dump(known)) == known


def test_the_drivers_of_a_device_can_be_asked_for_alone() -> None:
    known = drivers(initrd={f"{KO}/e1000e.ko": None})
    modalias = pci_modalias(0x8086, 0x10D3, class_=0x0200)

    assert known.drivers_of(modalias) == ("e1000e",)
    assert known.drivers_of(modalias, in_initrd=True) == ()
    assert "e1000e" in known.names
    assert f"{KO}/e1000e.ko" in DRIVERS
