# a plant is one line
"""Hardware scans of small trees of /sys and /proc, read back as hardware profiles."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from harness.core.serialization import NewerFormat
from harness.fleet import parse_host
from harness.host import hardware_scan
from harness.model.hardware import HardwareProfile, find_profile
from harness.model.machine_spec import DiskBus, DiskRole, Firmware, NicModel

MAC, UUID = "b8:ca:3a:11:22:33", "4c4c4544-0042-3510-8052-b4c04f4d3332"


class Host:
    """A tree that looks like a host's /sys, /proc and /run/udev."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("proc/cpuinfo", "".join(f"processor\t: {n}\nmodel name\t: Xeon\n\n" for n in range(32)))
        self.put("proc/meminfo", "MemTotal:       528000000 kB\n")
        self.put("proc/cmdline", f"root=UUID={UUID} BOOTIF=01-{MAC.replace(':', '-')} quiet\n")
        self.put("proc/net/route", "Iface\tDestination\tGateway\n")

    def put(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def link(self, path: str, target: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        (self.root / target).mkdir(parents=True, exist_ok=True)
        file.symlink_to(self.root / target)

    def pci(self, address: str, driver: str, numbers: str = "0104 1000:005d") -> str:
        """Its folder in the tree."""
        place = f"sys/devices/pci0000:00/{address}"
        kind, _, device = numbers.partition(" ")
        for name, value in zip(("class", "vendor", "device"), (f"{kind}00", *device.split(":")), strict=True):
            self.put(f"{place}/{name}", f"0x{value}\n")
        self.link(f"{place}/driver", f"sys/bus/pci/drivers/{driver}")
        self.link(f"sys/bus/pci/devices/{address}", place)
        return place

    def disk(
        self, name: str, place: str, gib: int, *, sector_bytes: int = 512, number: str = "8:0", is_blank: bool = False
    ) -> None:
        folder = f"sys/block/{name}"
        self.put(f"{folder}/size", str(gib << 21))
        self.put(f"{folder}/dev", number)
        self.put(f"{folder}/queue/logical_block_size", str(sector_bytes))
        self.put(f"{place}/target/model", "PERC H730 \n")
        self.put(f"{place}/target/serial", "SECRET-1\n")
        self.link(f"{folder}/device", f"{place}/target")
        self.put(f"run/udev/data/b{number}", "I:1\n" if is_blank else "E:ID_PART_TABLE_TYPE=gpt\n")

    def card(self, name: str, place: str, *, carrier: str = "0") -> None:
        folder = f"sys/class/net/{name}"
        self.link(f"{folder}/device", place)
        for key, value in {"type": "1", "address": MAC, "carrier": carrier}.items():
            self.put(f"{folder}/{key}", value)

    def profile(self, *, with_serials: bool = False) -> tuple[HardwareProfile, str]:
        text = hardware_scan.profile(self.root, with_serials=with_serials)
        print(text)
        file = self.root / "rack.toml"
        file.write_text(text)
        return find_profile(str(file)), text


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_server_with_megaraid_and_four_cards(host: Host) -> None:
    for name, value in {"sys_vendor": "Dell Inc.", "product_name": "PowerEdge R730", "bios_version": "2.1.7"}.items():
        host.put(f"sys/class/dmi/id/{name}", value)
    raid = host.pci("0000:03:00.0", "megaraid_sas")
    host.disk("sda", f"{raid}/host0/0", 200, number="8:0")
    host.disk("sdb", f"{raid}/host0/1", 4000, number="8:16")
    host.disk("sdc", f"{raid}/host0/2", 4000, number="8:32", is_blank=True)
    host.put("sys/block/sdb/sdb2/partition", "2")
    host.put("proc/mounts", "/dev/sdb2 /data ext4 rw 0 0\n")
    for number in range(4):
        host.card(f"eno{number + 1}", host.pci(f"0000:01:00.{number}", "tg3", "0200 14e4:165f"))
    host.put("proc/net/route", "Iface\tDestination\tGateway\nbr0\t00000000\t0100000A\n")
    host.put("sys/class/net/br0/type", "1")
    host.put("sys/class/net/br0/lower_eno3/type", "1")
    host.put("sys/class/watchdog/watchdog0/identity", "iTCO_wdt")
    host.put("sys/class/tpm/tpm0/tpm_version_major", "2")

    profile, text = host.profile()

    assert profile.description == "Dell Inc. PowerEdge R730"
    assert (profile.firmware, profile.cpus, profile.memory_mib) == (Firmware.BIOS, 32, 515625)
    assert [(disk.bus, disk.size_gib, disk.role) for disk in profile.disks] == [
        (DiskBus.MEGASAS, 200, DiskRole.FOREIGN),
        (DiskBus.MEGASAS, 4000, DiskRole.DATA),
        (DiskBus.MEGASAS, 4000, DiskRole.BLANK),
    ]
    assert [(nic.model, nic.has_dhcp) for nic in profile.nics] == [(NicModel.E1000E, place == 2) for place in range(4)]
    assert (profile.has_watchdog, profile.has_tpm) == (True, True)
    assert "# sda: PERC H730, megaraid_sas\n" in text
    assert "tg3; e1000e is the nearest" in text
    seen = parse_host(text.encode(), "rack").devices
    raid_ = next(device for device in seen if device.address == "0000:03:00.0")
    assert (raid_.id, raid_.driver, raid_.disks, raid_.has_data) == (
        "1000:005d",
        "megaraid_sas",
        ("sda", "sdb", "sdc"),
        True,
    )
    assert [device.interfaces for device in seen if device.is_boot] == [("eno3",)]


def test_a_host_with_uefi_and_nvme(host: Host) -> None:
    host.put("sys/firmware/efi/fw_platform_size", "64")
    host.disk("nvme0n1", host.pci("0000:02:00.0", "nvme"), 900, sector_bytes=4096)
    host.put("sys/block/sdx/size", "1000")
    host.put("sys/block/sdx/removable", "1")
    host.put("sys/block/loop0/size", "1000")
    host.card("enp1s0", host.pci("0000:01:00.0", "igb"))
    host.card("enp1s1", host.pci("0000:01:00.1", "igb"), carrier="1")

    profile, _ = host.profile()

    assert profile.firmware is Firmware.UEFI
    assert [(disk.bus, disk.sector_bytes, disk.role) for disk in profile.disks] == [(DiskBus.NVME, 4096, DiskRole.DATA)]
    assert [(nic.model, nic.has_dhcp) for nic in profile.nics] == [(NicModel.IGB, False), (NicModel.IGB, True)]


def test_a_virtual_machine_with_more_cards_than_can_be_made(host: Host) -> None:
    host.disk("vda", host.pci("0000:00:05.0", "virtio_blk"), 20, number="254:0")
    for number in range(6):
        host.card(f"eth{number}", host.pci(f"0000:00:1{number}.0", "virtio_net"), carrier="1" if number == 5 else "0")

    profile, text = host.profile()

    assert profile.disks[0].bus is DiskBus.VIRTIO
    assert [nic.has_dhcp for nic in profile.nics] == [False, False, False, True]
    assert text.count("left out, a machine has at most 4 network cards") == 2


def test_a_disk_that_udev_has_not_probed_is_foreign(host: Host) -> None:
    place = host.pci("0000:00:1f.2", "ahci")
    host.disk("sda", f"{place}/0", 100, number="8:0")
    host.disk("sdb", f"{place}/1", 100, number="8:16", sector_bytes=4096)
    (host.root / "run/udev/data/b8:16").unlink()

    profile, _ = host.profile()

    assert [(disk.bus, disk.role) for disk in profile.disks] == [
        (DiskBus.SATA, DiskRole.DATA),
        (DiskBus.SCSI, DiskRole.FOREIGN),
    ]


def test_serial_numbers_macs_and_uuids_are_only_written_when_asked_for(host: Host) -> None:
    host.disk("sda", host.pci("0000:00:1f.2", "ahci"), 100)
    host.card("eth0", host.pci("0000:01:00.0", "e1000e"))
    host.put("sys/class/dmi/id/product_uuid", UUID)

    _, without = host.profile()
    _, everything = host.profile(with_serials=True)

    for secret in (MAC, MAC.replace(":", "-"), UUID, "SECRET-1"):
        assert secret not in without
        assert secret in everything


def test_a_host_without_any_information_still_has_a_profile(tmp_path: Path) -> None:
    (tmp_path / "rack.toml").write_text(hardware_scan.profile(tmp_path))

    assert find_profile(str(tmp_path / "rack.toml")).description == "a host without DMI"


# What a prediction needs


def test_a_device_is_noted_with_what_a_prediction_needs(host: Host) -> None:
    place = host.pci("0000:3b:00.0", "i40e", "0200 8086:1572")
    for name, value in {
        "modalias": "pci:v00008086d00001572sv00008086sd00000007bc02sc00i00\n",
        "subsystem_vendor": "0x8086\n", "subsystem_device": "0x0007\n",
    }.items():  # fmt: skip
        host.put(f"{place}/{name}", value)
    host.link("sys/bus/pci/drivers/i40e/module", "sys/module/i40e")
    host.put("sys/module/i40e/taint", "OE\n")
    host.card("eno1", place, carrier="1")
    host.put("sys/class/net/eno1/ifindex", "2")
    host.put(
        "run/udev/data/n2",
        f"E:ID_NET_NAME_PATH=enp59s0\nE:ID_NET_NAME_MAC=enx{MAC.replace(':', '')}\nE:ID_NET_NAME_ONBOARD=eno1\n",
    )
    host.put(
        "dev/kmsg",
        "6,0,0,-;Linux version 6.12\n"
        "6,700,1,-;i40e 0000:3b:00.0: firmware: direct-loading firmware intel/i40e/x.pkg\n SUBSYSTEM=pci\n"
        "4,701,2,-;i40e 0000:3b:00.0: Direct firmware load for intel/i40e/y.fw failed with error -2\n"
        "6,702,2,-;usb 1-1: loaded firmware z.bin\n",
    )  # fmt: skip

    _, text = host.profile()
    seen = parse_host(text.encode(), "rack")
    device = seen.devices[0]

    assert seen.kernel_log == "whole"
    assert (device.bus, device.id, device.subsystem, device.class_) == ("pci", "8086:1572", "8086:0007", "020000")
    assert device.modalias == "pci:v00008086d00001572sv00008086sd00000007bc02sc00i00"
    assert (device.driver, device.module, device.is_out_of_tree) == ("i40e", "i40e", True)
    assert (device.firmware, device.no_firmware) == (("intel/i40e/x.pkg",), ("intel/i40e/y.fw",))
    assert (device.interfaces, device.is_boot) == (("eno1",), True)
    assert device.names == (("path", "enp59s0"), ("onboard", "eno1"))
    assert device.path == "pci0000:00/0000:3b:00.0"


def test_the_disks_driver_is_noted_with_the_controller(host: Host) -> None:
    raid = host.pci("0000:03:00.0", "megaraid_sas")
    host.disk("sda", raid, 200)
    host.put(f"{raid}/target/modalias", "scsi:t-0x00\n")
    host.link(f"{raid}/target/subsystem", "sys/bus/scsi")

    device = parse_host(host.profile()[1].encode(), "rack").devices[0]

    assert (device.disks, device.upper, device.has_data) == (("sda",), ("scsi:t-0x00",), True)


def test_a_device_of_mmc_names_its_modalias_in_its_events(host: Host) -> None:
    card = f"{host.pci('0000:02:00.0', 'sdhci-pci')}/mmc_host/mmc0/mmc0:0001"
    host.put(f"{card}/uevent", "DRIVER=mmcblk\nMMC_TYPE=MMC\nMODALIAS=mmc:block\n")
    host.put("sys/bus/mmc/drivers/mmcblk/uevent", "")
    host.link(f"{card}/driver", "sys/bus/mmc/drivers/mmcblk")
    host.link("sys/bus/mmc/devices/mmc0:0001", card)

    devices = parse_host(host.profile()[1].encode(), "rack").devices

    assert [device.modalias for device in devices if device.bus == "mmc"] == ["mmc:block"]


def test_a_disk_of_nvme_is_found_behind_its_subsystem(host: Host) -> None:
    ssd = host.pci("0000:05:00.0", "nvme", "0108 144d:a808")
    host.put(f"{ssd}/modalias", "pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02\n")
    subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    host.disk("nvme0n1", subsystem, 900)
    (host.root / "sys/block/nvme0n1/device").unlink()
    host.link("sys/block/nvme0n1/device", subsystem)
    host.link(f"{subsystem}/nvme0", f"{ssd}/nvme/nvme0")
    host.link(f"{ssd}/nvme/nvme0/device", ssd)

    device = parse_host(host.profile()[1].encode(), "rack").devices[0]

    assert (device.address, device.disks) == ("0000:05:00.0", ("nvme0n1",))


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("lm cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3", 2),
        ("lm cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave", 3),
        ("lm", 1),
        ("fpu", 0),
    ],
)
def test_the_cpu_is_noted_with_its_level(host: Host, flags: str, level: int) -> None:
    rows = {"vendor_id": "GenuineIntel", "cpu family": "6", "model": "85", "model name": "Xeon Gold", "stepping": "7",
            "microcode": "0x5003604", "flags": flags}  # fmt: skip
    host.put("proc/cpuinfo", "processor\t: 0\n" + "".join(f"{key}\t: {value}\n" for key, value in rows.items()))

    _, text = host.profile()
    seen = tomllib.loads(text)["seen"]

    assert (seen["cpu"], seen["cpu_signature"], seen["microcode"]) == ("Xeon Gold", "GenuineIntel 6-85-7", "0x5003604")
    assert parse_host(text.encode(), "rack").cpu_level == level


@pytest.mark.parametrize(("value", "wanted"), [(1, True), (0, False), (None, None)])
def test_secure_boot_is_noted_if_the_firmware_says(host: Host, value: int | None, wanted: bool | None) -> None:
    if value is not None:
        host.put("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", f"\6\0\0\0{chr(value)}")

    assert parse_host(host.profile()[1].encode(), "rack").secure_boot is wanted


def test_a_kernel_log_that_is_not_readable_or_not_whole_is_said(host: Host) -> None:
    assert parse_host(host.profile()[1].encode(), "rack").kernel_log == "not readable: No such file or directory"

    host.put("dev/kmsg", "6,512,0,-;x y: z\n")
    assert parse_host(host.profile()[1].encode(), "rack").kernel_log == "its beginning is lost"


def test_usb_interfaces_and_acpi_devices_are_noted_and_what_drivers_make_is_not(host: Host) -> None:
    usb = "sys/devices/pci0000:00/usb1/1-1"
    for name, value in {
        "idVendor": "046d",
        "idProduct": "c31c",
        "1-1:1.0/modalias": "usb:v046DpC31C",
        "1-1:1.0/bInterfaceClass": "03",
    }.items():
        host.put(f"{usb}/{name}", value)
    host.link("sys/bus/usb/devices/1-1", usb)
    host.link("sys/bus/usb/devices/1-1:1.0", f"{usb}/1-1:1.0")
    for name in ("PNP0A08:00", "coretemp.0"):
        host.link(f"sys/devices/platform/{name}/driver", "sys/bus/platform/drivers/x y's")
        host.link(f"sys/bus/platform/devices/{name}", f"sys/devices/platform/{name}")
    host.link("sys/devices/platform/PNP0A08:00/firmware_node", "sys/devices/LNXSYSTM:00")

    seen = parse_host(host.profile()[1].encode(), "rack").devices

    assert [(device.bus, device.address, device.driver) for device in seen] == [
        ("usb", "1-1:1.0", ""),
        ("platform", "PNP0A08:00", "x y's"),
    ]
    assert seen[0].id == "046d:c31c"


def test_a_profile_of_a_newer_schema_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text('schema = 99\ndescription = "x"\n')

    with pytest.raises(NewerFormat, match="format 99 of a hardware profile; this Bootproof reads up to 2"):
        find_profile(str(file))


# One file for a production host

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    subprocess.run(["make", "-s", "hardware-scan", f"DIST={dist}", f"PYTHON={sys.executable}"], cwd=ROOT, check=True)
    return dist / "bootproof-hardware"


def test_the_packed_scan_prints_the_same_profile_under_a_bare_python(packed: Path, tmp_path: Path) -> None:
    bare = [sys.executable, "-I", "-S", str(packed)]

    done = subprocess.run(bare, env={}, cwd=tmp_path, check=True, capture_output=True, text=True)

    assert done.stdout == hardware_scan.profile()
    assert "--serials" in subprocess.run([*bare, "--help"], env={}, check=True, capture_output=True, text=True).stdout


def test_the_packed_scan_has_three_modules_that_python_3_9_can_read(packed: Path) -> None:
    with zipfile.ZipFile(packed) as file:
        texts = {name: file.read(name).decode() for name in file.namelist() if name.endswith(".py")}

    own = {"harness/host/hardware_scan.py", "harness/host/guest_scan.py", "harness/model/device_kinds.py"}
    assert set(texts) == {"__main__.py", *own}
    assert ast.parse(texts.pop("__main__.py"), feature_version=(3, 4))
    for text in texts.values():
        tree = ast.parse(text, feature_version=(3, 9))
        imported = {name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in [node.module]}
        assert {name for name in imported if name and name.startswith("harness.")} <= {
            name.removesuffix(".py").replace("/", ".") for name in own
        }
        assert "dataclass" not in text  # whose slots and kw_only are of Python 3.10


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 8)])
def test_an_older_python_is_told_which_one_is_needed(packed: Path, version: tuple[int, int]) -> None:
    program = "import runpy, sys; sys.version_info = (*map(int, sys.argv[2:]), 0); runpy.run_path(sys.argv[1])"
    argv = [sys.executable, "-I", "-S", "-c", program, str(packed), *map(str, version)]

    done = subprocess.run(argv, env={}, check=False, capture_output=True, text=True)

    assert done.returncode == 75
    assert done.stdout == ""
    assert done.stderr.startswith("bootproof-hardware: this is Python {}.{}, 3.9 or newer is needed".format(*version))
    assert len(done.stderr.splitlines()) == 1
