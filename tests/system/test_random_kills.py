"""Builds, runs and boots are killed at random moments: nothing is left behind or lost, and the next one works.

``BOOTPROOF_KILLS`` is how many (default 6), ``BOOTPROOF_KILL_SEED`` makes the same choices again. The store that is
named by ``BOOTPROOF_KILL_STORE``, or else a copy of what this user's store holds of ``base``, is used.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.build import bootstrap
from harness.build.pipeline import build
from harness.core import serialization
from harness.core.deadline import Deadline, poll
from harness.core.locks import is_locked
from harness.core.namespaces import remove
from harness.model.artifacts import difference, load_artifacts
from harness.model.definition import load_definition
from harness.store.store import Store, find_store
from harness.store.template_record import RECORD, Template

from .conftest import ROOT

KILLS = int(os.environ.get("BOOTPROOF_KILLS", "6"))
SEED = os.environ.get("BOOTPROOF_KILL_SEED") or str(random.SystemRandom().randrange(10**6))
FIRST_S = 12.0
"""Most of what can go wrong is at the beginning."""
PATIENCE_S = 60.0
STARTING_S = 2.0
"""Until then Python and pytest are still being read; an interrupt is answered by themselves."""


@dataclass(frozen=True)
class Kind:
    """What is started, how often, and how long it takes on the reference machine."""

    weight: int
    takes_s: float


KINDS = {
    "build": Kind(4, 20),  # another version: initrd and packing
    "playbook": Kind(3, 40),  # another playbook: Ansible too
    "bootstrap": Kind(2, 40),  # mmdebstrap
    "run": Kind(4, 45),  # pytest with two workers
    "boot": Kind(3, 30),  # by hand
}
SIGNALS = ("SIGINT", "SIGTERM", "SIGKILL")


@dataclass(frozen=True)
class Site:
    """The store, image definitions and runs of this test."""

    folder: Path
    store: Store

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def temporary(self) -> Path:
        """Whatever goes to /tmp, or to somebody's home."""
        return self.folder / "tmp"

    def env(self, mark: str) -> dict[str, str]:
        places = {"BOOTPROOF_STORE": str(self.store.root), "TMPDIR": str(self.temporary), "HOME": str(self.temporary)}
        return os.environ | places | {"BOOTPROOF_KILL_MARK": mark}

    def argv(self, kind: str, number: int) -> list[str]:
        bootproof, images = [sys.executable, "-m", "harness"], ["--images-dir", str(self.images)]
        if kind == "run":
            options = [
                f"--images-dir={self.images}",
                f"--run-dir={self.runs}",
                "-p",
                "no:cacheprovider",
                "-k",
                "kernel",
            ]
            return [sys.executable, "-m", "pytest", "-n2", "--image", "base", *options, "tests/image/test_image.py"]
        if kind == "boot":
            return [*bootproof, "boot", "base", *images]
        more = {"build": ["--version", f"r{SEED}.{number}"], "bootstrap": ["--refresh"]}
        return [*bootproof, "build", "base", *images, *more.get(kind, [])]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("kills")
    named = os.environ.get("BOOTPROOF_KILL_STORE")
    context = Site(folder, Store(Path(named) if named else folder / "store"))
    shutil.copytree(ROOT / "images", context.images)
    context.temporary.mkdir()
    file = context.images / "base" / "image.toml"  # how quick a host is that does all this is no matter here
    file.write_text(re.sub(r"boot_s = \d+", "boot_s = 3600", file.read_text("utf-8")), "utf-8")
    definition = load_definition(context.images / "base")
    if not named:
        _copy_layers(context.store)
    build(definition, context.store)
    build(definition, context.store, version=f"{definition.version}+next")
    yield context
    if not named:
        shutil.rmtree(folder)


def _copy_layers(target: Store) -> None:
    """So that nothing is bootstrapped that was bootstrapped before."""
    definition, source = load_definition(ROOT / "images" / "base"), find_store()
    build(definition, source)
    first = bootstrap.layer_key(definition)
    keys = [first] + [
        path.stem for path in (source.root / "layers").glob("*.json") if f"image {definition.name}" in path.read_text()
    ]
    for key in keys:
        for file in (source.root / "layers").glob(f"{key}.*"):
            shutil.copy2(file, target.folder("layers"))
    shutil.copytree(source.packages(definition.suite), target.root / "debs" / definition.suite)


def _is_of_a_user(name: str) -> bool:
    """Whether a folder is made once for a user: pytest's, and that of `bootproof attach` for users without a login
    session, which removes there what a killed machine left."""
    return name.startswith("pytest-of-") or name == f"bootproof-{os.getuid()}"


@dataclass(frozen=True)
class Traces:
    """What there is on the host and in the store, besides processes. Files by inode, size and time."""

    mounts: str
    interfaces: tuple[str, ...]
    temporary: tuple[str, ...]
    kept: dict[str, tuple[int, int, int]]


def traces(context: Site) -> Traces:
    files = [
        path for name in ("artifacts", "layers") for path in (context.store.root / name).rglob("*") if path.is_file()
    ]
    return Traces(
        mounts=Path("/proc/self/mounts").read_text(),
        interfaces=tuple(sorted(os.listdir("/sys/class/net"))),
        temporary=tuple(str(path) for path in context.temporary.glob("*") if not _is_of_a_user(path.name)),
        kept={str(path): (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) for path in files},
    )


def left_of(context: Site, mark: str) -> list[str]:
    """Processes of that run: those that inherited its environment variable, or have its folders as argument or cwd."""
    processes = [folder for folder in Path("/proc").glob("[0-9]*") if folder.name != str(os.getpid())]
    found = [folder for folder in processes if mark in _read(folder / "environ") or _is_in(folder, context)]
    return [f"{folder.name}: {_read(folder / 'cmdline') or _read(folder / 'comm')}" for folder in found]


def _is_in(process: Path, context: Site) -> bool:
    texts = [_read(process / "cmdline")]
    for name in ("cwd", "root"):
        with suppress(OSError):
            texts.append(os.readlink(process / name))
    return any(str(place) in text for text in texts for place in (context.folder, context.store.root))


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8", "replace")
    except OSError:  # it has ended
        return ""


def locks_held(store: Store) -> list[str]:
    paths = [path for name in ("locks", "slots", "artifacts", "templates") for path in (store.root / name).glob("*")]
    return [str(path) for path in paths if is_locked(path)]


def damaged(store: Store, files: set[str]) -> list[str]:
    """What is wrong with the artifacts and layers that ``files`` belong to, and with any template."""
    artifacts = {Path(file).parent for file in files if Path(file).parent.parent.name == "artifacts"}
    layers = {Path(file).stem for file in files if file.endswith(".tar")}
    found = [what for folder in artifacts if (what := difference(load_artifacts(folder)))]
    templates = (serialization.read(Template, folder / RECORD) for folder in (store.root / "templates").glob("*"))
    found += [what for template in templates if (what := template.alteration())]
    return found + [key for key in layers if not store.is_whole_layer(key)]


def _chosen(number: int) -> tuple[str, str, float]:
    """The command to start in that round, the signal that ends it, and the delay in seconds."""
    choice = random.Random(f"{SEED}-{number}")
    kind = choice.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
    longest_s = FIRST_S if choice.random() < 0.7 else KINDS[kind].takes_s
    return kind, choice.choice(SIGNALS), choice.uniform(0, longest_s)


def _end(child: subprocess.Popen[str], how: str) -> str:
    """Ctrl-C at a terminal is for all of its foreground, the others for the one process; what was printed."""
    with suppress(ProcessLookupError):
        (os.killpg if how == "SIGINT" else os.kill)(child.pid, signal.Signals[how])
    try:
        return child.communicate(timeout=PATIENCE_S)[0]
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        raise AssertionError(f"{how} did not end it within {PATIENCE_S:.0f} s") from None


@pytest.mark.parametrize("number", range(KILLS))
def test_a_process_killed_at_any_moment_leaves_nothing_behind(context: Site, number: int) -> None:
    kind, how, moment_s = _chosen(number)
    print(f"BOOTPROOF_KILL_SEED={SEED}, round {number}: {kind}, {how} after {moment_s:.2f} s")
    if kind == "playbook":
        with (context.images / "base" / "playbook.yml").open("a") as file:
            file.write(f"# {SEED}.{number}\n")
    before, runs_before, mark = traces(context), _runs(context), uuid.uuid4().hex
    with subprocess.Popen(
        context.argv(kind, number), cwd=ROOT, env=context.env(mark), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    ) as child:  # fmt: skip
        with suppress(subprocess.TimeoutExpired):
            child.wait(moment_s)
        was_running, started_s = child.poll() is None, time.monotonic()
        printed = _end(child, how)
    print(printed, f"-> {child.returncode}, {time.monotonic() - started_s:.1f} s later; running: {was_running}")

    leaving = Deadline(5 if how == "SIGKILL" else 1)
    assert poll(lambda: not left_of(context, mark), leaving, every_s=0.1), left_of(context, mark)
    assert not locks_held(context.store)
    after = traces(context)
    assert (after.mounts, after.interfaces, after.temporary) == (before.mounts, before.interfaces, before.temporary)
    assert _lost(before.kept, after.kept) == []
    assert damaged(context.store, set(after.kept) - set(before.kept)) == []
    if how != "SIGKILL":
        assert not list((context.store.root / "tmp").iterdir())
        assert "Traceback" not in printed or moment_s < STARTING_S
        assert all((run / "verdict.json").exists() for run in _runs(context) - runs_before)
    with context.store.workfolder(remove=remove):  # as the next build does
        pass
    assert not list((context.store.root / "tmp").iterdir())


def _runs(context: Site) -> set[Path]:
    return {path for path in context.runs.glob("*") if not path.is_symlink()}


def _lost(before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]]) -> list[str]:
    """Of the artifacts, what is gone or different. Of layers, older ones make room for newer ones."""
    return [path for path, facts in before.items() if "/artifacts/" in path and after.get(path) != facts]


def test_after_all_that_a_build_and_a_run_work(context: Site) -> None:
    def run(kind: str) -> int:
        return subprocess.run(context.argv(kind, KILLS), cwd=ROOT, env=context.env(""), check=False).returncode

    assert run("build") == 0
    assert run("run") == 75, "a part of the suite is inconclusive"
    assert not list((context.store.root / "tmp").iterdir())
    assert damaged(context.store, set(traces(context).kept)) == []
