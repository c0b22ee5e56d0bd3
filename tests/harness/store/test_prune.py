"""The items of the store, what a prune removes, and what it never removes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest

from harness.cli.main import main
from harness.core.errors import UsageError
from harness.model.artifacts import Artifacts, load_artifacts
from harness.store.inventory import StoreItem, StoreKind, survey
from harness.store.prune import Removal, Rules, parse_age, parse_size, prune
from harness.store.store import Store

from ... import samples

DAY_S = 86400


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add(store: Store, content: str, *, image: str = "base", version: str = "1", age_s: float = 0) -> Artifacts:
    """Artifacts, made by a build with the key ``content`` over the layers first-``content`` and second-``content``."""
    with store.workfolder() as work:
        made = replace(samples.artifacts(work / "out", content, lines=1).manifest, image=image, version=version)
        artifacts = store.add_artifacts(work / "out", made)
        layers = [f"first-{content}", f"second-{content}"]
        for key, purpose in zip(layers, (f"packages {content}", f"image {image}"), strict=True):
            (work / "layer.tar").write_bytes(os.urandom(8192))
            store.add_layer(key, work / "layer.tar", {"for": purpose}, kept=9)
        store.remember_build(content, artifacts, layers)
    age(artifacts.folder, age_s)
    for key in layers:
        age(store.root / "layers" / f"{key}.tar", age_s)
        age(store.root / "layers" / f"{key}.json", age_s)
    return artifacts


def age(path: Path, age_s: float) -> None:
    os.utime(path, (time.time() - age_s, time.time() - age_s))


def there(store: Store) -> set[str]:
    """The keys of the artifacts, and the layers, that are there and whole."""
    layers = {path.stem for path in (store.root / "layers").glob("*.tar")}
    builds = {path.stem for path in (store.root / "builds").glob("*.json")}
    return layers | {key for key in builds if store.built(key)}


def removed(removals: list[Removal]) -> set[str]:
    return {removal.item.name for removal in removals if not removal.why_kept}


def bootproof(store: Store, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``bootproof store …`` on that store, in this process."""
    argv, stdout, stderr = ["store", *arguments], StringIO(), StringIO()
    with patch.dict(os.environ, BOOTPROOF_STORE=str(store.root)), redirect_stdout(stdout), redirect_stderr(stderr):
        status = main(argv)
    return subprocess.CompletedProcess(argv, status, stdout.getvalue(), stderr.getvalue())


@contextmanager
def another_process(store: Store, code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``code``, up to and including its ``yield``-like pause, runs in a process of its own while the block lasts."""
    head = "import sys\nfrom contextlib import ExitStack\nfrom pathlib import Path\n"
    head += "from harness.store.store import Store\nfrom harness.model.artifacts import load_artifacts\n"
    head += "store = Store(Path(sys.argv[1]))\n"
    argv = [sys.executable, "-c", head + code, str(store.root), *arguments]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        try:
            yield child
        finally:
            child.kill()


HOLD = """
with ExitStack() as stack:
    store.hold(lambda: load_artifacts(Path(sys.argv[2])), stack)
    print("ready", flush=True)
    sys.stdin.read()
"""
PRUNES = """
import os
from harness.store.prune import Rules, prune
print("ready", flush=True)
for _ in sys.stdin:
    child = os.fork()
    if not child:
        prune(store, Rules(max_bytes=0))
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
BUILD = """
with store.workfolder():
    print("ready", flush=True)
    sys.stdin.read()
"""


# Removed by default


def test_of_an_image_and_version_what_was_used_last_stays_with_its_layers(store: Store) -> None:
    add(store, "old", age_s=9)
    add(store, "new", age_s=5)
    add(store, "next", version="2", age_s=9)
    add(store, "other", image="kvm", age_s=9)

    prune(store, Rules())

    kept = {"new", "next", "other"}
    assert there(store) == kept | {f"{layer}-{name}" for layer in ("first", "second") for name in kept}
    assert not removed(prune(store, Rules()))


def test_to_build_is_to_use(store: Store) -> None:
    add(store, "old", age_s=9)
    add(store, "new", age_s=5)

    assert store.built("old")
    prune(store, Rules())

    assert "old" in there(store)
    assert "new" not in there(store)


def test_what_another_builder_made_is_not_superseded(store: Store) -> None:
    add(store, "ours", age_s=5)
    foreign = add(store, "foreign", age_s=9)
    (store.root / "builds" / "foreign.json").unlink()

    prune(store, Rules())

    assert load_artifacts(foreign.folder) == foreign
    assert "ours" in there(store)


def test_a_layer_that_no_build_has_finished_with_stays(store: Store) -> None:
    with store.workfolder() as work:
        (work / "layer.tar").write_text("x")
        store.add_layer("fresh", work / "layer.tar", {"for": "packages x"})

    prune(store, Rules())

    assert store.layer("fresh")


def test_damaged_artifacts_are_shown_and_removed_with_their_builds_and_layers(store: Store) -> None:
    damaged, unreadable = add(store, "damaged"), add(store, "unreadable", version="2")
    damaged.rootfs.chmod(0o644)
    damaged.rootfs.write_text("cut")
    (unreadable.folder / "manifest.json").chmod(0o644)
    (unreadable.folder / "manifest.json").write_text("{")

    found = [kept for kept in survey(store).items if kept.kind is StoreKind.ARTIFACTS]
    assert {(kept.why_stale, kept.images) for kept in found} == {("damaged", ("base",))}

    prune(store, Rules())
    assert not there(store)
    assert not list((store.root / "builds").iterdir())


def test_older_versions_of_a_package_are_removed(store: Store) -> None:
    debs = store.packages("trixie")
    for name, age_s in (("bash_5.2-1_amd64.deb", 9), ("bash_5.2-10_amd64.deb", 5), ("bash-doc_5.2-1_all.deb", 9)):
        (debs / name).write_text("x")
        age(debs / name, age_s)
    (debs / "lock").touch()

    prune(store, Rules())

    assert sorted(path.name for path in debs.iterdir()) == ["bash-doc_5.2-1_all.deb", "bash_5.2-10_amd64.deb", "lock"]


def test_packages_of_an_rpm_family_are_listed_and_removed_with_their_repository(store: Store) -> None:
    debs = store.packages("42")
    for name in ("repository-1/packages/bash.rpm", "repository-1/repodata/repomd.xml", "repository-2/x86_64/dash.rpm"):
        (debs / name).parent.mkdir(parents=True)
        (debs / name).write_bytes(os.urandom(8192))
    (debs / "partial").mkdir()
    age(debs, 9 * DAY_S)

    found = survey(store).items
    gone = prune(store, Rules(older_than_s=8 * DAY_S))

    assert [(item.kind, item.name) for item in found] == [
        (StoreKind.PACKAGES, "42/repository-1"),
        (StoreKind.PACKAGES, "42/repository-2"),
    ]
    assert found[0].size_bytes > found[1].size_bytes >= 8192
    assert removed(gone) == {"42/repository-1", "42/repository-2"}
    assert [path.name for path in debs.iterdir()] == ["partial"]


def test_work_of_dead_builds_is_removed_and_files_being_written_stay(store: Store) -> None:
    add(store, "one")
    (store.root / "tmp" / "dead" / "tree").mkdir(parents=True)
    half_made, in_the_making = store.root / "builds" / ".x.json.abc", store.root / "layers" / ".y.json.def"
    for path in (half_made, in_the_making):
        path.touch()
    age(half_made, 2 * 3600)

    assert {removal.reason for removal in prune(store, Rules())} == {"left by a build that died", "half made"}
    assert not list((store.root / "tmp").iterdir())
    assert not half_made.exists()
    assert in_the_making.exists()


# Removed on request


def test_a_limit_of_age_removes_what_was_not_used_since(store: Store) -> None:
    add(store, "old", version="1", age_s=40 * DAY_S)
    add(store, "new", version="2", age_s=20 * DAY_S)
    (store.root / "logs").mkdir()
    for name in ("base-pack.log", "base-initrd.log"):
        (store.root / "logs" / name).touch()
    age(store.root / "logs" / "base-pack.log", 40 * DAY_S)

    prune(store, Rules(older_than_s=30 * DAY_S))

    assert there(store) == {"new", "first-new", "second-new"}
    assert [path.name for path in (store.root / "logs").iterdir()] == ["base-initrd.log"]


def test_a_note_that_builds_still_read_outlives_its_tar(store: Store) -> None:
    add(store, "old", age_s=40 * DAY_S)
    assert store.built("old")
    assert store.layer_note("first-old")

    prune(store, Rules(older_than_s=30 * DAY_S))

    assert there(store) == {"old"}
    assert store.layer_note("first-old")


def test_a_limit_of_size_removes_the_least_recently_used(store: Store) -> None:
    for days in (4, 3, 2, 1):
        add(store, f"{days}", version=f"{days}", age_s=days * DAY_S)
    before = survey(store)
    size_of_one = sum(kept.size_bytes for kept in before.items if kept.kind.is_large) // 4

    prune(store, Rules(max_bytes=before.size_bytes - 2 * size_of_one))

    assert survey(store).size_bytes <= before.size_bytes - 2 * size_of_one
    assert {name for name in there(store) if name.isdecimal()} == {"1", "2"}


def test_an_image_is_removed_with_all_its_items_and_no_others(store: Store) -> None:
    add(store, "a", image="base")
    add(store, "b", image="base-bookworm")
    for image in ("base", "base-bookworm"):
        store.log(image, "pack")

    prune(store, Rules(images=("base",)))

    assert there(store) == {"b", "first-b", "second-b"}
    assert [path.name for path in (store.root / "logs").iterdir()] == ["base-bookworm-pack.log"]


def test_a_layer_that_two_images_share_is_removed_with_the_last_of_them(store: Store) -> None:
    add(store, "a", image="base")
    with store.workfolder():
        kvm = add(store, "b", image="kvm")
    store.remember_build("b", kvm, ["first-a", "second-b"])

    prune(store, Rules(images=("base",)))
    assert store.layer("first-a")
    assert not store.layer("second-a")

    prune(store, Rules(images=("kvm",)))
    assert not store.layer("first-a")


def test_a_dry_run_lists_items_and_removes_none(store: Store) -> None:
    add(store, "one")

    done = bootproof(store, "prune", "--image", "base", "--dry-run")

    assert done.returncode == 0
    assert "would remove" in done.stdout
    assert there(store) == {"one", "first-one", "second-one"}


# Never removed


def test_what_another_process_holds_stays_until_that_process_has_ended(store: Store) -> None:
    artifacts = add(store, "one")

    with another_process(store, HOLD, str(artifacts.folder)) as child:
        assert "in use by a run or a boot" in bootproof(store).stdout
        done = bootproof(store, "prune", "--image", "base")
        assert done.returncode == 0
        assert f"stays    artifacts  {artifacts.digest[:12]}" in done.stdout
        assert load_artifacts(artifacts.folder) == artifacts
        child.kill()
        child.wait()
        bootproof(store, "prune", "--image", "base")

    assert not artifacts.folder.exists()


def test_to_hold_is_to_use(store: Store) -> None:
    artifacts = add(store, "one", age_s=40 * DAY_S)

    with ExitStack() as until:
        store.hold(lambda: artifacts, until)

    assert artifacts.digest not in removed(prune(store, Rules(older_than_s=30 * DAY_S)))
    assert store.built("one")


def test_while_a_build_is_at_work_layers_and_packages_stay(store: Store) -> None:
    artifacts = add(store, "one")
    (store.packages("trixie") / "bash_1_all.deb").write_text("x")

    with another_process(store, BUILD):
        removals = prune(store, Rules(max_bytes=0))

    assert removed(removals) == {artifacts.digest}
    assert {removal.why_kept for removal in removals if removal.why_kept} == {"in use by a build"}
    assert store.layer("first-one")
    prune(store, Rules(max_bytes=0))
    assert not store.layer("first-one")


def test_a_prune_that_comes_between_finding_and_holding_makes_it_be_built_again(store: Store) -> None:
    calls = list[Artifacts]()

    def make() -> Artifacts:
        found = store.built("one") or add(store, "one")
        if not calls:
            prune(store, Rules(images=("base",)))
        calls.append(found)
        return found

    with ExitStack() as until:
        held = store.hold(make, until)
        assert len(calls) == 2
        assert load_artifacts(held.folder) == held
        assert held.digest not in removed(prune(store, Rules(images=("base",))))


def test_held_artifacts_that_lie_elsewhere_are_not_touched(store: Store, tmp_path: Path) -> None:
    artifacts = add(store, "one")
    elsewhere = replace(artifacts, folder=tmp_path / "elsewhere")
    artifacts.folder.rename(elsewhere.folder)
    before = elsewhere.folder.stat()

    with ExitStack() as until:
        assert store.hold(lambda: elsewhere, until) == elsewhere
        assert elsewhere.folder.stat() == before


def test_a_prune_killed_at_any_moment_leaves_whole_things_and_the_next_one_finishes(store: Store) -> None:
    for number in range(25):
        add(store, f"{number:02}", version=f"{number}")

    with another_process(store, PRUNES) as prunes:
        assert prunes.stdin
        assert prunes.stdout
        for delay_s in (0.0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.012):
            print(file=prunes.stdin, flush=True)
            child = int(prunes.stdout.readline())
            time.sleep(delay_s)
            os.kill(child, signal.SIGKILL)
            assert prunes.stdout.readline() == "ended\n"
            for folder in (store.root / "artifacts").iterdir():
                load_artifacts(folder)

    prune(store, Rules(max_bytes=0))
    prune(store, Rules())
    for name in ("artifacts", "builds", "layers", "tmp"):
        assert not list((store.root / name).iterdir())


# Options and output


def test_looking_writes_nothing(store: Store) -> None:
    for arguments in ((), ("--json",), ("prune",), ("prune", "--dry-run")):
        assert bootproof(store, *arguments).returncode == 0
    assert not store.root.exists()


def test_scripts_get_everything_with_its_paths(store: Store) -> None:
    artifacts = add(store, "one")

    found = json.loads(bootproof(store, "--json").stdout)

    (row,) = [row for row in found["items"] if row["kind"] == "artifacts"]
    assert row["name"] == artifacts.digest
    assert row["paths"] == [str(artifacts.folder)]
    assert set(row) == set(StoreItem.__dataclass_fields__)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--image", "bas"), "the store has nothing of it; known: base"),
        (("--older-than", "30"), "--older-than 30 is not valid; write it like 30d"),
        (("--max-size", "20GB"), "--max-size 20GB is not valid; write it like 20G"),
    ],
)
def test_a_wrong_option_is_one_sentence(store: Store, arguments: tuple[str, ...], problem: str) -> None:
    add(store, "one")

    done = bootproof(store, "prune", *arguments)

    assert done.returncode == 4
    assert problem in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_store_that_is_read_only_is_shown_and_not_pruned(store: Store) -> None:
    artifacts = add(store, "one")
    bind = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", bind, "sh", str(store.root)]
    argv += [sys.executable, "-m", "harness", "store"]
    env = os.environ | {"BOOTPROOF_STORE": str(store.root)}

    shown = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    pruned = subprocess.run([*argv, "prune", "--image", "base"], env=env, capture_output=True, text=True, check=False)

    assert artifacts.digest[:12] in shown.stdout
    assert pruned.returncode == 75
    assert "Read-only file system" in pruned.stderr
    assert len(pruned.stderr.splitlines()) == 1


def test_ages_and_sizes_are_written_with_their_unit() -> None:
    assert parse_age("1.5h") == 5400
    assert parse_age("2w") == 14 * DAY_S
    assert parse_size("20G") == 20 << 30
    with pytest.raises(UsageError):
        parse_size("G")
