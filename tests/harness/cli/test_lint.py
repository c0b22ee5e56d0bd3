"""`bootproof lint`: findings as they are made, JSON, and bad input in a sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.core import process, serialization
from harness.model.artifacts import FILES, MANIFEST, NEXT, Manifest, describe
from harness.model.definition import load_definition
from harness.store.store import Store

from ...small_image import image
from ..build.test_imported import IMAGES, bzimage
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


def test_another_builders_folder_needs_no_manifest_and_stays_as_it_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    shutil.copyfile(folder / "rootfs.squashfs", theirs / "filesystem.squashfs")
    shutil.copyfile(folder / "initrd.img", theirs / "initramfs-6.1")
    (theirs / "bzImage").write_bytes(bzimage("6.1.0-1-amd64"))
    before = sorted(path.name for path in theirs.iterdir())

    assert main(["lint", str(theirs)]) == 1

    printed = capsys.readouterr().out
    assert "/etc/hostname: all machines would have this name [builder-hostname]" in printed
    assert "there are no modules, and the kernel is 6.1.0-1-amd64" in printed
    assert "not examined: what the definition demands" in printed
    assert "not examined: whether os-release has the name and version of the build" in printed
    assert printed.splitlines()[-1].startswith("theirs (")
    assert sorted(path.name for path in theirs.iterdir()) == before


def test_another_builders_folder_is_held_to_the_definition_that_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / MANIFEST).unlink()
    (folder / "vmlinuz").write_bytes(bzimage("6.1.0-1-amd64"))

    assert main(["lint", str(folder), "--image", "base", "--images-dir", str(IMAGES)]) == 1

    assert "the definition demands this unit, and there is none" in capsys.readouterr().out


def test_a_folder_without_an_initrd_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / MANIFEST).unlink()
    (folder / "initrd.img").unlink()

    assert main(["lint", str(folder)]) == 4

    assert "holds no initrd" in capsys.readouterr().err


def test_a_name_is_the_build_of_the_definitions_version(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither an older one that was used later, nor what a run built only to upgrade to."""
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    version = load_definition(IMAGES / "base").version
    for other in (version, "1999.01", f"{version}{NEXT}"):
        copy = tmp_path / other
        shutil.copytree(folder, copy)
        manifest = serialization.read(Manifest, copy / MANIFEST)
        Store(tmp_path / "store").add_artifacts(copy, replace(manifest, image="base", version=other))

    monkeypatch.chdir(tmp_path)

    main(["lint", "base"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("base 1999.01 (")

    main(["lint", "base", "--images-dir", str(IMAGES)])
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"base {version} (")
