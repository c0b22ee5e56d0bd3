"""The time of a build: cold compared with the same steps by hand, with a changed playbook, of another version, and
unchanged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.build import configure
from harness.build.pipeline import build
from harness.core.namespaces import prefix
from harness.model.definition import ImageDefinition, load_definition
from harness.store import rootfs_images
from harness.store.store import Store, find_store

from .start import ROOT, command_s, seconds
from .table import Figure, Limit, compared

_UBUNTU_KEYRING = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
_SCRIPT = Path(__file__).with_name("by-hand.sh")
_CHANGE = """
  tasks:
    - name: Something that was not there before
      ansible.builtin.copy: { content: "changed\\n", dest: /etc/changed, mode: "0644" }
"""


def measure(*, quick: bool) -> list[Figure]:
    """A pair: a build from an empty store, then with a changed playbook, and the same by hand; packages are cached."""
    cold, by_hand, changed, another = list[float](), list[float](), list[float](), list[float]()
    store = find_store()
    definition = load_definition(ROOT / "images" / "base")
    build(definition, store)
    with TemporaryDirectory(dir=store.folder("bench")) as folder:
        for number in range(1 if quick else 2):
            place = Path(folder) / str(number)
            if number % 2:
                by_hand.append(_by_hand(definition, place / "hand"))
            with _fresh_store(place / "store") as fresh:
                cold.append(_build(definition, fresh))
                another.append(_build(definition, fresh, version="another"))
                changed.append(_build(_changed(definition, place / "images"), fresh))
            if not number % 2:
                by_hand.append(_by_hand(definition, place / "hand"))
    return [
        compared("build", "cold build of base", cold, "by hand", by_hand, unit="s", limit=Limit(most=1.3)),
        compared("build", "build with a changed playbook", changed, "cold", cold, unit="s", limit=Limit(most=0.5)),
        compared("build", "build of another version", another, "cold", cold, unit="s", limit=Limit(most=0.25)),
        *_unchanged(definition, store, quick=quick),
        _of_ubuntu(store),
    ]


def _of_ubuntu(store: Store) -> Figure:
    definition = load_definition(ROOT / "images" / "base-ubuntu")
    artifacts = build(definition, store)
    with TemporaryDirectory(dir=store.folder("bench")) as folder:
        keyring = Path(folder) / "keyring.gpg"
        with rootfs_images.reading(artifacts.rootfs) as read:
            assert read is not None
            keyring.write_bytes(read([_UBUNTU_KEYRING])[_UBUNTU_KEYRING])
        options = ["--components=main,universe", f"--keyring={keyring}"]
        by_hand = [_by_hand(definition, Path(folder) / "hand", *options)]
        with _fresh_store(Path(folder) / "store") as fresh:
            cold = [_build(definition, fresh)]
    return compared("build", "cold build of base-ubuntu", cold, "by hand", by_hand, unit="s", limit=Limit(most=1.3))


def _unchanged(definition: ImageDefinition, store: Store, *, quick: bool) -> Iterator[Figure]:
    command: list[str | Path] = [Path(sys.executable).with_name("bootproof"), "build", definition.name]
    limit = Limit(most=0.5, unit="s", binding=False)
    times = 2 if quick else 9
    measured = {
        "bootproof build base, nothing changed": [command_s(command) for _ in range(times)],
        "the function build(), nothing changed": [seconds(lambda: build(definition, store)) for _ in range(times)],
    }
    for what, taken in measured.items():
        yield Figure(row="build", what=what, value=median(taken), unit="s", limit=limit, samples={what: taken})


def _build(definition: ImageDefinition, store: Store, version: str | None = None) -> float:
    os.sync()  # writes of other programs do not count
    return seconds(lambda: build(definition, store, version=version))


@contextmanager
def _fresh_store(folder: Path) -> Iterator[Store]:
    """A store with nothing but the downloaded packages, removed at the end."""
    _copy_packages(folder / "debs")
    yield Store(folder)
    shutil.rmtree(folder)


def _copy_packages(folder: Path) -> None:
    folder.mkdir(parents=True)
    source = find_store().folder("debs")
    if not any(source.glob("*/*.deb")):
        raise RuntimeError(f"no packages in {source}: bootproof build --refresh base fetches them")
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", folder], check=True)


def _changed(definition: ImageDefinition, images: Path) -> ImageDefinition:
    """The same definition with one more task."""
    shutil.copytree(definition.roles, images / "roles", symlinks=True)
    shutil.copytree(definition.folder, images / definition.name)
    playbook = images / definition.name / definition.playbook
    playbook.write_text(playbook.read_text("utf-8") + _CHANGE, "utf-8")
    return load_definition(images / definition.name)


def _by_hand(definition: ImageDefinition, folder: Path, *options: str) -> float:
    """``options`` are further ones of mmdebstrap(1)."""
    _copy_packages(folder / "debs")
    variables = folder / "variables.json"
    variables.write_text(json.dumps(configure.variables(definition)), "utf-8")
    places = [definition.folder, folder / "debs" / definition.suite, folder / "out", sys.executable, variables]
    script = ["sh", str(_SCRIPT), *map(str, places), definition.suite, ",".join(definition.packages), *options]
    os.sync()
    # The namespace ensures that nothing stays mounted; without root it is needed anyway.
    taken_s = command_s([*prefix(), *script])
    shutil.rmtree(folder)
    return taken_s
