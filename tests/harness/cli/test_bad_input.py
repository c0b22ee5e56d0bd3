"""Mistakes that are found before anything is built or booted: one sentence with the remedy, and the right exit status.

Real processes are started only where the process matters: for pytest, mounts and locales.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.build.pipeline import check_clock
from harness.cli.main import main
from harness.core.errors import HostError
from harness.model.artifacts import MANIFEST

from ... import samples

ROOT = Path(__file__).parents[3]
BOOTPROOF = (sys.executable, "-m", "harness")
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
Command = Callable[..., tuple[int, str]]


def run(argv: Sequence[str], **env: str) -> tuple[int, str]:
    """Run a process: its exit status, and everything that it printed, in any encoding."""
    done = subprocess.run(
        argv, cwd=ROOT, env=os.environ | env, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    printed = (done.stdout + done.stderr).decode("utf-8", "replace")
    print(printed)
    return done.returncode, printed


@pytest.fixture
def bootproof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, with an empty store: its exit status, and everything that it printed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))

    def run_here(*arguments: str) -> tuple[int, str]:
        status = main(list(arguments))
        return status, "".join(capsys.readouterr())

    return run_here


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with one good image definition, ``mine``."""
    folder = tmp_path / "images" / "mine"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text((ROOT / "images" / "base" / "image.toml").read_text("utf-8"), "utf-8")
    (folder / "playbook.yml").write_text("- hosts: all\n", "utf-8")
    return folder.parent


# Definitions

MISTAKES = {
    "misspelt": ("kernel_arguments =", "kernel_argument =", "build.kernel_argument: is not a known key; did you mean"),
    "an unknown distribution": (
        '"debian"',
        '"debain"',
        "'debain' is not a supported distribution; did you mean debian?",
    ),
    "missing": ('suite = "trixie"', "", "build.suite: is missing; for example"),
    "contradicting": ("minimum_gib = 4", 'minimum_gib = 4, serial = "x"', "persist.disk: 2 keys given; exactly one"),
    "not TOML": ("[build]", "[build", "syntax: Expected ']'"),
    "a suite that is a path": ('suite = "trixie"', 'suite = "../../x"', "build.suite: '../../x' is not valid; a name"),
    "an option as package": ('"kmod"', '"--simulate"', "packages: '--simulate' is not a valid package name; one name"),
    "two packages in one": ('"kmod"', '"kmod login"', "packages: 'kmod login' is not a valid package name; one name"),
    "two arguments in one": ('"rd.live.overlay.overlayfs=1"', '"a b"', "contains blanks; write one argument a string"),
}


def make(images: Path, mistake: str) -> tuple[Path, str]:
    """Make a ``mistake`` in the definition: its file, and the sentence about it."""
    old, new, sentence = MISTAKES[mistake]
    file = images / "mine" / "image.toml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")
    return file, sentence


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_definition_is_one_sentence_and_status_4(images: Path, mistake: str, bootproof: Command) -> None:
    file, sentence = make(images, mistake)

    status, printed = bootproof("build", "mine", "--images-dir", str(images))

    assert (status, printed.count("\n")) == (4, 1)
    assert sentence in printed
    assert str(file) in printed


def test_pytest_reports_a_mistake_in_a_definition_in_the_same_sentence(images: Path) -> None:
    file, sentence = make(images, "misspelt")

    status, printed = run([*PYTEST, "--image", "mine", f"--images-dir={images}"])

    lines = [line for line in printed.split("\n") if line.strip()]
    assert status == 4
    assert lines == [line for line in lines if sentence in line]
    assert str(file) in printed


@pytest.mark.parametrize("name", ["Mine", "my image", "mïne"])
def test_a_name_that_os_release_cannot_hold_is_refused(images: Path, name: str, bootproof: Command) -> None:
    (images / "mine").rename(images / name)

    status, printed = bootproof("build", name, "--images-dir", str(images))

    assert (status, printed.count("\n")) == (4, 1)
    assert "lower-case letters, digits and ._- only" in printed


# Options

OPTIONS = {
    ("build", "bsae"): "no image 'bsae' in .*; did you mean base?",
    ("build", "base", "--images-dir", "/nowhere"): "no image 'base' in /nowhere; known: none",
    ("build", "base", "--version", "a b"): "version 'a b' is not valid; letters, digits and ._+~^- only",
    ("build", "base", "--version", ""): "version '' is not valid",
    ("build", "base", "--mirror", "near"): "--mirror 'near' is not a URL; for example http://",
    ("boot", "base", "--memory", "17"): "--memory 17 is too little to boot; use at least 256",
    (
        "boot",
        "base",
        "--profile",
        "--disk",
        "new.raw",
        "--write-disk",
    ): "--profile ends the machine as a power cut does",
    ("boot", "base", "--profile-page", "/nowhere/p.html"): "--profile-page /nowhere/p.html: its folder does not exist",
    ("boot", "/etc"): "/etc has no manifest.json; run bootproof boot IMAGE --artifacts /etc",
}


@pytest.mark.parametrize("arguments", OPTIONS, ids=" ".join)
def test_a_wrong_option_is_one_sentence_and_status_4(
    arguments: tuple[str, ...], tmp_path: Path, bootproof: Command
) -> None:
    status, printed = bootproof(*arguments)

    assert (status, printed.count("\n")) == (4, 1)
    assert all(part in printed for part in OPTIONS[arguments].split(".*"))
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").iterdir())


def test_an_option_that_does_not_exist_has_status_4(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["build", "base", "--fast"])

    assert ended.value.code == 4
    assert "unrecognized arguments: --fast" in capsys.readouterr().err


# Artifacts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of artifacts of ``base``, with their manifest."""
    return samples.artifacts(tmp_path / "artifacts", "1").folder


def without(folder: Path, *place: str) -> None:
    """Remove one value from the manifest."""
    plain = inner = json.loads((folder / MANIFEST).read_text())
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    (folder / MANIFEST).write_text(json.dumps(plain))


def spoilt_no_initrd(folder: Path) -> str:
    (folder / "initrd.img").unlink()
    return "initrd.img has no bytes, but 800000 by its manifest; build it again"


def spoilt_truncated(folder: Path) -> str:
    (folder / "rootfs.squashfs").write_text("cut")
    return "rootfs.squashfs has 3 bytes, but 1050000 by its manifest; build it again"


def spoilt_changed(folder: Path) -> str:
    (folder / "vmlinuz").write_text((folder / "vmlinuz").read_text().upper())
    return "vmlinuz was changed: its SHA-256"


def spoilt_unlisted(folder: Path) -> str:
    without(folder, "files", "initrd.img")
    return "manifest.json must list vmlinuz, initrd.img and one of"


def spoilt_version(folder: Path) -> str:
    without(folder, "version")
    return "manifest.json cannot be read as a manifest: required field missing @ $.version"


def spoilt_not_json(folder: Path) -> str:
    (folder / MANIFEST).write_text('{"image":')
    return "manifest.json cannot be read as a manifest: Expecting value"


@pytest.mark.parametrize(
    "spoil", [spoilt_no_initrd, spoilt_truncated, spoilt_changed, spoilt_unlisted, spoilt_version, spoilt_not_json]
)
def test_artifacts_that_their_manifest_does_not_describe_are_one_sentence_and_status_4(
    folder: Path, spoil: Callable[[Path], str], bootproof: Command
) -> None:
    sentence = spoil(folder)

    status, printed = bootproof("boot", "base", "--artifacts", str(folder))

    assert (status, printed.count("\n")) == (4, 1)
    assert f"{folder}/{sentence}" in printed


def test_pytest_reports_damaged_artifacts_in_the_same_sentence(folder: Path, tmp_path: Path) -> None:
    sentence = spoilt_changed(folder)

    status, printed = run(
        [*PYTEST, "--image", "base", f"--artifacts={folder}", f"--run-dir={tmp_path / 'runs'}", "-q"],
        BOOTPROOF_STORE=str(tmp_path / "store"),
    )

    assert status == 4
    assert f"{folder}/{sentence}" in printed
    assert "Traceback" not in printed


# Places


def test_a_store_that_cannot_be_made_is_the_hosts_fault_and_named(
    tmp_path: Path, bootproof: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "file" / "store"))

    status, printed = bootproof("build", "base")

    assert (status, printed.count("\n")) == (75, 1)
    assert "BOOTPROOF_STORE" in printed


IN_SMALL = """
mount -t tmpfs -o size=1m,nr_inodes=%s tmpfs "$0" && mkdir "$0/store" && %s exec "$@"
"""


def in_small(place: Path, argv: Sequence[str], *, inodes: int, then: str) -> list[str]:
    """``argv`` in a mount namespace with a small file system on ``place``."""
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", IN_SMALL % (inodes, then)]
    if subprocess.run([*private[:-3], "true"], check=False, capture_output=True).returncode:
        pytest.skip("this host does not allow mount namespaces")
    return [*private, str(place), *argv]


@pytest.mark.parametrize(
    ("inodes", "then", "sentence"),
    [
        (50, 'mount -o remount,ro "$0" &&', "read-only file system"),
        (5, "", "no space left"),
        (50, 'mount -o remount,noexec "$0" &&', "is mounted noexec"),
    ],
)
def test_a_store_that_cannot_be_used_is_the_hosts_fault_and_named(
    tmp_path: Path, inodes: int, then: str, sentence: str
) -> None:
    argv = in_small(tmp_path, [*BOOTPROOF, "build", "base"], inodes=inodes, then=then)

    status, printed = run(argv, BOOTPROOF_STORE=str(tmp_path / "store"))

    assert (status, printed.count("\n")) == (75, 1)
    assert sentence in printed.lower()
    assert "BOOTPROOF_STORE" in printed


@pytest.mark.parametrize(("then", "sentence"), [("", "No space left"), ('mount -o remount,ro "$0" &&', "Read-only")])
def test_a_run_folder_that_cannot_be_written_is_the_hosts_fault_and_the_remedy_is_named(
    tmp_path: Path, then: str, sentence: str
) -> None:
    argv = in_small(tmp_path, [*PYTEST, "--image", "base", f"--run-dir={tmp_path / 'store'}"], inodes=4, then=then)

    status, printed = run(argv, BOOTPROOF_STORE=str(tmp_path / "store"))

    assert status == 75
    assert sentence in printed
    assert "with --run-dir" in printed
    assert "Traceback" not in printed
    assert "INTERNALERROR" not in printed


# Locales and clocks

LOCALES = (
    {"LC_ALL": "C.UTF-8"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"},
)


@pytest.mark.parametrize("env", LOCALES, ids=str)
def test_a_character_that_the_locale_lacks_is_escaped(env: dict[str, str]) -> None:
    status, printed = run([*BOOTPROOF, "build", "naïve"], **env)

    assert (status, printed.count("\n")) == (4, 1)
    assert "; known: base" in printed


def test_a_definition_is_the_same_in_every_locale(images: Path) -> None:
    for name in ("dätei", "date", "d€"):
        (images / "mine" / name).write_text(name, "utf-8")
    program = (
        "import sys; from pathlib import Path; from harness.model.definition import load_definition, sources_digest; "
        "print(sources_digest(load_definition(Path(sys.argv[1]))))"
    )
    printed = {run([sys.executable, "-c", program, str(images / "mine")], **env) for env in LOCALES}

    assert len(printed) == 1
    assert next(iter(printed))[0] == 0


def test_a_clock_in_1970_is_the_hosts_fault_and_named() -> None:
    with pytest.raises(HostError, match=r"says 1970-01-01, but it is at least 2025-01-01: timedatectl"):
        check_clock(3600, 0)


@pytest.mark.parametrize(("archive_s", "date"), [(1_900_000_000, "2030-03-17"), (10**14, "9999-12-31")])
def test_an_archive_of_the_future_is_named_with_the_clock(archive_s: int, date: str) -> None:
    check_clock(1_800_000_000, 1_800_003_600)
    with pytest.raises(HostError, match=rf"archive has the date {date}, but this host's clock says 2027-01-15; corr"):
        check_clock(1_800_000_000, archive_s)
