"""Redaction: no secret is in a bundle, and the file systems that held secrets stay intact."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import DefinitionError, ImageError
from harness.core.process import output, require
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.verdict import Finding
from harness.qemu import disk_images
from harness.qemu.ext4 import open_ext4
from harness.replay import redact
from harness.replay.bundle import Failure
from harness.replay.bundle_read import unpack
from harness.replay.bundle_write import write_bundle

from .test_bundle import BASE, artifacts, boot  # noqa: F401  # pytest finds fixtures by name

# ruff: noqa: F811  # fixtures of another file are arguments here

PASSWORD, TOKEN, FORMER = "hunter2-but-long", "t0ken-of-the-mesh", "what-it-was-before"
MARKED = ("/etc/nova/nova.conf", "/etc/nova/keys")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An ext4 with two secrets, one in a folder, one file that is not secret, and one that was removed."""
    tree = tmp_path / "tree" / "etc" / "nova"
    (tree / "keys").mkdir(parents=True)
    (tree / "nova.conf").write_text(f"[database]\npassword = {PASSWORD}\n")
    (tree / "keys" / "mesh").write_text(TOKEN * 1000)
    (tree / "policy.yaml").write_text("harmless: everything is allowed\n")
    (tree / "removed").write_text(FORMER * 1000)
    image = tmp_path / "secrets.raw"
    disk_images.make_raw(image, size_bytes=64 << 20)
    output([require("mke2fs", "e2fsprogs"), "-q", "-t", "ext4", "-d", str(tmp_path / "tree"), str(image)])
    subprocess.run([require("debugfs", "e2fsprogs"), "-w", "-R", "rm /etc/nova/removed", str(image)],
                   check=True, capture_output=True)  # fmt: skip
    shutil.rmtree(tmp_path / "tree")
    content = image.read_bytes()
    assert all(word.encode() in content for word in (PASSWORD, TOKEN, FORMER))
    return image


def test_secret_and_formerly_removed_files_are_gone_and_the_others_are_there(disk: Path) -> None:
    words = redact.remove_files(disk, MARKED)

    content = disk.read_bytes()
    assert [word for word in (PASSWORD, TOKEN, FORMER) if word.encode() in content] == []
    assert PASSWORD.encode() in words
    with open_ext4(disk, 0) as file_system:
        assert [one.name for one in file_system.entries("/etc/nova")] == ["policy.yaml"]
        assert file_system.read("/etc/nova/policy.yaml") == b"harmless: everything is allowed\n"
        assert file_system.problems() == ""


def test_a_disk_without_secrets_yields_no_words(disk: Path) -> None:
    redact.remove_files(disk, MARKED)
    assert redact.remove_files(disk, MARKED) == frozenset()


def test_a_file_system_that_cannot_be_read_leaves_no_copy(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(0x438 + 2)
        file.write(bytes(range(256)) * 64)  # after the magic number of ext4

    with pytest.raises(ImageError):
        redact.remove_files(disk, MARKED)


def test_no_disk_log_or_finding_in_a_bundle_has_a_secret(
    disk: Path, boot: Path, artifacts: Artifacts, tmp_path: Path
) -> None:
    shutil.copy(disk, boot / "disk-0.raw")
    (boot / "disk-0.qcow2").unlink()
    plan: Any = (boot / "plan.json").read_text().replace("disk-0.qcow2", "disk-0.raw")
    (boot / "plan.json").write_text(plan)
    (boot / "console.log").write_text(f"connecting with {PASSWORD} to the database\n")
    (boot / "channel.log").write_text(f"password = {PASSWORD}\n")
    finding = Finding(id="x", what=f"{PASSWORD} is wrong", where="host1", evidence=(f"tried {PASSWORD}",))

    made = write_bundle(
        tmp_path / "x.bundle", Failure(finding=finding), boot, [artifacts], replace(BASE, redact=MARKED)
    )

    (folder := tmp_path / "opened").mkdir()
    opened = unpack(made, folder)
    disk_images.flatten(folder / "disk-0.qcow2", folder / "flat")
    held = {file.name: file.read_bytes() for file in folder.iterdir()}
    held["index"] = repr(opened.bundle).encode()
    for word in (PASSWORD, TOKEN, FORMER):
        assert [name for name, content in held.items() if word.encode() in content] == []
    assert held["console.log"] == b"connecting with [secret] to the database\n"
    assert opened.bundle.failure.finding.what == "[secret] is wrong"
    assert not {"capture.pcap", "memory.kdump"} & held.keys(), "secrets cannot be found in these"
    assert b"everything is allowed" in held["flat"]


def test_short_words_and_quotes_are_not_redacted() -> None:
    words = frozenset(redact._words(b'a = ""\n""""""""\nkey: "long enough to tell"\n'))

    assert b"long enough to tell" in words
    assert min(map(len, words)) >= 8
    assert redact.hide(b"a harmless line", words) == b"a harmless line"


def test_a_file_that_debugfs_did_not_remove_is_an_error(disk: Path) -> None:
    with pytest.raises(ImageError, match="could not be removed"):
        redact._remove(disk, [], ["/etc/nova"])  # which is not empty


def test_secret_paths_must_be_in_a_persistent_path(tmp_path: Path) -> None:
    def load(paths: str) -> ImageDefinition:
        folder = tmp_path / "base"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(BASE.folder, folder)
        text = (folder / "image.toml").read_text()
        (folder / "image.toml").write_text(text.replace("[network]", f"redact = {paths}\n\n[network]", 1))
        return load_definition(folder)

    assert load('["/var/local/keys", "/etc/systemd/network"]').redact == ("/var/local/keys", "/etc/systemd/network")
    for wrong in ('["/etc/shadow"]', '["/var/local/../shadow"]', '["/var/local/a\\"b"]'):
        with pytest.raises(DefinitionError, match=r"persist\.redact"):
            load(wrong)
