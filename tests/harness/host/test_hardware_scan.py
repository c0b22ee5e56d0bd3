"""Hardware scans of small trees of /sys and /proc, read back as hardware profiles."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

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
    assert "0000:03:00.0 0104 1000:005d megaraid_sas" in tomllib.loads(text)["seen"]["pci"]


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


def test_the_packed_scan_has_two_modules_that_python_3_9_can_read(packed: Path) -> None:
    with zipfile.ZipFile(packed) as file:
        texts = {name: file.read(name).decode() for name in file.namelist() if name.endswith(".py")}

    assert set(texts) == {"__main__.py", "harness/host/hardware_scan.py", "harness/model/device_kinds.py"}
    assert ast.parse(texts.pop("__main__.py"), feature_version=(3, 4))
    for text in texts.values():
        tree = ast.parse(text, feature_version=(3, 9))
        imported = {name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in [node.module]}
        assert {name for name in imported if name and name.startswith("harness.")} <= {"harness.model.device_kinds"}
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
