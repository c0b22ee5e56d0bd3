"""Network faults: their kinds, what they do to servers, packets and machines, and which are refused at once."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import uuid
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from harness.core.errors import HostError, UsageError
from harness.lab import open_lab, packet_faults
from harness.lab.dnsmasq import DhcpConfig, configuration, hosts, with_faults
from harness.lab.http import HttpAnswer, Request
from harness.lab.http_faults import apply_faults
from harness.model.machine_spec import BootPath, MachineSpec, NicModel, NicSpec
from harness.model.network_faults import (
    DhcpFault,
    HttpFault,
    HttpFaultKind,
    LinkFault,
    ServedFile,
    adapted,
    check_shows,
    known,
    path_for,
    read,
    with_other_build,
)

ROOTFS = Request(client="10.77.0.10", method="GET", path="/d/rootfs.squashfs")
BODY = bytes(range(256)) * 16


def answer_with(name: str, tmp_path: Path, request: Request = ROOTFS, before: int = 0) -> HttpAnswer:
    return apply_faults([known()[name]], tmp_path, request, HttpAnswer(body=BODY), before)


# Names


def test_there_are_thirty_kinds_and_more_each_with_its_own_name_and_words() -> None:
    kinds = known()

    assert len(kinds) >= 30
    assert all(name == fault.name for name, fault in kinds.items())
    assert len({fault.what for fault in kinds.values()}) == len(kinds)


def test_an_unknown_name_lists_the_most_similar_name_or_all() -> None:
    with pytest.raises(UsageError, match=r"no network fault 'dhcp-lat'; did you mean dhcp-late\?"):
        read("dhcp-lat")
    with pytest.raises(UsageError, match=r"no network fault 'xyz'; known: .*link-lossy"):
        read("xyz")


def test_a_late_server_or_link_takes_seconds() -> None:
    dhcp, link = read("dhcp-late=30"), read("link-late=5")

    assert isinstance(dhcp, DhcpFault)
    assert (dhcp.silent_s, dhcp.what) == (30.0, "the DHCP server is silent for 30 s")
    assert isinstance(link, LinkFault)
    assert link.down_s == 5.0


@pytest.mark.parametrize("text", ["dhcp-late=", "dhcp-late=x", "dhcp-late=0", "dhcp-late=601", "dhcp-late=1.5"])
def test_seconds_are_a_whole_number_up_to_600(text: str) -> None:
    with pytest.raises(UsageError, match=f"network fault {text} is not valid; give whole seconds, 1 to 600"):
        read(text)


@pytest.mark.parametrize("text", ["dhcp-silent=3", "link-lossy=3", "http-404-rootfs=3"])
def test_other_faults_take_no_seconds(text: str) -> None:
    with pytest.raises(UsageError, match="only dhcp-late and link-late take =SECONDS"):
        read(text)


# Where it shows


def test_a_fault_that_no_machine_of_the_run_meets_is_refused() -> None:
    check_shows(known()["tftp-lossy"], [BootPath.DIRECT, BootPath.PXE_CHAIN])
    with pytest.raises(
        UsageError, match=r"network fault tftp-lossy .* has no effect on boot path direct; it has on pxe-chain"
    ):
        check_shows(known()["tftp-lossy"], [BootPath.DIRECT])
    with pytest.raises(UsageError, match="has no effect on boot path direct, grub"):
        check_shows(known()["http-404-rootfs"], [BootPath.DIRECT, BootPath.GRUB])


def test_every_kind_shows_somewhere_on_the_first_path_that_will_do() -> None:
    paths = [BootPath.DIRECT, BootPath.IPXE_BIOS]

    assert path_for(known()["link-lossy"], paths) is BootPath.DIRECT
    assert path_for(known()["http-404-kernel"], paths) is BootPath.IPXE_BIOS
    assert path_for(known()["tftp-slow"], paths) is BootPath.PXE_CHAIN
    assert all(path_for(fault, paths) for fault in known().values())


def test_a_fault_of_the_first_card_adds_a_second_one_and_nothing_else_changes() -> None:
    spec = MachineSpec(
        name="m", uuid=uuid.UUID(int=0), boot_path=BootPath.DIRECT, nics=(NicSpec(model=NicModel.E1000E),)
    )
    two = adapted(spec, [known()["dhcp-second-card"]])

    assert [(nic.model, nic.has_dhcp) for nic in two.nics] == [("e1000e", False), ("e1000e", True)]
    assert two.dhcp_nic == 1
    assert adapted(spec, [known()["link-lossy"]]) == spec
    assert adapted(two, [known()["link-second-card"]]) == two
    several = replace(spec, nics=(NicSpec(), NicSpec(has_dhcp=False), NicSpec(has_dhcp=False)))
    assert adapted(several, [known()["link-second-card"]]).dhcp_nic == 1


# The web server


def test_each_fault_makes_its_own_of_an_answer(tmp_path: Path) -> None:
    half = len(BODY) // 2

    assert answer_with("http-404-rootfs", tmp_path).status == 404
    assert answer_with("http-503-rootfs", tmp_path, before=7).status == 503
    assert [answer_with("http-503-once-rootfs", tmp_path, before=n).status for n in (0, 1)] == [503, 200]
    assert answer_with("http-stalls-rootfs", tmp_path).stall_after_bytes == half
    assert answer_with("http-cut-rootfs", tmp_path).cut_after_bytes == half
    assert answer_with("http-truncated-rootfs", tmp_path).size_bytes == half
    assert answer_with("http-flipped-rootfs", tmp_path).flipped_at == half
    assert answer_with("http-slow-rootfs", tmp_path).bytes_per_s == 2_500_000


def test_noise_has_the_right_length_and_the_wrong_content(tmp_path: Path) -> None:
    body = answer_with("http-noise-rootfs", tmp_path).body

    assert isinstance(body, Path)
    assert body.stat().st_size == len(BODY)
    assert hashlib.sha256(body.read_bytes()).digest() != hashlib.sha256(BODY).digest()


def test_a_redirect_leads_to_the_file(tmp_path: Path) -> None:
    away = answer_with("http-redirect-rootfs", tmp_path)
    there = answer_with(
        "http-redirect-rootfs", tmp_path, Request(client="", method="GET", path=ROOTFS.path, query="moved")
    )

    assert (away.status, away.headers["Location"]) == (302, "/d/rootfs.squashfs?moved")
    assert (there.status, there.body) == (200, BODY)


def test_the_loader_of_uefi_firmware_is_moved_for_good_or_has_no_length(tmp_path: Path) -> None:
    loader, kernel = (Request(client="", method="HEAD", path=path) for path in ("/ipxe.efi", "/d/vmlinuz"))

    moved = answer_with("http-redirect-loader", tmp_path, loader)
    assert (moved.status, moved.headers["Location"]) == (301, "/ipxe.efi?moved")
    assert not answer_with("http-no-length-loader", tmp_path, loader).has_length
    for name in ("http-redirect-loader", "http-no-length-loader"):
        assert answer_with(name, tmp_path, kernel) == HttpAnswer(body=BODY)
        assert path_for(known()[name], [BootPath.IPXE_UEFI, BootPath.PXE_CHAIN]) is BootPath.UEFI_HTTP
    for name in ("http-404-loader", "http-no-length-kernel"):
        with pytest.raises(UsageError, match=f"no network fault '{name}'"):
            read(name)


def test_a_fault_changes_only_its_own_file(tmp_path: Path) -> None:
    for path in ("/d/vmlinuz", "/d/initrd.img", "/boot.ipxe"):
        request = Request(client="", method="GET", path=path)
        assert answer_with("http-404-rootfs", tmp_path, request) == HttpAnswer(body=BODY)


def test_another_builds_file_is_the_one_of_the_same_kind(tmp_path: Path) -> None:
    others = [Path("/other/vmlinuz"), Path("/other/initrd.img"), Path("/other/rootfs.squashfs")]
    (fault,) = with_other_build([known()["http-other-build-rootfs"]], others)

    assert isinstance(fault, HttpFault)
    assert apply_faults([fault], tmp_path, ROOTFS, HttpAnswer(body=BODY), 0).body == Path("/other/rootfs.squashfs")


def test_a_file_is_refused_when_the_one_before_it_was_sent() -> None:
    order = ["ipxe.efi", "boot.ipxe", "52-54-00-77-00-00.ipxe", "vmlinuz", "initrd.img", "rootfs.squashfs"]

    assert [[name for name in order if file.comes_after(name)] for file in ServedFile] == [
        [], ["52-54-00-77-00-00.ipxe"], ["vmlinuz"], ["initrd.img"]
    ]  # fmt: skip


# DHCP, TFTP, DNS


def test_dnsmasq_is_configured_with_the_faults() -> None:
    clear = DhcpConfig(folder=Path("/lab"))

    def configured(name: str) -> str:
        return configuration(with_faults(clear, [known()[name]]))

    assert hosts(with_faults(clear, [known()["dhcp-silent"]])) == ""
    assert "dhcp-boot=" not in configured("dhcp-no-boot-file")
    assert "dhcp-reply-delay=" in configured("dhcp-rogue")
    assert "dhcp-option-force=option:mtu,1280" in configured("dhcp-small-mtu").splitlines()
    assert ",10.77.0.10,machine-0,120\n" in hosts(with_faults(clear, [known()["dhcp-short-lease"]]))
    assert "enable-tftp" not in configured("tftp-absent")
    assert "port=0" in configured("dns-absent").splitlines()
    assert configuration(with_faults(with_faults(clear, [known()["tftp-absent"]]), [])) == configuration(clear)


# Packets


def test_the_kernel_takes_the_rules_of_all_faults_at_once(tmp_path: Path) -> None:
    """nft itself, in namespaces of its own."""
    if shutil.which("nft") is None:
        pytest.skip("this host has no nft (Debian package nftables)")
    every = list(known().values())
    script = tmp_path / "rules"
    script.write_text(packet_faults.rules(every, refusing=True) * 2, "utf-8")  # the second time it takes the first away

    argv = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", f"nft -f {script} && nft list ruleset"]
    listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    assert listed.count("numgen random mod 10000 < 100 drop") == 3
    assert listed.count("numgen random mod 10000 < 500 drop") == 1
    assert listed.count("reject with tcp reset") == 6


def test_without_faults_no_rule_is_left() -> None:
    assert "chain" not in packet_faults.rules([])
    assert "reject" not in packet_faults.rules([known()["http-refused-rootfs"]]), "its time has not come"


def test_a_lab_takes_every_fault_and_recovers(tmp_path: Path) -> None:
    with open_lab(tmp_path, "lab") as lab:
        for fault in known().values():
            lab.inject(fault)
            assert lab.has_only_transient_faults == fault.is_transient
        lab.inject()

        assert not lab.has_only_transient_faults
        assert lab.http.answer_to(ROOTFS).status == 404


def test_the_user_network_names_faults_it_cannot_inject(tmp_path: Path) -> None:
    with open_lab(tmp_path, "user") as lab:
        lab.inject(known()["http-404-rootfs"], known()["link-down"])
        for name in ("dhcp-late", "tftp-slow", "http-refused-rootfs", "link-lossy", "dns-absent"):
            with pytest.raises(HostError, match=f"not on the user network: the fault {name}; --network lab has it"):
                lab.inject(known()[name])


def test_what_never_ends_does_not_pass() -> None:
    for fault in known().values():
        forever = isinstance(fault, DhcpFault) and fault.silent_s == inf
        assert not (forever and fault.is_transient)
        if isinstance(fault, HttpFault):
            fixes_itself = (
                HttpFaultKind.BUSY_ONCE,
                HttpFaultKind.REFUSED_ONCE,
                HttpFaultKind.REDIRECT,
                HttpFaultKind.NO_LENGTH,
                HttpFaultKind.SLOW,
            )
            assert fault.is_transient == (fault.kind in fixes_itself and fault.file is not ServedFile.LOADER)
