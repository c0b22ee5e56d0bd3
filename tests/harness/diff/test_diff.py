"""What differs between two images is seen, what is noise is counted, and what is not known is said."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import process, serialization
from harness.diff import Change, Diff, DiffEntry, Section, Side, Weight, as_text, compare, on_hosts
from harness.model.artifacts import Artifacts, Manifest, describe
from harness.model.guest_contract import GuestContract
from harness.model.host_facts import HostFacts
from harness.model.verdict import BootResult, Coverage, Outcome, RuntimeProfile, Unit, Verdict
from harness.store.squashfs_tree import read_tree

Make = Callable[..., Artifacts]

PASSWD = "root:x:0:0::/root:/bin/sh\nnova:x:{}:4::/:/bin/sh\n"
FILES = {
    "etc/passwd": PASSWD.format(64060),
    "etc/group": "root:x:0:\n",
    "etc/ours.conf": "1",
    "usr/bin/tool": "tool 1",
    "usr/lib/lib.so": "library",
    "boot/config-6.12": "CONFIG_KVM=m\n# CONFIG_DEBUG is not set\n",
    "var/lib/dpkg/info/tool.list": "/.\n/bin\n/bin/tool\n",
    "var/lib/dpkg/info/lib:amd64.list": "/.\n/usr\n/usr/lib\n/usr/lib/lib.so\n",
    "var/cache/some": "1",
}
TRAITS = RuntimeProfile(
    memory_mib=300,
    sockets=("tcp 0.0.0.0:22 sshd", "udp 0.0.0.0:41000 chronyd"),
    users={"root": 0, "nova": 64060},
    groups={"root": 0},
    links={"/etc/nova": "/data/etc/nova"},
    units={"ssh.service": Unit(state="active", begins_s=1.0, ready_s=2.0)},
    host=HostFacts(interfaces={"pci": "enp0s3"}, timers={"fstrim.timer": "weekly"}, guests=GuestContract()),
)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Artifacts with a root file system of `FILES`, with these changes; None removes a file."""

    def make(
        name: str,
        changed: dict[str, str | None] | None = None,
        arrange: Callable[[Path], None] = lambda _: None,
        **manifest: object,
    ) -> Artifacts:
        folder, tree = tmp_path / name, tmp_path / name / "tree"
        for path, text in {**FILES, **(changed or {})}.items():
            if text is not None:
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).write_text(text)
        (tree / "bin").symlink_to("usr/bin")
        arrange(tree)
        process.output(["mksquashfs", str(tree), str(folder / "rootfs.squashfs"), "-noappend", "-no-progress"])
        for file in ("vmlinuz", "initrd.img"):
            (folder / file).write_text(file)
        return Artifacts(folder=folder, manifest=replace(_manifest(folder), **manifest))  # type: ignore[arg-type]

    return make


def _manifest(folder: Path) -> Manifest:
    return Manifest(
        image="base", version="1", kernel_version="6.12", kernel_arguments=("quiet", "console=tty0"),
        files={name: describe(folder / name) for name in ("vmlinuz", "initrd.img", "rootfs.squashfs")},
        packages={"tool": "1", "lib": "1"}, dracut_modules=("livenet",), initrd_drivers=("overlay", "virtio_net"),
        definition="", sources={}, builder={"mmdebstrap": "1"},
    )  # fmt: skip


def verdict(artifacts: Artifacts, ready_s: tuple[float, ...] = (80.0,), **traits: object) -> Verdict:
    boots = tuple(
        BootResult(machine="m", number=1, boot_path="direct", artifacts=artifacts.digest, phases={"kernel": s / 4},
             ready_s=s, console="", added_arguments=())
        for s in ready_s
    )  # fmt: skip
    return Verdict(
        outcome=Outcome.PASSED, image="base", version="1", digests={"artifacts": artifacts.digest}, findings=(),
        coverage=Coverage(boot_paths=("direct",), passed=(), failed=(), missing=()), boots=boots,
        host={"accelerator": "tcg: no /dev/kvm"}, started="", elapsed_s=1.0,
        runtime_profile=replace(TRAITS, **traits),  # type: ignore[arg-type]
    )  # fmt: skip


def diff(old: Artifacts, new: Artifacts) -> Diff:
    return compare(Side(artifacts=old), Side(artifacts=new))


def of_runs(old: Artifacts, one: Verdict, new: Artifacts, other: Verdict) -> Diff:
    return compare(Side(artifacts=old, verdict=one), Side(artifacts=new, verdict=other))


def section(found: Diff, name: str) -> Section:
    return next(section for section in found.sections if section.name == name)


def seen(found: Diff, name: str) -> list[tuple[str, str, str, str]]:
    return [(entry.what, entry.change.value, entry.old, entry.new) for entry in section(found, name).entries]


def weights(found: Diff, name: str) -> dict[str, Weight]:
    return {entry.what: entry.weight for entry in section(found, name).entries}


def test_nothing_differs_between_an_image_and_itself(make: Make) -> None:
    one = make("one")

    found = of_runs(one, verdict(one), one, verdict(one))

    assert not any(section.entries for section in found.sections)
    assert not [section for section in found.sections if section.unknown]


def test_files_that_differ_by_their_time_alone_are_counted(make: Make) -> None:
    found = diff(make("old"), make("new", arrange=lambda tree: os.utime(tree / "etc/ours.conf", (1, 1))))

    assert not any(section.entries for section in found.sections)
    assert any("only the time differs" in note for note in section(found, "files of no package").notes)


def test_a_file_that_differs_is_seen_by_content_size_mode_and_target(make: Make) -> None:
    def arrange(tree: Path) -> None:
        (tree / "usr/lib/lib.so").chmod(0o600)
        (tree / "etc/link").symlink_to("b")

    old = make("old", arrange=lambda tree: (tree / "etc/link").symlink_to("a"))
    new = make("new", {"etc/ours.conf": "2", "usr/bin/tool": "tool 10", "var/cache/some": "2"}, arrange)

    found = diff(old, new)

    assert seen(found, "files of no package") == [
        ("etc/link", "changed", "link to a", "link to b"),
        ("etc/ours.conf", "changed", "content 6b86b273", "content d4735e3a"),
    ]
    assert seen(found, "files of packages") == [
        ("usr/lib/lib.so", "changed", "mode 0644", "mode 0600"),
        ("usr/bin/tool", "changed", "6 bytes", "7 bytes"),
    ]
    assert [entry.package for entry in section(found, "files of packages").entries] == ["lib", "tool"]
    assert "caches, logs and databases of packages, 1" in str(section(found, "files of no package").notes)


def test_a_folder_that_came_is_one_entry(make: Make) -> None:
    found = diff(make("old"), make("new", {"opt/venv/bin/a": "", "opt/venv/lib/b": "", "etc/more": "x"}))

    assert seen(found, "files of no package") == [
        ("etc/more", "added", "", "1 bytes"),
        ("opt/", "added", "", "2 files"),
    ]


def test_files_of_a_package_with_another_version_are_counted_for_it(make: Make) -> None:
    old, new = make("old"), make("new", {"usr/bin/tool": "tool 2"}, packages={"tool": "2", "lib": "1"})

    found = diff(old, new)

    assert seen(found, "packages") == [("tool", "changed", "1", "2")]
    assert seen(found, "files of packages") == [("tool", "changed", "", "1 changed")]


def test_files_of_added_packages_are_left_out_unless_they_are_setuid(make: Make) -> None:
    def arrange(tree: Path) -> None:
        (tree / "usr/bin/sudo").chmod(0o4755)

    added = {"usr/bin/sudo": "sudo", "usr/bin/plain": "", "var/lib/dpkg/info/sudo.list": "/bin/sudo\n/usr/bin/plain\n"}
    new = make("new", dict(added), arrange, packages={"tool": "1", "lib": "1", "sudo": "1"})

    found = diff(make("old"), new)

    assert weights(found, "files of packages") == {"usr/bin/sudo": Weight.ALARM}
    assert section(found, "files of packages").notes == ("left out: files of added or removed packages, 1",)


def test_packages_that_went_come_before_those_that_came(make: Make) -> None:
    found = diff(make("old"), make("new", packages={"tool": "1", "new": "3"}))

    assert seen(found, "packages") == [("lib", "removed", "1", ""), ("new", "added", "", "3")]


def test_a_user_whose_number_changed_is_alarming_and_comes_first(make: Make) -> None:
    old, new = make("old"), make("new", {"etc/passwd": PASSWD.format(64061) + "new:x:5:5::/:/bin/sh\n"})

    found = diff(old, new)

    assert found.sections[0].name == "users"
    assert seen(found, "users") == [("nova", "changed", "64060", "64061"), ("new", "added", "", "5")]
    assert weights(found, "users") == {"nova": Weight.ALARM, "new": Weight.NOTABLE}


def test_kernel_arguments_initrd_and_configuration_are_compared(make: Make) -> None:
    new = make(
        "new",
        {"boot/config-6.12": "# CONFIG_KVM is not set\nCONFIG_DEBUG=y\nCONFIG_NEW=y\n"},
        kernel_arguments=("console=ttyS0", "ro"),
        initrd_drivers=("overlay", "e1000"),
        dracut_modules=("livenet", "persist"),
    )

    found = diff(make("old"), new)

    assert seen(found, "kernel") == [
        ("console", "changed", "console=tty0", "console=ttyS0"),
        ("argument quiet", "removed", "", ""),
        ("argument ro", "added", "", ""),
    ]
    assert seen(found, "drivers in the initrd") == [("virtio_net", "removed", "", ""), ("e1000", "added", "", "")]
    assert seen(found, "dracut modules") == [("persist", "added", "", "")]
    assert seen(found, "kernel configuration") == [
        ("KVM", "changed", "m", "n"),
        ("DEBUG", "changed", "n", "y"),
        ("NEW", "added", "", "y"),
    ]


def test_what_runs_is_compared_between_two_verdicts(make: Make) -> None:
    old, new = make("old"), make("new", {"etc/ours.conf": "2"})
    units = {"ssh.service": Unit(state="failed", begins_s=1.0, ready_s=2.0),
             "new.timer": Unit(state="active", begins_s=1.0, ready_s=1.0)}  # fmt: skip
    sockets = ("tcp 127.0.0.1:80 web", "tcp 0.0.0.0:22 sshd", "tcp *:16509 libvirtd", "udp 0.0.0.0:60123 chronyd")

    found = of_runs(
        old, verdict(old), new, verdict(new, units=units, sockets=sockets, links={"/etc/nova": "/tmp"}, memory_mib=400)
    )

    assert seen(found, "units") == [
        ("ssh.service", "changed", "active", "failed"),
        ("new.timer", "added", "", "active"),
    ]
    assert weights(found, "units")["ssh.service"] is Weight.ALARM
    assert weights(found, "sockets") == {"tcp *:16509 libvirtd": Weight.ALARM, "tcp 127.0.0.1:80 web": Weight.NOTABLE}
    assert seen(found, "links") == [("/etc/nova", "changed", "/data/etc/nova", "/tmp")]
    assert ("memory in use when idle", "changed", "300.0 MiB", "400.0 MiB (+33%)") in seen(found, "sizes")


def test_what_hosts_show_is_compared_between_two_verdicts(make: Make, tmp_path: Path) -> None:
    old, new = make("old"), make("new", {"etc/ours.conf": "2"})
    referring = replace(TRAITS.host or HostFacts(), references={"enp0s3": ("/etc/lan",), "nova": ("/etc/nova",)})
    before = verdict(old, host=referring, units={**TRAITS.units, "own.timer": TRAITS.units["ssh.service"]})
    after = verdict(new, host=HostFacts(interfaces={"pci": "ens3"}), users={"root": 0, "nova": 7})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wants").write_text("own.timer")

    found = of_runs(old, before, new, after)
    with_data = compare(Side(artifacts=old, verdict=before), Side(artifacts=new, verdict=after), tmp_path / "data")

    assert [one.name for one in found.sections if one.is_referred_to] == ["users", "interfaces"]
    assert section(found, "interfaces").entries[0].referring == ("/etc/lan",)
    assert seen(found, "timers") == [("fstrim.timer", "removed", "weekly", "")]
    assert "       /etc/lan refers to it" in list(as_text(found))
    assert [one.name for one in with_data.sections if one.is_referred_to] == ["users", "units", "interfaces"]
    assert {one.name for one in on_hosts(found).sections} >= {"interfaces", "sysctl", "users", "kernel"}
    assert not {one.name for one in on_hosts(found).sections} & {"packages", "sizes", "files of no package"}


def test_a_run_of_an_older_bootproof_has_no_facts_about_its_host(make: Make) -> None:
    one, other = make("one"), make("other", {"etc/ours.conf": "2"})

    found = of_runs(one, verdict(one, host=None), other, verdict(other))

    assert seen(found, "units") == []
    why = section(found, "limits").unknown
    assert why.startswith("the run of OLD recorded none: it is of an older Bootproof, or the host did not answer; run ")
    assert why.endswith(f"--artifacts {one.folder}")


def test_boot_phases_within_the_spread_of_boots_are_left_out(make: Make) -> None:
    old, new = make("old"), make("new", {"etc/ours.conf": "2"})

    within = of_runs(old, verdict(old, (80.0, 90.0, 85.0)), new, verdict(new, (89.0, 99.0)))
    beyond = of_runs(old, verdict(old, (80.0, 90.0, 85.0)), new, verdict(new, (100.0,)))

    assert seen(within, "boot phases") == []
    assert "figures within the spread of boots of one build: 2" in section(within, "boot phases").notes
    assert seen(beyond, "boot phases")[1] == (
        "direct, until ready", "changed", "85.0 s (80.0 to 90.0, 3 boots)", "100.0 s"
    )  # fmt: skip


QEMU = {"accelerator": "tcg: no /dev/kvm", "qemu": "QEMU 10.0.2 (/usr/bin/qemu-system-x86_64): the first on PATH"}
OLDER = {**QEMU, "qemu": "QEMU 7.2.22 (/usr/bin/qemu-system-x86_64): named by $BOOTPROOF_QEMU"}
SEVERAL = {**QEMU, "qemu": "QEMU 10.0.2 (/opt/q,thread=multi): named by --qemu"}
UPGRADED = {**QEMU, "qemu": "QEMU 10.0.8 (/usr/bin/qemu-system-x86_64): the first on PATH"}
UNNAMED = {"accelerator": "tcg: no /dev/kvm"}


@pytest.mark.parametrize(
    ("old", "new", "unknown"),
    [
        (QEMU, OLDER, "boots under tcg of QEMU 10.0 and tcg of QEMU 7.2 cannot be compared"),
        (QEMU, SEVERAL, "boots under tcg of QEMU 10.0 and tcg of QEMU 10.0,thread=multi cannot be compared"),
        (QEMU, UPGRADED, ""),
        (UNNAMED, QEMU, ""),
        (SEVERAL, UNNAMED, ""),
    ],
)
def test_boots_by_another_qemu_are_not_compared(
    make: Make, old: dict[str, str], new: dict[str, str], unknown: str
) -> None:
    one = make("one")
    before, after = (replace(verdict(one, (9.0,)), host=host) for host in (old, new))

    assert section(of_runs(one, before, one, after), "boot phases").unknown == unknown


def test_boots_under_different_accelerators_are_not_compared(make: Make) -> None:
    one = make("one")

    found = of_runs(one, verdict(one), one, replace(verdict(one, (9.0,)), host={"accelerator": "kvm: it runs"}))

    assert section(found, "boot phases").unknown == "boots under tcg and kvm cannot be compared"


def test_unknown_facts_are_named_and_never_shown_as_removed(make: Make) -> None:
    old = make("old")
    new = make("new", {"boot/config-6.12": None, "etc/passwd": None}, packages={}, initrd_drivers=(), dracut_modules=())

    found = compare(Side(artifacts=old, verdict=verdict(old)), Side(artifacts=new))

    said = {section.name: section.unknown for section in found.sections if section.unknown}
    command = f"run pytest --image base --artifacts {new.folder}"
    assert said["units"] == said["sockets"] == said["sysctl"] == f"no known run of NEW recorded them; {command}"
    assert said["users"] == "the users of NEW are not known"
    assert said["packages"] == said["dracut modules"] == "the manifest of NEW does not list them"
    assert said["kernel configuration"] == "the root file system of NEW has none that could be read"
    assert said["boot phases"] == "no boot of NEW is known"
    removed = [entry.what for section in found.sections for entry in section.entries if entry.change is Change.REMOVED]
    assert set(removed) == {"etc/passwd", "boot/"}


def test_a_verdict_on_other_bytes_has_no_profile_of_these(make: Make) -> None:
    old, new = make("old"), make("new", {"etc/ours.conf": "2"})

    found = of_runs(old, verdict(new), new, verdict(new))

    assert section(found, "units").unknown.startswith("no known run of OLD recorded them; run pytest --image base")
    assert section(found, "boot phases").unknown == "no boot of OLD is known"


@pytest.mark.parametrize("content", [b"XFSB".ljust(2048, b"\0"), b"hsqs".ljust(2048, b"\0"), b""])
def test_a_root_file_system_that_cannot_be_read_is_unknown(make: Make, content: bytes) -> None:
    old, new = make("old"), make("new", packages={"tool": "2"})
    new.rootfs.write_bytes(content)
    new = Artifacts(folder=new.folder, manifest=replace(_manifest(new.folder), packages={"tool": "2", "lib": "1"}))

    found = diff(old, new)

    assert section(found, "files").unknown.startswith("NEW: ")
    assert section(found, "users").unknown == "the users of NEW are not known"
    assert seen(found, "packages") == [("tool", "changed", "1", "2")]


def _as_ext4(tree: Path, image: Path) -> None:
    mkfs = process.require("mkfs.ext4", "e2fsprogs")
    process.output([mkfs, "-q", "-O", "^has_journal", "-d", str(tree), str(image), "4M"])


def _as_live_image(tree: Path, image: Path) -> None:
    live = tree.with_name("live") / "LiveOS"
    live.mkdir(parents=True)
    _as_ext4(tree, live / "rootfs.img")
    process.output(["mksquashfs", str(live.parent), str(image), "-noappend", "-no-progress"])


@pytest.mark.parametrize("pack", [_as_ext4, _as_live_image])
def test_of_a_file_system_image_single_files_are_read(make: Make, pack: Callable[[Path, Path], None]) -> None:
    old, new = make("old"), make("new", {"etc/passwd": PASSWD.format(64061)})
    new.rootfs.unlink()
    pack(new.folder / "tree", new.rootfs)
    new = Artifacts(folder=new.folder, manifest=_manifest(new.folder))

    found = diff(old, new)

    assert seen(found, "users") == [("nova", "changed", "64060", "64061")]
    assert section(found, "kernel configuration") == Section(name="kernel configuration")
    assert section(found, "files").unknown.startswith("NEW: files are compared of a squashfs")


def _add_hostile(tree: Path) -> None:
    for name in (
        b"line\nend R 1 644 0 0 5 0",
        b"qu\"o'te",
        b"<script>alert(1)</script >",
        b"back\\slash",
        b"\x1b[31m",
        b"\xff",
    ):
        Path(os.fsdecode(os.fsencode(tree / "etc") + b"/" + name.replace(b"/", b"-"))).write_text("x")
    (tree / "etc/link").symlink_to("two\nlines of <b>text</b>\n#\n")
    (tree / "etc/hard").hardlink_to(tree / "etc/ours.conf")
    (tree / "etc/z").hardlink_to(tree / "etc/line\nend R 1 644 0 0 5 0")


def test_hostile_names_are_read_as_they_are_and_printed_harmlessly(make: Make) -> None:
    old, new = make("old"), make("new", arrange=_add_hostile)

    found = diff(old, new)

    names = [entry.what for entry in section(found, "files of no package").entries]
    assert names == sorted([
        "etc/line\\nend R 1 644 0 0 5 0", "etc/qu\"o'te", "etc/<script>alert(1)<-script >", "etc/back\\slash",
        "etc/\\x1b[31m", "etc/\\udcff", "etc/link", "etc/hard", "etc/z",
    ])  # fmt: skip
    text = "\n".join(as_text(found))
    assert all(line.isprintable() for line in text.splitlines())
    assert "link to two\\nlines" in text
    text.encode("utf-8")
    files = read_tree(new.rootfs, re.compile("nothing")).files
    assert files["etc/link"].target == "two\nlines of <b>text</b>\n#\n"
    assert files["etc/hard"] == files["etc/ours.conf"]
    assert files["etc/z"] == files["etc/line\nend R 1 644 0 0 5 0"]


def test_a_difference_is_a_value_that_reads_back_equal(make: Make, tmp_path: Path) -> None:
    found = diff(make("old"), make("new", {"etc/ours.conf": "2"}, arrange=_add_hostile))

    serialization.write(tmp_path / "diff.json", found)

    assert serialization.read(Diff, tmp_path / "diff.json") == found
    assert json.loads((tmp_path / "diff.json").read_text())["old"]["image"] == "base"


def _many(count: int) -> Diff:
    entries = tuple(DiffEntry(what=f"p{number}", change=Change.ADDED, new="1") for number in range(count))
    named = {"image": "base", "version": "1", "digest": "a" * 64}
    sections = [
        {"name": "packages", "entries": serialization.dump(entries)},
        {"name": "units", "unknown": "no run of OLD"},
    ]
    return serialization.load(Diff, {"old": named, "new": named, "sections": sections})


def test_text_is_short_unless_all_is_asked_for() -> None:
    lines = list(as_text(_many(100)))

    assert "packages: 100 added" in lines
    assert "    and 88 more; --all shows them" in lines
    assert lines[-1] == "not known: units: no run of OLD"
    assert len(list(as_text(_many(100), limit=None))) == len(lines) + 87
