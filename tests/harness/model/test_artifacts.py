"""Artifacts: which folders are valid, and the digest that names them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.errors import UsageError
from harness.model.artifacts import FILES, MANIFEST, Manifest, describe, load_artifacts


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    for name in FILES:
        (tmp_path / name).write_text(name)
    made = Manifest(
        image="base", version="2026.11", kernel_version="6.12.57", kernel_arguments=("quiet",),
        files={name: describe(tmp_path / name) for name in FILES}, packages={"systemd": "257.9-1"},
        dracut_modules=("base", "livenet"), initrd_drivers=("overlay", "virtio_net"), definition="0" * 64,
        sources={"trixie/InRelease": "1" * 64}, builder={"mmdebstrap": "1.3.5"},
    )  # fmt: skip
    serialization.write(tmp_path / MANIFEST, made)
    return made


def test_a_manifest_reads_back_equal(tmp_path: Path, manifest: Manifest) -> None:
    artifacts = load_artifacts(tmp_path)

    assert artifacts.manifest == manifest
    assert artifacts.digest == manifest.digest
    assert artifacts.kernel.read_text() == "vmlinuz"


def test_the_digest_covers_every_part_of_the_manifest(manifest: Manifest) -> None:
    files = {**manifest.files, "vmlinuz": manifest.files["initrd.img"]}
    others = [
        replace(manifest, kernel_arguments=("quiet", "debug")),
        replace(manifest, version="2026.12"),
        replace(manifest, files=files),
        replace(manifest, packages={}),
    ]

    assert len({manifest.digest, *(other.digest for other in others)}) == 5


def test_the_digest_does_not_depend_on_the_order_of_packages(manifest: Manifest) -> None:
    one = replace(manifest, packages={"a": "1", "b": "2"})
    other = replace(manifest, packages={"b": "2", "a": "1"})

    assert one.digest == other.digest


def test_a_folder_without_a_manifest_holds_no_artifacts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no manifest\.json"):
        load_artifacts(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"image": "base"}'])
def test_an_invalid_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(UsageError, match=r"manifest\.json cannot be read"):
        load_artifacts(tmp_path)


@pytest.mark.usefixtures("manifest")
def test_a_manifest_with_a_key_too_many_is_refused(tmp_path: Path) -> None:
    plain = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**plain, "built_at": "now"}))
    with pytest.raises(UsageError):
        load_artifacts(tmp_path)


@pytest.mark.usefixtures("manifest")
def test_a_file_of_another_size_or_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "rootfs.squashfs").write_text("cut")
    with pytest.raises(UsageError, match=r"rootfs\.squashfs has 3 bytes, but 15 by its manifest"):
        load_artifacts(tmp_path)

    (tmp_path / "rootfs.squashfs").unlink()
    with pytest.raises(UsageError, match="has no bytes"):
        load_artifacts(tmp_path)
