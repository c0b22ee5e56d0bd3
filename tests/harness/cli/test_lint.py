"""`bootproof lint`: findings as they are made, JSON, and bad input in a sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.core import process, serialization
from harness.model.artifacts import FILES, MANIFEST, describe

from ...small_image import image
from ..store.test_initrd_tree import archive, entry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Artifacts with a root file system that holds next to nothing."""
    tree, folder = tmp_path / "tree", tmp_path / "artifacts"
    (tree / "etc").mkdir(parents=True)
    folder.mkdir()
    (tree / "etc" / "hostname").write_text("build-1\n", "utf-8")
    (tree / "etc" / "bad\nname").write_text("x", "utf-8")
    process.output(["mksquashfs", str(tree), f"{folder}/rootfs.squashfs", "-noappend", "-no-progress", "-all-root"])
    (folder / "initrd.img").write_bytes(archive(entry("init", b"x", 0o100755)))
    (folder / "vmlinuz").write_bytes(b"x")
    write_manifest(folder)
    return folder


def write_manifest(folder: Path) -> None:
    files = {name: describe(folder / name) for name in FILES}
    serialization.write(folder / MANIFEST, replace(image().manifest, image="site", files=files))


def test_each_finding_has_its_file_cause_and_next_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(folder)]) == 1

    printed = capsys.readouterr().out
    assert (
        "fails    /etc/hostname: all machines would have this name [builder-hostname]\n         | build-1\n" in printed
    )
    assert "         next: remove /etc/hostname" in printed
    assert printed.splitlines()[-1].startswith("site 1 (")


def test_json_has_all_findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(folder), "--json"]) == 1

    report = json.loads(capsys.readouterr().out)
    found = {(one["id"], one["path"], one["severity"]) for one in report["findings"]}
    assert ("builder-hostname", "/etc/hostname", "fails") in found
    assert report["unchecked"]


def test_the_definition_is_that_of_the_image(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    shutil.copytree(Path(__file__).parents[3] / "images" / "base", images / "site")
    text = (images / "site" / "image.toml").read_text("utf-8")
    allow = '[[lint.allow]]\npath = "/etc/host*"\nreason = "it is a test"\nuntil = {}\n\n[budget]'
    for until, word in (("2999-01-01", "allowed"), ("2001-01-01", "fails")):
        (images / "site" / "image.toml").write_text(text.replace("[budget]", allow.format(until)), "utf-8")

        assert main(["lint", str(folder), "--images-dir", str(images)]) == 1

        line = next(line for line in capsys.readouterr().out.splitlines() if "builder-hostname" in line)
        assert line.startswith(word)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rootfs.squashfs", b"XFSB" + bytes(2000), "no program here reads rootfs.squashfs file by file"),
        ("rootfs.squashfs", b"hsqs" + bytes(200), "is damaged"),
        ("initrd.img", b"nothing", "begins no archive"),
    ],
)
def test_bad_input_is_a_sentence(
    name: str, content: bytes, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).write_bytes(content)
    write_manifest(folder)

    assert main(["lint", str(folder)]) == 4

    assert said in capsys.readouterr().err
