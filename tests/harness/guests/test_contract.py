"""The answers of QEMU and libvirt become the contract with guests, or an error."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness.core.errors import ImageError
from harness.guests.contract import PROBES, names_of, parse
from harness.model.guest_contract import GuestContract, losses

RECORDED = Path(__file__).parent / "recorded"
"""What QEMU 7.2 and 10.0 of Debian and libvirt 11.3 print, with fewer names."""
DOMAINS = (RECORDED / "domcapabilities.xml").read_text()
ANSWERS = {
    "QEMU": (RECORDED / "qemu-10.0-tcg.jsonl").read_text(),
    "CPU models under KVM": (RECORDED / "qemu-10.0-kvm.jsonl").read_text(),
    "firmware": (
        "folder /usr/share/qemu\nd 4096 /usr/share/qemu\nf 9216 /usr/share/qemu/kvmvapic.bin\n"
        "f 100 /usr/share/qemu/hppa-firmware.img\nd 4096 /usr/share/qemu/firmware\n"
        "f 790 /usr/share/qemu/firmware/60-edk2-x86_64.json\nf 790 /usr/share/qemu/firmware/60-edk2-aarch64.json\n"
        "folder /usr/share/OVMF\nd 4096 /usr/share/OVMF\nf 3653632 /usr/share/OVMF/OVMF_CODE_4M.fd\n"
        "l 9 /usr/share/OVMF/OVMF_CODE.fd\nend"
    ),
    "libvirt's version": "Using library: libvirt 11.3.0\nRunning against daemon: 11.3.0",
    "domain capabilities": DOMAINS,
    "domain capabilities under KVM": DOMAINS,
}


def test_each_answer_is_read() -> None:
    contract = parse(ANSWERS)

    assert contract == GuestContract(
        programs={"QEMU": "10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)", "libvirt": "11.3.0"},
        machine_types={
            "microvm": "", "pc": "alias of pc-i440fx-10.0", "pc-i440fx-10.0": "", "pc-q35-10.0": "",
            "pc-i440fx-7.2": "", "pc-q35-7.2": "", "pc-q35-7.0": "deprecated", "pc-q35-9.2": "",
            "q35": "alias of pc-q35-10.0",
        },
        cpu_models={
            "486": "kvm, tcg", "EPYC": "", "EPYC-v1": "", "Icelake-Server": "", "Opteron_G5": "", "host": "kvm",
            "max": "kvm, tcg", "qemu64": "tcg",
        },
        firmware={
            "/usr/share/OVMF/OVMF_CODE_4M.fd": "3653632", "/usr/share/qemu/firmware/60-edk2-x86_64.json": "790",
            "/usr/share/qemu/kvmvapic.bin": "9216",
        },
        devices={
            "acpi-erst": "PCI", "ich9-ahci": "PCI", "usb-host": "usb-bus", "virtio-blk-pci": "PCI",
            "vmbus-bridge": "System",
        },
        capabilities={f"{kind} {name}": said for kind in ("kvm", "qemu") for name, said in CAPABILITIES.items()},
    )  # fmt: skip
    assert set(ANSWERS) == {probe.name for probe in PROBES}


CAPABILITIES = {
    "async-teardown": "yes",
    "backingStoreInput": "yes",
    "backup": "yes",
    "disk": "yes",
    "disk bus": "fdc, sata, scsi, usb, virtio",
    "disk diskDevice": "cdrom, disk, floppy, lun",
    "disk model": "virtio, virtio-non-transitional, virtio-transitional",
    "firmware": "efi",
    "genid": "yes",
    "hostdev": "yes",
    "hostdev mode": "subsystem",
    "hostdev startupPolicy": "default, mandatory, optional, requisite",
    "hostdev subsysType": "pci, scsi, usb",
    "hyperv": "yes",
    "hyperv features": "spinlocks, vendor_id",
    "iothreads": "yes",
    "loader": ", ".join(f"/usr/share/OVMF/OVMF_CODE_4M.{end}" for end in ("fd", "ms.fd", "secboot.fd")),
    "loader readonly": "no, yes",
    "loader secure": "no, yes",
    "loader type": "pflash, rom",
    "memoryBacking": "yes",
    "memoryBacking sourceType": "anonymous, file, memfd",
    "mode custom": "yes",
    "mode custom models": "486, Opteron_G1",
    "mode host-model": "yes",
    "mode maximum": "yes",
    "mode maximum maximumMigratable": "off, on",
    "ps2": "yes",
    "vcpus": "4096",
    "video": "yes",
    "video modelType": "bochs, cirrus, none, ramfb, vga, virtio, vmvga",
    "vmcoreinfo": "yes",
}


def test_guests_that_debian_12_starts_and_debian_13_does_not() -> None:
    """QEMU removed old machine types and sga; qxl is in another package."""
    without_kvm = {
        "CPU models under KVM": "absent: no /dev/kvm",
        "domain capabilities under KVM": "absent: no /dev/kvm",
    }
    before = parse({**ANSWERS, **without_kvm, "QEMU": (RECORDED / "qemu-7.2-tcg.jsonl").read_text()})

    assert before.programs["QEMU"].startswith("7.2.22 (Debian")
    assert before.machine_types["q35"] == "alias of pc-q35-7.2"
    assert [str(loss) for loss in losses(before, parse(ANSWERS))] == [
        "machine type pc-i440fx-2.3 is gone",
        "device qxl is gone",
        "device sga is gone",
    ]


def test_what_cannot_be_looked_at_is_unknown_with_its_reason() -> None:
    without_kvm = dict.fromkeys(("CPU models under KVM", "domain capabilities under KVM"), "absent: no /dev/kvm")
    without_libvirt = dict.fromkeys(
        ("libvirt's version", "domain capabilities", "domain capabilities under KVM"), "absent: there is no virsh"
    )
    whole = parse(ANSWERS)

    contract = parse({**ANSWERS, **without_kvm})
    assert contract.unknown == {"kvm": "no /dev/kvm"}
    assert contract.cpu_models["qemu64"] == "tcg"
    assert not any(name.startswith("kvm ") for name in contract.capabilities)
    assert contract.machine_types == whole.machine_types

    contract = parse({**ANSWERS, **without_libvirt})
    assert contract == replace(
        whole, capabilities={}, programs={"QEMU": whole.programs["QEMU"]}, unknown={"capabilities": "there is no virsh"}
    )


def test_an_image_without_qemu_offers_nothing() -> None:
    assert parse({**ANSWERS, "QEMU": "absent: there is no QEMU for x86"}) == GuestContract()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("QEMU", '{"QMP": {}}\n{"return": {}}'),
        ("QEMU", ANSWERS["QEMU"].replace("name ", "x")),
        ("QEMU", ANSWERS["QEMU"].replace('"unavailable-features"', '"x"')),
        ("CPU models under KVM", '{"QMP": {}}\n{"error": {"class": "GenericError", "desc": "no such command"}}'),
        ("CPU models under KVM", "Could not access KVM kernel module"),
        ("firmware", "folder /usr/share/qemu\nend"),
        ("firmware", "folder /usr/share/qemu\nd 4096 /usr/share/qemu"),
        ("libvirt's version", "Using library: libvirt 11.3.0"),
        ("domain capabilities", "<domainCapabilities>"),
        ("domain capabilities", "<domain/>"),
    ],
)
def test_an_answer_that_is_not_as_expected_is_an_error_that_quotes_the_command(name: str, answer: str) -> None:
    program = {"QEMU": "qemu-system-x86_64", "CPU models under KVM": "qemu-system", "firmware": "find"}

    with pytest.raises(ImageError, match=program.get(name, "virsh")):
        parse({**ANSWERS, name: answer})


def test_names_that_are_words_of_any_text_are_not_looked_for_in_files() -> None:
    found = names_of(parse(ANSWERS))

    assert "microvm" not in found
    assert {"pc-q35-9.2", "/usr/share/OVMF/OVMF_CODE_4M.fd"} <= found


def test_each_field_of_the_recorded_contract_has_entries() -> None:
    contract = parse(ANSWERS)

    assert [field.name for field in fields(contract) if not getattr(contract, field.name)] == ["unknown"]
