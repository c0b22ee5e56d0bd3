# ruff: noqa: E501  # a plant is one line
"""What files of an image say: modules packed in each way, programs, the kernel's file; damaged ones say nothing."""

from __future__ import annotations

import gzip
import lzma
import random
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from harness.core import process, serialization
from harness.core.errors import UsageError
from harness.fleet import read_drivers
from harness.fleet.aliases import AliasIndex
from harness.fleet.kernel_file import firmware_suffixes, read_kernel
from harness.fleet.modprobe import read_rules, underscored_pattern
from harness.fleet.module_file import isa_level, module_info, unpacked
from harness.fleet.read_image import Look, Seen, image_drivers
from harness.model.artifacts import FILES, MANIFEST, Artifacts, describe, load_artifacts
from harness.store.store import Store

from ...small_fleet import MODULES, ROOT, VERSION, drivers, files, kernel, module, program
from ...small_image import image
from ..store.test_initrd_tree import archive, entry, zstd

INFO = {"alias": ("pci:v1*", "pci:v2*"), "firmware": ("a/b.bin",), "depends": ("x,y",)}


@pytest.mark.parametrize("pack", [bytes, lzma.compress, gzip.compress], ids=["plain", "xz", "gzip"])
def test_a_module_says_its_aliases_firmware_and_needs(pack: Callable[[bytes], bytes]) -> None:
    assert module_info(unpacked(pack(module(**INFO))) or b"") == INFO


def test_damaged_modules_and_programs_say_nothing() -> None:
    good, old = module(**INFO), program(3)
    assert isa_level(old) == 3
    for end in range(0, len(good), 7):
        module_info(good[:end])
        isa_level(old[: end % len(old)])
    chance = random.Random(1)
    for _ in range(500):
        for content in (good, old):
            damaged = bytearray(content)
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            module_info(bytes(damaged))
            isa_level(bytes(damaged))
    assert unpacked(b"\xfd7zXZ\0nothing") is None


def test_modules_packed_by_zstd_are_read_in_batches(tmp_path: Path) -> None:
    packed = {
        f"{MODULES}/kernel/drivers/m{number}.ko.zst": zstd(module(firmware=f"fw{number}.bin", x="y" * number), tmp_path)
        for number in (1, 300, 70_000)
    }

    known = drivers({**packed, f"{MODULES}/kernel/bad.ko.zst": b"\x28\xb5\x2f\xfd\x00nothing"})

    assert {name: known.root.modules[name] for name in ("m1", "m300", "m70000")} == {
        "m1": ("fw1.bin",), "m300": ("fw300.bin",), "m70000": ("fw70000.bin",),
    }  # fmt: skip
    assert known.root.modules["bad"] == ()


def test_modules_of_another_kernel_do_not_count() -> None:
    other = "usr/lib/modules/5.10/kernel/drivers/other.ko"

    assert "other" not in drivers({other: module()}).root.modules


def test_a_module_is_absent_with_what_it_needs_even_if_depmod_left_that_out() -> None:
    """depmod was run after mii was removed: cdc-ether needs usbnet, which needs mii."""
    known = drivers({
        f"{MODULES}/modules.dep": "kernel/drivers/usbnet.ko:\nkernel/drivers/cdc-ether.ko: kernel/drivers/usbnet.ko\n",
        f"{MODULES}/kernel/drivers/usbnet.ko": module(depends="mii"),
        f"{MODULES}/kernel/drivers/cdc-ether.ko": module(depends="usbnet"),
    })  # fmt: skip

    assert known.root.absent == {"usbnet": "mii", "cdc_ether": "mii"}


def test_a_root_without_modules_is_refused() -> None:
    with Look() as look:
        empty = Seen.of(files({"usr/lib/os-release": "x"}, look), look, VERSION)
    with pytest.raises(UsageError, match=r"has no kernel modules of 6\.12\.1-test"):
        image_drivers(image().manifest, VERSION, empty, empty, kernel())


@pytest.mark.parametrize("is_signed", [True, False])
def test_the_kernel_says_whether_it_is_signed(is_signed: bool) -> None:
    about = read_kernel(kernel(is_signed=is_signed))

    assert (about.is_efi, about.is_signed) == (True, is_signed)
    for end in range(0, 400, 3):
        assert not read_kernel(kernel(is_signed=True)[:end]).is_signed or end > 200


def test_without_a_configuration_the_version_says_which_firmware_is_read() -> None:
    assert firmware_suffixes(None, "5.2.0") == ()
    assert firmware_suffixes(None, "5.10.0-30-amd64") == (".xz",)
    assert firmware_suffixes(None, "6.12.1") == (".zst", ".xz")


def test_rules_of_modprobe() -> None:
    rules = read_rules({
        "etc/modprobe.d/b.conf": "blacklist snd-pcsp # why\ninstall usb-storage \\\n  /bin/false\ninstall x /sbin/modprobe y\n",
        "usr/lib/modprobe.d/b.conf": "blacklist other\n",
        "usr/lib/modprobe.d/c.conf": "softdep a-b pre: c-d post: e\nalias pci:v1-[0-9]* f-g\n",
        "etc/modprobe.d/readme": "blacklist more\n",
    })  # fmt: skip

    assert set(rules.blacklisted) == {"snd_pcsp"}
    assert set(rules.blocked) == {"usb_storage"}
    assert rules.softdeps == {"a_b": ("c_d", "e")}
    assert rules.aliases == ("pci:v1_[0-9]* f_g",)


def test_the_index_finds_what_a_search_of_all_patterns_finds() -> None:
    chance = random.Random(7)
    letters = "ab0*?-"

    def word(least: int) -> str:
        return "".join(chance.choice(letters) for _ in range(chance.randint(least, 8)))

    lines = [
        f"{underscored_pattern('pci:' + word(1) + chance.choice(['', '[0-9]', '[ab]x']))} m{number}"
        for number in range(300)
    ]
    index = AliasIndex(lines)
    for _ in range(300):
        asked = "pci:" + word(1).replace("*", "a").replace("?", "0")
        wanted = {line.split()[1] for line in lines if fnmatchcase(underscored_pattern(asked), line.split()[0])}
        assert {name for name, _ in index.match(asked)} == wanted


# Real files


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    """Artifacts with the small image's root file system and an initrd with one driver."""
    tree, folder = tmp_path / "tree", tmp_path / "artifacts"
    folder.mkdir()
    for path, content in ROOT.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content if isinstance(content, bytes) else str(content).encode())
    process.output(["mksquashfs", str(tree), f"{folder}/rootfs.squashfs", "-noappend", "-no-progress", "-all-root"])
    own = entry(f"{MODULES}/kernel/drivers/nvme.ko", module()) + entry(
        f"{MODULES}/modules.alias", b"alias pci:v*d* nvme\n"
    )
    (folder / "initrd.img").write_bytes(archive(own))
    (folder / "vmlinuz").write_bytes(kernel())
    write_manifest(folder)
    return load_artifacts(folder)


def write_manifest(folder: Path) -> None:
    described = {name: describe(folder / name) for name in FILES}
    serialization.write(folder / MANIFEST, replace(image().manifest, kernel_version=VERSION, files=described))


def test_a_build_is_read_once_and_remembered(artifacts: Artifacts, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    known = read_drivers(artifacts, store)

    assert set(known.initrd.modules) == {"nvme"}
    assert "bnx2x" in known.root.modules
    assert known.root.modules["tg3"] == ("tigon/tg3.bin",)
    (artifacts.folder / "rootfs.squashfs").write_bytes(b"")
    assert read_drivers(artifacts, store) == known
    (tmp_path / "store" / "drivers" / f"{artifacts.digest}.json").write_text("{")
    with pytest.raises(UsageError, match="file by file"):
        read_drivers(artifacts, store)


def test_an_ext4_says_the_same_as_a_squashfs(artifacts: Artifacts, tmp_path: Path) -> None:
    of_squashfs = read_drivers(artifacts)
    rootfs = artifacts.folder / "rootfs.squashfs"
    process.output(["mke2fs", "-q", "-t", "ext4", "-d", str(tmp_path / "tree"), str(tmp_path / "root.ext4"), "16M"])
    rootfs.write_bytes((tmp_path / "root.ext4").read_bytes())

    assert read_drivers(artifacts) == of_squashfs
