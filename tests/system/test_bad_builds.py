"""Builds that fail halfway, because of the image or the host: one message, and the next build succeeds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.build import bootstrap
from harness.build.pipeline import build
from harness.model.artifacts import Artifacts, difference
from harness.model.definition import ImageDefinition, load_definition
from harness.store.store import Store, find_store

from .conftest import ROOT


@dataclass(frozen=True)
class Workshop:
    """Own image definitions and an own store, in which all steps of ``base`` but the last are cached."""

    folder: Path
    store: Store

    def change(self, old: str, new: str, file: str = "image.toml") -> None:
        path = self.folder / "images" / "base" / file
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    def build(
        self, *arguments: str, within: Sequence[str] = (), env: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Returns exit status, standard output and standard error."""
        argv = [*within, sys.executable, "-m", "harness", "build", "base", "--images-dir", f"{self.folder}/images"]
        done = subprocess.run(
            [*argv, *arguments],
            cwd=ROOT,
            env=os.environ | {"BOOTPROOF_STORE": str(self.store.root)} | (env or {}),
            check=False,
            capture_output=True,
        )
        said, out = done.stderr.decode("utf-8", "replace"), os.fsdecode(done.stdout)
        print(out, said)
        return done.returncode, out, said


@pytest.fixture
def workshop(tmp_path: Path, artifacts: Artifacts) -> Workshop:
    folder = tmp_path / "a wörkshop"  # blanks and non-ASCII letters in paths are allowed
    shutil.copytree(ROOT / "images", folder / "images")
    store = Store(folder / "store")
    copy_layers(load_definition(folder / "images" / "base"), artifacts, find_store(), store)
    return Workshop(folder, store)


def copy_layers(definition: ImageDefinition, artifacts: Artifacts, source: Store, target: Store) -> None:
    first = bootstrap.layer_key(definition)
    note = source.layer_note(first)
    assert note, f"{artifacts.folder} was built from it"
    keys = [first, *(path.stem for path in (source.root / "layers").glob("*.json") if "image base" in path.read_text())]
    for key in keys:
        for file in (source.root / "layers").glob(f"{key}.*"):
            shutil.copy2(file, target.folder("layers"))
    shutil.copytree(source.packages(definition.suite), target.root / "debs" / definition.suite)


def last_sentence(said: str) -> str:
    """The output after the lines about steps."""
    return "bootproof: " + said.partition("bootproof: ")[2]


# The image is at fault


def test_package_that_does_not_exist_is_named_with_its_file(workshop: Workshop) -> None:
    workshop.change('"kmod"', '"kmod", "no-such-package"')

    status, _, said = workshop.build()

    assert (status, last_sentence(said).count("\n")) == (1, 1)
    assert "image.toml: build.packages: not in trixie: no-such-package; correct or remove it" in said


def test_playbook_that_fails_is_quoted(workshop: Workshop) -> None:
    task = "  tasks:\n    - name: look for it\n      ansible.builtin.command: ls /no-such-thing\n"
    workshop.change("- hosts: all\n", f"- hosts: all\n{task}", "playbook.yml")

    status, _, said = workshop.build()

    assert status == 1
    assert "playbook.yml failed" in said
    assert "TASK [look for it]" in said
    assert "cannot access '/no-such-thing'" in said
    assert "Traceback" not in said


# The host is at fault

NO_NETWORK = ["unshare", "--net"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network namespace and builds in it")
def test_archive_that_cannot_be_reached_is_the_hosts_fault(workshop: Workshop) -> None:
    workshop.change('"kmod"', '"kmod", "sl"')

    status, _, said = workshop.build(within=NO_NETWORK)

    assert status == 75
    assert "the package archive cannot be reached; mend the network" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network namespace and builds in it")
def test_playbook_that_cannot_reach_the_archive_is_the_hosts_fault(workshop: Workshop) -> None:
    task = "  tasks:\n    - ansible.builtin.command: apt-get update --error-on=any\n"
    workshop.change("- hosts: all\n", f"- hosts: all\n{task}", "playbook.yml")

    status, _, said = workshop.build(within=NO_NETWORK)

    assert status == 75
    assert "failed for want of the network" in said


ON_SMALL = """
mount -t tmpfs -o size="$0"k tmpfs "$1/small"
mkdir "$BOOTPROOF_STORE"
cp -a "$1/store/layers" "$BOOTPROOF_STORE"
shift
exec "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and builds in the same namespace")
@pytest.mark.parametrize(("more_mib", "step"), [(20, "unpack"), (320, "initrd"), (410, "pack")])
def test_full_disk_is_the_hosts_fault_at_every_step(workshop: Workshop, more_mib: int, step: str) -> None:
    layers_kib = sum(path.stat().st_size for path in (workshop.store.root / "layers").iterdir()) >> 10
    (workshop.folder / "small").mkdir()
    size_kib = str(layers_kib + (more_mib << 10))
    within = ["unshare", "--mount", "sh", "-ec", ON_SMALL, size_kib, str(workshop.folder)]

    status, _, said = workshop.build(within=within, env={"BOOTPROOF_STORE": str(workshop.folder / "small" / "store")})

    assert (status, last_sentence(said).count("\n")) == (75, 1)
    assert "no space left below" in said
    assert said.partition("bootproof: ")[0].splitlines()[-1].startswith(f"base: {step} ")


# Damage in the store


def damage_artifacts(workshop: Workshop) -> None:
    status, out, _ = workshop.build()
    assert status == 0
    kernel = Path(out.strip()) / "vmlinuz"
    kernel.chmod(0o644)
    with kernel.open("r+b") as file:
        file.truncate(1 << 20)


def damage_layer(workshop: Workshop) -> None:
    for tar in (workshop.store.root / "layers").glob("*.tar"):
        with tar.open("r+b") as file:
            file.seek(1 << 20)
            file.write(b"damaged")


@pytest.mark.parametrize("damage", [damage_artifacts, damage_layer])
def test_what_is_damaged_in_the_store_is_made_again_and_said(
    workshop: Workshop, artifacts: Artifacts, damage: Callable[[Workshop], None]
) -> None:
    damage(workshop)

    status, out, said = workshop.build()

    assert status == 0
    assert "it is made again" in said
    assert Path(out.strip()).name == artifacts.digest
    assert workshop.build() == (0, out, "")


def test_changed_bytes_are_found_before_a_run_judges_them(workshop: Workshop) -> None:
    _, out, _ = workshop.build()
    rootfs = Path(out.strip()) / "rootfs.squashfs"
    rootfs.chmod(0o644)
    with rootfs.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"damaged")

    made = build(load_definition(workshop.folder / "images" / "base"), workshop.store, verify=True)

    assert difference(made) == ""


# Concurrent builds, other locales


def test_two_builds_at_once_on_one_store_make_one(workshop: Workshop, artifacts: Artifacts) -> None:
    with ThreadPoolExecutor() as pool:
        results = [future.result() for future in [pool.submit(workshop.build) for _ in range(2)]]

    assert {Path(out.strip()).name for _, out, _ in results} == {artifacts.digest}
    assert sorted("another build on this host is at it" in said for _, _, said in results) == [False, True]
    assert sum("base: pack " in said for _, _, said in results) == 1


def test_locale_that_is_not_utf8_makes_the_same_artifacts(workshop: Workshop, artifacts: Artifacts) -> None:
    status, out, said = workshop.build(env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})

    assert status == 0, said
    assert Path(out.strip()) == workshop.store.root / "artifacts" / artifacts.digest
