"""Artifacts come to a host once, by digest, each byte verified; what goes wrong on the way is one sentence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build.pipeline import Silent
from harness.core import serialization
from harness.core.errors import BootproofError, HostError, UsageError
from harness.core.process import find
from harness.model.artifacts import MANIFEST, Artifacts, InTree, describe, load_artifacts
from harness.promotion.bring import bring
from harness.promotion.push import push
from harness.store.inventory import StoreKind, survey
from harness.store.prune import Rules, prune
from harness.store.store import Store

from ..proven import Proven
from ..web_server import ENDLESS_BYTES, Web, serving

ROOTFS = bytes(range(256)) * 4000
KINDS = ["folder", "http", pytest.param("rclone", marks=pytest.mark.skipif(not find("rclone"), reason="no rclone"))]

BRINGS = """
import sys
from pathlib import Path
from harness.build.pipeline import Silent
from harness.model.artifacts import InTree
from harness.promotion.bring import bring
from harness.store.store import Store
bring(InTree(tree=sys.argv[1], digest=sys.argv[2]), "site", Store(Path(sys.argv[3])), Silent())
"""


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Proven(tmp_path).artifacts(rootfs=ROOTFS)


@pytest.fixture
def tree(tmp_path: Path, artifacts: Artifacts) -> Path:
    push(artifacts, str(tmp_path / "tree"))
    return tmp_path / "tree"


@pytest.fixture
def web(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(tree) as served:
        yield served


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tree: Path) -> str:
    """The tree by each way."""
    if request.param == "http":
        return str(request.getfixturevalue("web").url)
    return {"folder": str(tree), "rclone": f":local:{tree}"}[request.param]


def brought(place: str, digest: str, store: Store) -> Artifacts:
    return bring(InTree(tree=place, digest=digest), "site", store, Silent())


def refusal(place: str, digest: str, store: Store, kind: type[BootproofError] = HostError) -> str:
    """The one sentence; nothing is in the store then."""
    with pytest.raises(kind) as refused:
        brought(place, digest, store)
    assert "\n" not in str(refused.value)
    assert not list((store.root / "artifacts").glob("*"))
    return str(refused.value)


def published(tree: Path, artifacts: Artifacts) -> Path:
    return tree / "artifacts" / artifacts.digest


def spoil(file: Path, content: bytes) -> None:
    file.chmod(0o644)
    file.write_bytes(content)


def test_artifacts_are_in_the_store_as_they_were_pushed(place: str, artifacts: Artifacts, store: Store) -> None:
    got = brought(place, artifacts.digest, store)

    assert got.folder == store.root / "artifacts" / artifacts.digest
    for name in (*artifacts.manifest.files, MANIFEST):
        assert (got.folder / name).read_bytes() == (artifacts.folder / name).read_bytes()
        assert (got.folder / name).stat().st_mode & 0o777 == 0o444
    assert not list((store.root / "incoming").iterdir())


def test_they_come_once(web: Web, artifacts: Artifacts, store: Store) -> None:
    brought(web.url, artifacts.digest, store)
    asked = list(web.asked)
    assert len(asked) == 4

    brought(web.url, artifacts.digest, store)
    brought(web.url, artifacts.digest[:8], store)

    assert web.asked == asked


def test_damaged_ones_come_again(place: str, artifacts: Artifacts, store: Store) -> None:
    spoil(brought(place, artifacts.digest, store).kernel, b"Kernel1")

    assert brought(place, artifacts.digest, store).kernel.read_bytes() == b"kernel1"


def test_a_digest_may_be_abbreviated_where_the_tree_can_be_listed(
    tree: Path, web: Web, artifacts: Artifacts, store: Store
) -> None:
    assert "a web server lists no artifacts; give all 64 digits" in refusal(
        web.url, artifacts.digest[:12], store, UsageError
    )
    assert brought(str(tree), artifacts.digest[:12], store).digest == artifacts.digest


@pytest.mark.skipif(not find("rclone"), reason="no rclone")
def test_a_digest_may_be_abbreviated_for_rclone(tree: Path, artifacts: Artifacts, store: Store) -> None:
    assert "has no artifacts 00000000" in refusal(f":local:{tree}", "0" * 8, store, UsageError)
    assert brought(f":local:{tree}", artifacts.digest[:12], store).digest == artifacts.digest


def test_a_beginning_of_two_digests_is_refused(tree: Path, artifacts: Artifacts, store: Store) -> None:
    (tree / "artifacts" / (artifacts.digest[:12] + "0" * 52)).mkdir()
    (tree / "artifacts" / f"{artifacts.digest[:12]}-copy").mkdir()

    assert "has 2 artifacts" in refusal(str(tree), artifacts.digest[:12], store, UsageError)


def test_a_transfer_that_breaks_off_again_and_again_continues_where_it_was(
    web: Web, artifacts: Artifacts, store: Store
) -> None:
    web.breaks_after = len(ROOTFS) // 5

    assert brought(web.url, artifacts.digest, store).rootfs.read_bytes() == artifacts.rootfs.read_bytes()

    ranges = [wanted for path, wanted in web.asked if path.endswith("squashfs")]
    assert ranges == ["", *(f"bytes={web.breaks_after * number}-" for number in range(1, 6))]
    assert web.sent < 1.01 * sum((artifacts.folder / n).stat().st_size for n in (*artifacts.manifest.files, MANIFEST))


def test_a_server_that_cannot_continue_and_breaks_off_is_given_up(web: Web, artifacts: Artifacts, store: Store) -> None:
    web.breaks_after, web.has_ranges = len(ROOTFS) // 2, False

    assert "rootfs.squashfs cannot be fetched: curl: (18)" in refusal(web.url, artifacts.digest, store)


def test_a_server_without_ranges_sends_the_whole_file_again(web: Web, artifacts: Artifacts, store: Store) -> None:
    (store.folder(f"incoming/{artifacts.digest}") / "vmlinuz").write_bytes(b"kern")
    web.has_ranges = False

    assert brought(web.url, artifacts.digest, store).kernel.read_bytes() == b"kernel1"
    assert [wanted for path, wanted in web.asked if path.endswith("vmlinuz")] == ["bytes=4-", ""]


def test_the_next_run_continues_what_a_killed_one_received(web: Web, artifacts: Artifacts, store: Store) -> None:
    web.breaks_after, web.stalls = len(ROOTFS) // 3, threading.Event()
    begun = store.root / "incoming" / artifacts.digest / "rootfs.squashfs"
    with subprocess.Popen([sys.executable, "-c", BRINGS, web.url, artifacts.digest, str(store.root)]) as child:
        while not (begun.exists() and begun.stat().st_size):
            assert child.poll() is None
            time.sleep(0.01)
        child.kill()
    web.stalls.set()
    web.breaks_after, before = 0, len(web.asked)

    brought(web.url, artifacts.digest, store)

    (_, whole), (path, wanted) = web.asked[before:]
    assert (whole, path.rpartition("/")[2]) == ("", "rootfs.squashfs")
    assert 0 < int(wanted.removeprefix("bytes=").rstrip("-")) <= len(ROOTFS) // 3


def test_wrong_bytes_of_an_earlier_try_are_received_again(place: str, artifacts: Artifacts, store: Store) -> None:
    begun = store.folder(f"incoming/{artifacts.digest}")
    (begun / "vmlinuz").write_bytes(b"Kern")
    (begun / "initrd.img").write_bytes(b"longer than it should be")

    assert brought(place, artifacts.digest, store).kernel.read_bytes() == b"kernel1"


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda files: spoil(files / "vmlinuz", b"Kernel1"), "vmlinuz has other bytes than its manifest says"),
    "too short": (lambda files: spoil(files / "vmlinuz", b"kern"), "vmlinuz has 4 bytes, but 7 by its manifest"),
    "too long": (lambda files: spoil(files / "vmlinuz", b"k" * 99), "vmlinuz "),
    "gone": (lambda files: (files / "initrd.img").unlink(), "initrd.img is missing: the tree was sent in part"),
    "text": (lambda files: spoil(files / MANIFEST, b"<html>"), "manifest.json is not a manifest: "),
    "no UTF-8": (lambda files: spoil(files / MANIFEST, b"\xff\xfe\x00"), "manifest.json is not a manifest: "),
    "deep": (lambda files: spoil(files / MANIFEST, b"[" * 200_000), "manifest.json is not a manifest: "),
    "a list": (lambda files: spoil(files / MANIFEST, b"[]"), "manifest.json is not a manifest: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_differs_from_the_manifest_is_refused(
    place: str, tree: Path, artifacts: Artifacts, store: Store, name: str
) -> None:
    damage, said = WRONG[name]
    damage(published(tree, artifacts))

    assert said in refusal(place, artifacts.digest, store)


def test_the_manifest_of_other_artifacts_is_refused(place: str, tree: Path, artifacts: Artifacts, store: Store) -> None:
    other = replace(artifacts.manifest, version="2")
    spoil(published(tree, artifacts) / MANIFEST, json.dumps(serialization.dump(other)).encode())

    assert "is the manifest of other artifacts" in refusal(place, artifacts.digest, store)


@pytest.mark.parametrize("name", ["../../escaped", "a/b", ".hidden", MANIFEST])
def test_a_name_leads_nowhere_else(place: str, tree: Path, artifacts: Artifacts, store: Store, name: str) -> None:
    hostile = replace(artifacts.manifest, files={**artifacts.manifest.files, name: describe(artifacts.kernel)})
    folder = tree / "artifacts" / hostile.digest
    folder.mkdir()
    serialization.write(folder / MANIFEST, hostile)

    assert f"lists {name!r}, which is not a valid name" in refusal(place, hostile.digest, store, UsageError)
    assert not list(store.root.parent.rglob("escaped"))


def test_a_server_that_refuses_every_range_does_not_keep_the_host_busy(
    web: Web, artifacts: Artifacts, store: Store
) -> None:
    (store.folder(f"incoming/{artifacts.digest}") / "vmlinuz").write_bytes(b"kern")
    spoil(published(web.root, artifacts) / "vmlinuz", b"k")  # 416 for what is beyond its end

    assert "vmlinuz has 1 bytes, but 7 by its manifest" in refusal(web.url, artifacts.digest, store)


@pytest.mark.parametrize("name", ["vmlinuz", "manifest.json"])
def test_an_endless_answer_ends_when_it_is_too_long(web: Web, artifacts: Artifacts, store: Store, name: str) -> None:
    web.endless = name

    said = refusal(web.url, artifacts.digest, store)

    assert ("has more than the 7 bytes" if name == "vmlinuz" else "it has more than 16 MiB") in said
    assert web.sent < ENDLESS_BYTES


def test_artifacts_that_the_tree_lacks_are_named_with_the_command_that_sends_them(place: str, store: Store) -> None:
    said = refusal(place, "1" * 64, store, UsageError)

    assert f"has no artifacts 111111111111; send them from a host that has them: bootproof push {'1' * 64}" in said


def test_artifacts_of_another_image_are_refused(place: str, artifacts: Artifacts, store: Store) -> None:
    with pytest.raises(UsageError, match="are of the image site, not of base"):
        bring(InTree(tree=place, digest=artifacts.digest), "base", store, Silent())


def test_a_server_that_is_not_there_is_the_hosts_problem_and_a_password_is_not_shown(store: Store) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen; a port that is free may be another test's soon
        said = refusal(f"http://ann:secret@127.0.0.1:{silent.getsockname()[1]}", "1" * 64, store)

    assert "cannot be fetched: curl: (7)" in said
    assert "secret" not in said


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, store: Store) -> None:
    assert "none does not exist: expected a folder" in refusal(str(tmp_path / "none"), "1" * 64, store, UsageError)


def test_two_processes_bring_them_once(web: Web, artifacts: Artifacts, store: Store) -> None:
    argv = [sys.executable, "-c", BRINGS, web.url, artifacts.digest, str(store.root)]
    children = [subprocess.Popen(argv) for _ in range(3)]

    assert [child.wait() for child in children] == [0, 0, 0]
    assert len(web.asked) == 4


def test_prune_leaves_a_transfer_that_may_continue_and_removes_an_old_one(artifacts: Artifacts, store: Store) -> None:
    folder = store.folder(f"incoming/{artifacts.digest}")
    file = folder / "vmlinuz"
    file.write_bytes(b"kern")
    assert prune(store, Rules()) == []

    for path in (file, folder):
        os.utime(path, (0, 0))
    (removed,) = prune(store, Rules())

    assert (removed.item.kind, removed.reason) == (StoreKind.INCOMING, "a transfer that was not continued")
    assert not folder.exists()
    assert survey(store).items == ()


def test_what_tree_and_digest_are_together() -> None:
    assert InTree.read("https://ann@host/x/@" + "a" * 64) == InTree(tree="https://ann@host/x", digest="a" * 64)
    assert InTree.read("there:images@12345678") == InTree(tree="there:images", digest="12345678")
    assert InTree.read("nova-kvm@2026.11") is None
    assert InTree.read("@" + "a" * 64) is None


# Push


def test_push_says_what_was_there(place: str, tmp_path: Path, artifacts: Artifacts) -> None:
    if place.startswith("http"):
        with pytest.raises(UsageError, match="a web server cannot be written"):
            push(artifacts, place)
        return
    fresh = place.replace(str(tmp_path / "tree"), str(tmp_path / "fresh"))

    assert push(artifacts, fresh)
    assert not push(artifacts, fresh)
    assert load_artifacts(published(tmp_path / "fresh", artifacts)) == replace(
        artifacts, folder=published(tmp_path / "fresh", artifacts)
    )


def test_an_interrupted_push_looks_like_nothing_and_is_completed(
    place: str, tree: Path, artifacts: Artifacts, store: Store
) -> None:
    """Of a remote, the manifest is sent last."""
    if place.startswith("http"):
        return
    if place.startswith(":local:"):
        (published(tree, artifacts) / MANIFEST).unlink()
        spoil(published(tree, artifacts) / "vmlinuz", b"ker")
        refusal(place, artifacts.digest, store, UsageError)
        assert push(artifacts, place)

    assert brought(place, artifacts.digest, store).digest == artifacts.digest


def test_bytes_that_changed_since_the_build_are_not_pushed(artifacts: Artifacts, tmp_path: Path) -> None:
    spoil(artifacts.kernel, b"Kernel1")
    with pytest.raises(UsageError, match="vmlinuz was changed"):
        push(artifacts, str(tmp_path / "other"))
    assert not (tmp_path / "other" / "artifacts").exists()


def test_a_damaged_copy_in_the_tree_is_noticed_by_the_next_push(place: str, tree: Path, artifacts: Artifacts) -> None:
    if place.startswith("http"):
        return
    spoil(published(tree, artifacts) / "vmlinuz", b"Kernel1")

    with pytest.raises(BootproofError, match="vmlinuz"):
        push(artifacts, place)
