"""What a person can get wrong before anything is built or booted: one sentence, the remedy in it, the right status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.build.pipeline import check_clock
from harness.core import serialization
from harness.core.errors import HostError
from harness.model.artifacts import FILES, MANIFEST, Manifest, describe

ROOT = Path(__file__).parents[3]
BOOTPROOF = (sys.executable, "-m", "harness")
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")


def run(argv: Sequence[str], *, env: dict[str, str] | None = None, cwd: Path = ROOT) -> tuple[int, str]:
    """The exit status, and all that was printed, in whatever encoding."""
    done = subprocess.run(
        argv, cwd=cwd, env=os.environ | (env or {}), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    print(said)
    return done.returncode, said


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with one good image definition, ``mine``."""
    folder = tmp_path / "images" / "mine"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text((ROOT / "images" / "base" / "image.toml").read_text("utf-8"), "utf-8")
    (folder / "playbook.yml").write_text("- hosts: all\n", "utf-8")
    return folder.parent


# Definitions, through both faces

MISTAKES = {
    "misspelt": ("kernel_arguments =", "kernel_argument =", "build.kernel_argument: is not a known key; did you mean"),
    "missing": ('suite = "trixie"', "", "build.suite: is missing; for example"),
    "contradicting": ("minimum_gib = 4", 'minimum_gib = 4, serial = "x"', "persist.disk: 2 keys given; exactly one"),
    "not TOML": ("[build]", "[build", "syntax: Expected ']'"),
    "a suite that is a path": ('suite = "trixie"', 'suite = "../../x"', "build.suite: '../../x' is not valid; a name"),
    "an option as package": (
        '"kmod"',
        '"--simulate"',
        "build.packages: '--simulate' is not a valid package name; one name",
    ),
    "two packages in one": (
        '"kmod"',
        '"kmod login"',
        "build.packages: 'kmod login' is not a valid package name; one name",
    ),
    "two arguments in one": (
        '"rd.live.overlay.overlayfs=1"',
        '"a b"',
        "'a b' contains blanks; write one argument a string",
    ),
}


@pytest.mark.parametrize("face", ["bootproof", "pytest"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_definition_is_one_sentence_and_status_4(images: Path, mistake: str, face: str) -> None:
    old, new, sentence = MISTAKES[mistake]
    file = images / "mine" / "image.toml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")
    argv = {
        "bootproof": [*BOOTPROOF, "build", "mine", "--images-dir", str(images)],
        "pytest": [*PYTEST, "--image", "mine", f"--images-dir={images}"],
    }

    status, said = run(argv[face])

    lines = said.split("\n")
    assert status == 4
    assert [line for line in lines if line.strip()] == [line for line in lines if sentence in line]
    assert str(file) in said


@pytest.mark.parametrize("name", ["Mine", "my image", "mïne"])
def test_name_that_os_release_cannot_hold_is_refused(images: Path, name: str) -> None:
    (images / "mine").rename(images / name)

    status, said = run([*BOOTPROOF, "build", name, "--images-dir", str(images)])

    assert (status, said.count("\n")) == (4, 1)
    assert "lower-case letters, digits and ._- only" in said


# Options

OPTIONS = {
    ("build", "bsae"): "no image 'bsae' in .*; did you mean base?",
    ("build", "base", "--images-dir", "/nowhere"): "no image 'base' in /nowhere; known: none",
    ("build", "base", "--version", "a b"): "version 'a b' is not valid; letters, digits and ._+~^- only",
    ("build", "base", "--version", ""): "version '' is not valid",
    ("build", "base", "--mirror", "near"): "--mirror 'near' is not a URL; for example http://",
    ("boot", "base", "--memory", "17"): "--memory 17 is too little to boot anything; at least 256",
    ("boot", "/etc"): "/etc holds no manifest.json; bootproof boot IMAGE --artifacts /etc makes one",
}


@pytest.mark.parametrize("arguments", OPTIONS, ids=" ".join)
def test_wrong_option_is_one_sentence_and_status_4(arguments: tuple[str, ...], tmp_path: Path) -> None:
    status, said = run([*BOOTPROOF, *arguments], env={"BOOTPROOF_STORE": str(tmp_path)})

    assert (status, said.count("\n")) == (4, 1)
    assert all(part in said for part in OPTIONS[arguments].split(".*"))
    assert not list(tmp_path.iterdir())


# Artifacts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of artifacts of ``base``, with their manifest."""
    folder = tmp_path / "artifacts"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(name)
    made = Manifest(
        image="base",
        version="2026.11",
        kernel_version="6.12.57",
        kernel_arguments=("quiet",),
        files={name: describe(folder / name) for name in FILES},
        packages={"systemd": "257.9-1"},
        dracut_modules=("base", "livenet"),
        initrd_drivers=("overlay", "virtio_net"),
        definition="0" * 64,
        sources={},
        builder={"mmdebstrap": "1.3.5"},
    )
    serialization.write(folder / MANIFEST, made)
    return folder


def spoilt_no_initrd(folder: Path) -> str:
    (folder / "initrd.img").unlink()
    return "initrd.img has no bytes, but 10 by its manifest; build it again"


def spoilt_truncated(folder: Path) -> str:
    (folder / "rootfs.squashfs").write_text("cut")
    return "rootfs.squashfs has 3 bytes, but 15 by its manifest; build it again"


def spoilt_changed(folder: Path) -> str:
    (folder / "vmlinuz").write_text("VMLINUZ")
    return "vmlinuz was changed: its SHA-256"


def spoilt_unlisted(folder: Path) -> str:
    plain = json.loads((folder / MANIFEST).read_text())
    del plain["files"]["initrd.img"]
    (folder / MANIFEST).write_text(json.dumps(plain))
    return "manifest.json must list vmlinuz, initrd.img and one of"


def spoilt_version(folder: Path) -> str:
    plain = json.loads((folder / MANIFEST).read_text())
    del plain["version"]
    (folder / MANIFEST).write_text(json.dumps(plain))
    return "manifest.json cannot be read as a manifest: required field missing @ $.version"


def spoilt_not_json(folder: Path) -> str:
    (folder / MANIFEST).write_text('{"image":')
    return "manifest.json cannot be read as a manifest: Expecting value"


@pytest.mark.parametrize(
    "spoil",
    [spoilt_no_initrd, spoilt_truncated, spoilt_changed, spoilt_unlisted, spoilt_version, spoilt_not_json],
)
def test_artifacts_that_are_not_what_they_say_are_one_sentence_and_status_4(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    sentence = spoil(folder)

    status, said = run(
        [*PYTEST, "--image", "base", f"--artifacts={folder}", f"--run-dir={tmp_path / 'runs'}", "-q"],
        env={"BOOTPROOF_STORE": str(tmp_path / "store")},
    )

    assert status == 4
    assert f"{folder}/{sentence}" in said
    assert "Traceback" not in said


# Places


def test_store_that_cannot_be_made_is_the_hosts_fault_and_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    status, said = run([*BOOTPROOF, "build", "base"], env={"BOOTPROOF_STORE": str(tmp_path / "file" / "store")})

    assert (status, said.count("\n")) == (75, 1)
    assert "BOOTPROOF_STORE" in said


IN_SMALL = """
mount -t tmpfs -o size=%s,nr_inodes=%s tmpfs "$0" && mkdir "$0/store" && %s exec "$@"
"""


def in_small(place: Path, argv: Sequence[str], *, size: str = "1m", inodes: int = 50, then: str = "") -> list[str]:
    """``argv`` with a small file system of its own on ``place``; elsewhere nothing is mounted."""
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", IN_SMALL % (size, inodes, then)]
    if subprocess.run([*private[:-3], "true"], check=False, capture_output=True).returncode:
        pytest.skip("this host gives no mount namespaces")
    return [*private, str(place), *argv]


def test_store_that_is_read_only_is_the_hosts_fault_and_named(tmp_path: Path) -> None:
    argv = in_small(tmp_path, [*BOOTPROOF, "build", "base"], then='mount -o remount,ro "$0" &&')

    status, said = run(argv, env={"BOOTPROOF_STORE": str(tmp_path / "store")})

    assert (status, said.count("\n")) == (75, 1)
    assert "Read-only file system" in said
    assert "BOOTPROOF_STORE" in said


def test_store_that_is_full_is_the_hosts_fault_and_named(tmp_path: Path) -> None:
    argv = in_small(tmp_path, [*BOOTPROOF, "build", "base"], inodes=5)

    status, said = run(argv, env={"BOOTPROOF_STORE": str(tmp_path / "store")})

    assert (status, said.count("\n")) == (75, 1)
    assert "No space left" in said or "no space left" in said
    assert "BOOTPROOF_STORE" in said


def test_store_that_nothing_may_be_executed_on_is_the_hosts_fault_and_named(tmp_path: Path) -> None:
    argv = in_small(tmp_path, [*BOOTPROOF, "build", "base"], then='mount -o remount,noexec "$0" &&')

    status, said = run(argv, env={"BOOTPROOF_STORE": str(tmp_path / "store")})

    assert (status, said.count("\n")) == (75, 1)
    assert "is mounted noexec" in said
    assert "BOOTPROOF_STORE" in said


@pytest.mark.parametrize(("then", "sentence"), [("", "No space left"), ('mount -o remount,ro "$0" &&', "Read-only")])
def test_run_that_cannot_keep_anything_is_the_hosts_fault_and_says_what_to_do(
    tmp_path: Path, then: str, sentence: str
) -> None:
    argv = in_small(tmp_path, [*PYTEST, "--image", "base", f"--run-dir={tmp_path / 'store'}"], inodes=4, then=then)

    status, said = run(argv, env={"BOOTPROOF_STORE": str(tmp_path / "store")})

    assert status == 75
    assert sentence in said
    assert "--run-dir names another" in said
    assert "Traceback" not in said
    assert "INTERNALERROR" not in said


# Locales and clocks

LOCALES = (
    {"LC_ALL": "C.UTF-8"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"},
)


@pytest.mark.parametrize("env", LOCALES, ids=str)
def test_sentence_that_the_locale_cannot_print_is_printed_as_well_as_it_goes(env: dict[str, str]) -> None:
    status, said = run([*BOOTPROOF, "build", "naïve"], env=env)

    assert (status, said.count("\n")) == (4, 1)
    assert "; known: base" in said


def test_a_definition_is_the_same_in_every_locale(images: Path) -> None:
    for name in ("dätei", "date", "d€"):
        (images / "mine" / name).write_text(name, "utf-8")
    program = (
        "import sys; from pathlib import Path; from harness.model.definition import load_definition, sources_digest; "
        "print(sources_digest(load_definition(Path(sys.argv[1]))))"
    )
    said = {run([sys.executable, "-c", program, str(images / "mine")], env=env) for env in LOCALES}

    assert len(said) == 1
    assert next(iter(said))[0] == 0


def test_a_clock_that_stands_in_1970_is_the_hosts_fault_and_named() -> None:
    check_clock(1_800_000_000, 1_795_000_000)
    with pytest.raises(HostError, match=r"says 1970-01-01, but it is at least 2026-11-18: timedatectl"):
        check_clock(3600, 1_795_000_000)
