"""Hardware profiles: each included one can be applied; contradictions are named before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest

from harness.core.errors import DefinitionError, HostError, SpecError, UsageError
from harness.machine import board
from harness.model import hardware
from harness.model.hardware import HardwareProfile, apply, find_profile, path_for, read_profile
from harness.model.machine_spec import BootPath, DiskBus, DiskRole, DiskSpec, MachineSpec, NicModel, NicSpec
from harness.model.qemu import Qemu
from harness.qemu import command_line
from harness.qemu.command_line import QemuSockets
from harness.qemu.devices import check_nics, known_devices
from harness.qemu.disk_images import furnish, make_disk
from harness.qemu.netdev import tap_netdev

QEMU = Qemu(program="qemu-system-x86_64", version="7.2.22")
DATA = DiskSpec(path=Path("/d/data.raw"), serial="DATA")
Written = Callable[[str], HardwareProfile]


def _spec(boot_path: BootPath = BootPath.DIRECT, disks: tuple[DiskSpec, ...] = (DATA,)) -> MachineSpec:
    return MachineSpec(name="one", uuid=UUID(int=1), boot_path=boot_path, disks=disks)


def _devices(spec: MachineSpec, **more: object) -> list[str]:
    netdevs = tuple(tap_netdev(nic, f"tap{nic}") for nic in range(len(spec.nics)))
    argv = command_line.command(spec, qemu=QEMU, sockets=QemuSockets(netdevs=netdevs, tpm_fd=9), **more)  # type: ignore[arg-type]  # values as the arguments want them
    return [value for name, value in pairwise(argv) if name == "-device"]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """``written(toml)``: the profile that this text is."""

    def written(text: str) -> HardwareProfile:
        file = tmp_path / "mine.toml"
        file.write_text('description = "mine"\n' + text, "utf-8")
        return find_profile(str(file))

    return written


@pytest.mark.parametrize("name", hardware.names())
def test_each_included_profile_can_be_applied(name: str) -> None:
    profile = find_profile(name)
    spec = apply(profile, _spec(path_for(profile, BootPath.IPXE_BIOS)))

    assert spec.hardware == name
    assert spec.data.serial == "DATA"
    assert spec.dhcp_nic is not None
    assert _devices(spec)


def test_a_machine_without_a_profile_stays_as_it_is() -> None:
    assert apply(None, _spec()) == _spec()


def test_what_a_profile_does_not_say_stays(written: Written) -> None:
    spec = apply(written("cpus = 3"), _spec())

    assert (spec.cpus, spec.memory_mib, spec.disks, spec.nics) == (3, 2048, (DATA,), (NicSpec(),))


def test_disks_come_in_the_order_of_the_profile_and_only_that_for_data_is_the_machines(written: Written) -> None:
    profile = written(
        '[[disk]]\nbus = "nvme"\nrole = "foreign"\n[[disk]]\nbus = "sata"\n[[disk]]\nbus = "sata"\nrole = "blank"'
    )
    spec = apply(profile, _spec())

    assert [(disk.bus, disk.role) for disk in spec.disks] == [
        (DiskBus.NVME, DiskRole.FOREIGN),
        (DiskBus.SATA, DiskRole.DATA),
        (DiskBus.SATA, DiskRole.BLANK),
    ]
    assert spec.data.path == DATA.path
    assert all(disk.path.parent == DATA.path.parent for disk in spec.disks)
    assert spec.unfreezable


def test_a_fault_that_a_test_planted_in_a_disk_is_still_in_it(written: Written) -> None:
    planted = DiskSpec(path=Path("/d/data.raw"), serial="DATA", late_s=30)

    assert apply(written('[[disk]]\nbus = "nvme"'), _spec(disks=(planted,))).disks == (planted,)


def test_what_is_too_large_for_an_emulated_machine_is_capped(written: Written) -> None:
    spec = apply(written("cpus = 128\nmemory_mib = 524288\n[[disk]]\nsize_gib = 16000"), _spec())

    assert (spec.cpus, spec.memory_mib, spec.data.size_gib) == (8, 4096, 2048)


def test_images_are_made_as_the_profile_has_them_and_never_touched_again(tmp_path: Path, written: Written) -> None:
    data = make_disk(tmp_path / "data.raw")
    profile = written('[[disk]]\nsize_gib = 3\n[[disk]]\nrole = "foreign"\nsize_gib = 1')
    spec = apply(profile, _spec(disks=(data,)))

    furnish(spec.disks)
    own, foreign = spec.disks
    assert (own.path.stat().st_size, own.path.stat().st_blocks) == (3 << 30, 0)
    with foreign.path.open("rb") as file:
        file.seek(0x438)
        assert file.read(2) == b"\x53\xef"  # ext4, super.rst: s_magic

    own.path.write_bytes(b"kept")
    written_ns = foreign.path.stat().st_mtime_ns
    furnish(spec.disks)
    assert own.path.read_bytes() == b"kept"
    assert foreign.path.stat().st_mtime_ns == written_ns


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        ('firmware = "efi"', "firmware", "did you mean uefi?"),
        ("cpu = 4", "cpu", "did you mean cpus?"),
        ("cpus = 0", "cpus", "for example"),
        ('watchdog = "yes"', "watchdog", "for example watchdog = true"),
        ('clock = "2011"', "clock", "2011-03-01T12:00:00"),
        ('[[disk]]\nbus = "ide"', "disk[0].bus", "known: scsi, sata, megasas, nvme, virtio"),
        ('[[disk]]\nbus = "sata"\nsector_bytes = 4096', "disk[0].sector_bytes", "scsi, megasas, nvme or virtio"),
        ("[[disk]]\nsector_bytes = 520", "disk[0].sector_bytes", "512 or 4096"),
        ("[[disk]]\n[[disk]]", "disk", "exactly one"),
        ('[[disk]]\nrole = "blank"', "disk", "exactly one"),
        ('[[disk]]\nrole = "mine"', "disk[0].role", "known: data, foreign, blank"),
        ("[[nic]]", "nic", "one address"),
        ("[[nic]]\ndhcp = true\n[[nic]]\ndhcp = true", "nic", "one address"),
        ("[[nic]]\ndhcp = true\n" + 4 * "[[nic]]\n", "nic", "at most 4"),
        ('[[nic]]\ndhcp = true\nmodel = "ne2000"', "nic[0].model", "did you mean e1000e?"),
        ('[[disk]]\nbus = "sata"\n' + 6 * '[[disk]]\nbus = "sata"\nrole = "blank"\n', "disk", "another bus"),
        ("[[nic]\n", "syntax", "toml.io"),
    ],
)
def test_what_is_wrong_in_a_profile_is_named_with_what_would_be_right(
    written: Written, text: str, key: str, remedy: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        written(text)

    assert caught.value.key == key
    assert remedy in str(caught.value)


def test_an_unknown_profile_lists_the_known_and_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean sata-bios\? known: 4k, clock-2011"):
        find_profile("sata-boos")


def test_a_profile_whose_file_is_missing_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        find_profile("none.toml")


@pytest.mark.parametrize(
    ("text", "path", "why"),
    [
        ('firmware = "bios"', BootPath.UEFI_HTTP, "needs uefi firmware"),
        ('firmware = "uefi"', BootPath.IPXE_BIOS, "needs bios firmware"),
        ('[[nic]]\nmodel = "e1000e"\ndhcp = true', BootPath.PXE_CHAIN, "drivers for virtio only"),
        ('[[nic]]\nmodel = "igb"\ndhcp = true', BootPath.IPXE_BIOS, "no ROM for igb"),
    ],
)
def test_a_boot_path_that_such_a_machine_cannot_boot_on_is_refused(
    written: Written, text: str, path: BootPath, why: str
) -> None:
    profile = written(text)

    assert why in hardware.problem(profile, path)
    with pytest.raises(SpecError, match=why):
        apply(profile, _spec(path))
    assert not hardware.problem(profile, path_for(profile, path))


def test_hardware_that_cannot_be_frozen_says_why() -> None:
    assert "NVMe" in hardware.unfreezable(find_profile("nvme-uefi"))
    assert "TPM" in hardware.unfreezable(find_profile("watchdog-tpm"))
    assert not hardware.unfreezable(find_profile("sata-bios"))


def test_the_default_boot_path_is_taken_where_the_firmware_has_it() -> None:
    plain, uefi = HardwareProfile(name="a", description=""), find_profile("nvme-uefi")

    assert path_for(plain, BootPath.DIRECT) is BootPath.DIRECT
    assert path_for(uefi, BootPath.IPXE_BIOS) is BootPath.IPXE_UEFI
    assert hardware.fitting(uefi, (BootPath.IPXE_BIOS, BootPath.DIRECT)) == (BootPath.DIRECT,)


def test_disks_hang_on_the_controllers_of_their_bus_in_their_order(written: Written) -> None:
    buses = ["sata", "megasas", "sata", "nvme", "virtio", "megasas", "scsi"]
    roles = ["data", *["blank"] * 6]
    rows = [
        f'[[disk]]\nbus = "{bus}"\nrole = "{role}"\nsector_bytes = {512 if bus == "sata" else 4096}'
        for bus, role in zip(buses, roles, strict=True)
    ]
    devices = _devices(apply(written("\n".join(rows)), _spec()))

    controllers = [
        row for row in devices if ",id=" in row and row.split(",")[0] in ("ahci", "megasas", "virtio-scsi-pci")
    ]
    assert controllers == ["ahci,id=sata0", "megasas,id=megasas0", "virtio-scsi-pci,id=scsi0"]
    disks = [row for row in devices if "drive=disk" in row]
    assert [row.split(",drive")[0] for row in disks] == [
        "ide-hd,bus=sata0.0",
        "scsi-hd,bus=megasas0.0,channel=0,scsi-id=0,lun=0",
        "ide-hd,bus=sata0.1",
        "nvme",
        "virtio-blk-pci",
        "scsi-hd,bus=megasas0.0,channel=0,scsi-id=1,lun=0",
        "scsi-hd,bus=scsi0.0,channel=0,scsi-id=0,lun=0",
    ]
    assert ["logical_block_size=4096" in row for row in disks] == [bus != "sata" for bus in buses]


@pytest.mark.parametrize("more", [{"bus": DiskBus.SATA, "sector_bytes": 4096}, {"bus": DiskBus.NVME, "late_s": 3.0}])
def test_a_disk_that_qemu_cannot_make_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=r"sectors of 512|plugged in late"):
        DiskSpec(path=Path("d"), serial="S", **more)  # type: ignore[arg-type]  # values as the fields want them


def test_watchdog_and_tpm_are_on_the_board() -> None:
    devices = _devices(apply(find_profile("watchdog-tpm"), _spec()))

    assert "i6300esb" in devices
    assert "tpm-tis,tpmdev=tpm0" in devices
    assert not [row for row in _devices(_spec()) if "tpm" in row or "i6300" in row]


def test_the_boards_clock_runs_on_as_it_was_set() -> None:
    ahead_s = board.seconds_ahead("2011-03-01T12:00:00", 1_700_000_000)
    events = [("RTC_CHANGE", {"offset": 5}), ("RTC_CHANGE", {"offset": 60}), ("RESUME", {})]

    assert board.rtc_base(ahead_s, 1_700_000_000) == "2011-03-01T12:00:00"
    assert board.rtc_base(ahead_s + board.seconds_set(events), 1_700_000_030) == "2011-03-01T12:01:30"
    assert board.rtc_base(board.seconds_ahead("", 1_700_000_000), 1_700_000_000) == "utc"
    argv = command_line.command(_spec(), qemu=QEMU, sockets=QemuSockets(), clock="2011-03-01T12:00:00")
    assert "base=2011-03-01T12:00:00" in argv


def test_a_card_that_this_qemu_lacks_is_named() -> None:
    if 'name "igb"' in known_devices():
        check_nics((NicSpec(model=NicModel.IGB),))
        return
    with pytest.raises(HostError, match=r"has no network card igb: install QEMU 8"):
        check_nics((NicSpec(model=NicModel.IGB),))


def test_what_facts_saw_besides_is_kept_in_the_file_and_not_applied(written: Written) -> None:
    assert written('[seen]\nbios = "1.2"\n[seen.serials]\nsda = "x"').firmware is None


def test_read_profile_keeps_the_name_that_a_person_typed(tmp_path: Path) -> None:
    file = tmp_path / "rack.toml"
    file.write_text('description = "a rack"\n', "utf-8")

    assert read_profile(file, "rack.toml").name == "rack.toml"
