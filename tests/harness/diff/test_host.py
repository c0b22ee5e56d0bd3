"""What differs between two running hosts is weighed, and what a file of a host refers to by name outweighs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.diff.host import SECTIONS, compare_hosts, names_of_host
from harness.diff.references import References, find_references
from harness.diff.value import Section, Weight
from harness.model.guest_contract import TITLES, GuestContract
from harness.model.host_facts import HostFacts

CARD = "pci0000:00/0000:00:03.0"


def compared(old: HostFacts, new: HostFacts, references: Mapping[str, tuple[str, ...]] | None = None) -> list[Section]:
    return list(compare_hosts(old, new, References(files=references or {}), "unknown"))


OFFERED = ("programs", *TITLES)


def facts(field: str, values: dict[str, str]) -> HostFacts:
    if field in OFFERED:
        return HostFacts(guests=GuestContract(**{field: values}))  # the field is a parameter
    return HostFacts(**{field: values})  # type: ignore[arg-type]  # a field of names


def only(field: str, old: dict[str, str], new: dict[str, str], **references: tuple[str, ...]) -> Section:
    """The one section in which hosts differ that differ in this field."""
    one, other = facts(field, old), facts(field, new)
    (found,) = (section for section in compared(one, other, references) if section.entries)
    return found


def test_each_field_has_its_section_and_equal_hosts_have_no_entry() -> None:
    fields = set(HostFacts.__slots__) - {"format", "cpu", "guests", "references"}
    names = [only(field, {"x": "0x1"}, {"x": "0x2"}).name for field in sorted({*fields, *OFFERED})]

    assert sorted(names) == sorted(SECTIONS)
    assert set(OFFERED) == set(GuestContract.__slots__) - {"unknown"}
    same = HostFacts(guests=GuestContract())
    assert not any(section.entries or section.unknown for section in compared(same, same))


@pytest.mark.parametrize(
    ("field", "old", "new", "weight"),
    [
        ("interfaces", {CARD: "enp0s3"}, {CARD: "ens3"}, Weight.ALARM),
        ("interfaces", {"br-int": "br-int"}, {}, Weight.NOTABLE),
        ("interfaces", {}, {"docker0": "docker0"}, Weight.USUAL),
        ("disks", {"by-id/x": "sda"}, {}, Weight.NOTABLE),
        ("mounts", {"/tmp": "tmpfs, nosuid,rw"}, {"/tmp": "tmpfs, rw"}, Weight.ALARM),
        ("mounts", {"/tmp": "tmpfs, rw"}, {"/tmp": "tmpfs, nosuid,rw"}, Weight.NOTABLE),
        ("mounts", {"/data": "ext4 on /dev/sda2, rw"}, {"/data": "ext4 on /dev/sda2, ro"}, Weight.ALARM),
        ("mounts", {"/usr": "squashfs, ro"}, {"/usr": "ext4, rw"}, Weight.ALARM),
        ("mounts", {"/data": "ext4 on /dev/sda2, rw"}, {"/data": "xfs on /dev/sda2, rw"}, Weight.NOTABLE),
        ("defences", {"lockdown": "integrity"}, {"lockdown": "none"}, Weight.ALARM),
        ("defences", {"security modules": "apparmor,yama"}, {"security modules": "yama"}, Weight.ALARM),
        ("defences", {"flaw mds": "Mitigation: x"}, {"flaw mds": "Vulnerable"}, Weight.ALARM),
        ("defences", {"flaw mds": "Vulnerable"}, {"flaw mds": "Mitigation: x"}, Weight.USUAL),
        ("profiles", {"libvirtd": "enforce"}, {"libvirtd": "complain"}, Weight.ALARM),
        ("profiles", {}, {"libvirtd": "enforce"}, Weight.NOTABLE),
        ("machine_types", {"pc-q35-9.2": ""}, {}, Weight.ALARM),
        ("machine_types", {"pc-q35-9.2": ""}, {"pc-q35-9.2": "deprecated"}, Weight.NOTABLE),
        ("machine_types", {"q35": "alias of pc-q35-9.2"}, {"q35": "alias of pc-q35-10.1"}, Weight.NOTABLE),
        ("machine_types", {"q35": "alias of pc-q35-9.2"}, {}, Weight.ALARM),
        ("machine_types", {}, {"pc-q35-10.1": ""}, Weight.USUAL),
        ("cpu_models", {"EPYC": "kvm, tcg"}, {}, Weight.ALARM),
        ("cpu_models", {"EPYC": "kvm, tcg"}, {"EPYC": "kvm"}, Weight.ALARM),
        ("cpu_models", {"EPYC": "kvm"}, {"EPYC": "kvm, tcg"}, Weight.USUAL),
        ("cpu_models", {"EPYC": "kvm"}, {"EPYC": "deprecated, kvm"}, Weight.NOTABLE),
        ("firmware", {"/usr/share/OVMF/OVMF_CODE.fd": "1"}, {}, Weight.ALARM),
        ("firmware", {"/usr/share/OVMF/OVMF_CODE.fd": "1"}, {"/usr/share/OVMF/OVMF_CODE.fd": "2"}, Weight.USUAL),
        ("devices", {"virtio-blk-pci": "PCI"}, {}, Weight.ALARM),
        ("capabilities", {"qemu disk bus": "sata, usb"}, {"qemu disk bus": "sata, scsi"}, Weight.ALARM),
        ("capabilities", {"qemu disk bus": "sata"}, {"qemu disk bus": "sata, scsi"}, Weight.USUAL),
        ("programs", {"QEMU": "10.0.2"}, {"QEMU": "10.1.0"}, Weight.NOTABLE),
        ("sysctl", {"kernel.kptr_restrict": "1"}, {"kernel.kptr_restrict": "0"}, Weight.NOTABLE),
        ("sysctl", {}, {"kernel.new": "1"}, Weight.MINOR),
        ("sysctl", {"kernel.threads-max": "15651"}, {"kernel.threads-max": "15649"}, Weight.MINOR),
        ("limits", {"ssh.service LimitNOFILE": "524288"}, {"ssh.service LimitNOFILE": "1024"}, Weight.NOTABLE),
        ("limits", {"ssh.service TasksMax": "infinity"}, {"ssh.service TasksMax": "9"}, Weight.NOTABLE),
        ("limits", {"ssh.service TasksMax": "9"}, {"ssh.service TasksMax": "infinity"}, Weight.USUAL),
        ("limits", {"default TasksMax": "2347"}, {"default TasksMax": "2329"}, Weight.MINOR),
        ("control_groups", {"version": "1"}, {"version": "2"}, Weight.ALARM),
        ("control_groups", {"controllers": "cpu io"}, {"controllers": "cpu"}, Weight.NOTABLE),
        ("timers", {"fstrim.timer": "x"}, {}, Weight.NOTABLE),
        ("logins", {"nova": "/ /usr/sbin/nologin"}, {"nova": "/ /bin/sh"}, Weight.ALARM),
        ("logins", {}, {"new": "/ /bin/bash"}, Weight.ALARM),
        ("logins", {"nova": "/ /bin/sh"}, {"nova": "/ /usr/sbin/nologin"}, Weight.NOTABLE),
        ("members", {"sudo": ""}, {"sudo": "nova"}, Weight.ALARM),
        ("members", {"cdrom": "a"}, {"cdrom": "a,b"}, Weight.NOTABLE),
        ("settings", {"time zone": "+0000"}, {"time zone": "+0100"}, Weight.NOTABLE),
        ("modules", {"kvm": ""}, {}, Weight.USUAL),
        ("modules", {}, {"kvm": ""}, Weight.MINOR),
    ],
)
def test_what_operators_must_know_weighs_more(
    field: str, old: dict[str, str], new: dict[str, str], weight: Weight
) -> None:
    (entry,) = only(field, old, new).entries

    assert entry.weight is weight


def test_defences_on_other_cpus_are_not_compared() -> None:
    old = HostFacts(cpu="EPYC", defences={"flaw mds": "Not affected"})
    new = HostFacts(cpu="Xeon", defences={"flaw mds": "Vulnerable"})

    (section,) = (one for one in compared(old, new) if one.unknown)
    assert (section.name, section.unknown) == (
        "defences of the kernel", "the runs of OLD and NEW were on other CPUs: EPYC and Xeon"
    )  # fmt: skip


def test_what_guests_can_have_under_kvm_is_compared_only_where_both_hosts_have_it() -> None:
    offered = GuestContract(cpu_models={"EPYC": "kvm, tcg"}, capabilities={"kvm vcpus": "288", "qemu vcpus": "255"})
    neither = GuestContract(cpu_models={"EPYC": "tcg"}, capabilities={"qemu vcpus": "255"}, unknown={"kvm": "none"})

    for one, other, why in (
        (HostFacts(guests=offered), HostFacts(guests=neither), "NEW: none"),
        (HostFacts(cpu="a", guests=offered), HostFacts(cpu="b", guests=replace(neither, unknown={})), "on other CPUs"),
    ):
        sections = {section.name: section for section in compared(one, other)}
        assert not any(section.entries for section in sections.values())
        assert why in sections["CPU models of guests"].notes[0]


def test_what_could_not_be_looked_at_is_said() -> None:
    old = HostFacts(guests=GuestContract(capabilities={"qemu vcpus": "255"}))
    new = HostFacts(guests=GuestContract(unknown={"capabilities": "there is no virsh"}))

    (section,) = (one for one in compared(old, new) if one.unknown)
    assert (section.name, section.unknown) == ("domain capabilities", "NEW: there is no virsh")


def test_what_a_file_refers_to_comes_first_and_names_the_file() -> None:
    lan = ("/etc/systemd/network/10-lan.network",)
    old = {"a": "eth0", CARD: "enp0s3"}

    first, second = only("interfaces", old, {"a": "eth1", CARD: "ens3"}, enp0s3=lan).entries

    assert (first.what, first.referring, second.referring) == (CARD, lan, ())
    assert only("timers", {"own.timer": "x"}, {}, **{"own.timer": lan}).entries[0].weight is Weight.ALARM


@pytest.mark.parametrize(
    ("field", "old", "new", "name"),
    [
        ("interfaces", {}, {CARD: "enp0s3"}, "enp0s3"),
        ("disks", {"by-id/x": "sda"}, {"by-id/x": "sdb"}, "x"),
        ("timers", {"own.timer": "x"}, {"own.timer": "y"}, "own.timer"),
        ("sysctl", {"a.b": "1"}, {"a.b": "2"}, "a.b"),
    ],
)
def test_a_reference_to_what_is_still_there_does_not_count(
    field: str, old: dict[str, str], new: dict[str, str], name: str
) -> None:
    (entry,) = only(field, old, new, **{name: ("/etc/x",)}).entries

    assert entry.referring == ()


def test_the_names_of_a_host_are_those_that_it_could_lose() -> None:
    host = HostFacts(
        interfaces={CARD: "enp0s3, enp0s3d1"}, disks={"by-id/x": "sda", "by-label/y": "sda", "p": "sda"},
        sysctl={"a.b": "1"}, mounts={"/data": "ext4"}, timers={"own.timer": ""},
        guests=GuestContract(machine_types={"q35": ""}, cpu_models={"EPYC": ""}, firmware={"/usr/x.fd": "1"}),
    )  # fmt: skip

    assert names_of_host(host) == {
        "enp0s3", "enp0s3d1", "x", "by-label/y", "LABEL=y", "sda", "/data", "own.timer", "q35", "/usr/x.fd",
    }  # fmt: skip


def test_files_of_a_copy_of_data_are_searched_for_words(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "lan").write_text("Name=enp0s3\nNot=enp0s31 xenp0s3\n")
    (tmp_path / "etc" / "image").write_bytes(b"enp0s3\0")
    (tmp_path / "etc" / "large").write_text("enp0s3" + " " * 300_000)
    (tmp_path / "etc" / "own.timer").symlink_to("/usr/lib/systemd/system/fstrim.timer")

    found = find_references(tmp_path, {"enp0s3", "fstrim.timer", "own.timer", "sda"})

    assert found.files == {
        "enp0s3": ("etc/lan",),
        "fstrim.timer": ("etc/own.timer",),
        "own.timer": ("etc/own.timer",),
    }
    assert find_references(tmp_path, set()).files == {}


def test_data_that_is_no_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none is not a folder; --data names a copy of a host's /data"):
        find_references(tmp_path / "none", {"x"})


def test_references_of_two_sources_are_joined() -> None:
    both = References(files={"a": ("x",)}).with_those(References(files={"a": ("y",), "b": ("z",)}))

    assert both.to("a") == ("x", "y")
    assert both.to("b", "c") == ("z",)
