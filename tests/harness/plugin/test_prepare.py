"""What a host of a run in shards boots: exactly the artifacts of the plan, from its store or from a tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build.pipeline import Silent
from harness.core.errors import UsageError
from harness.machine.states import Versions
from harness.model.artifacts import Artifacts, InTree
from harness.model.machine_spec import BootPath
from harness.model.shard import Collected, ImagePlan, Shard, ShardPlan
from harness.plugin.options import RunOptions
from harness.plugin.prepare import Source, choose_versions
from harness.promotion.push import push
from harness.runs.folder import Run
from harness.store.store import Store

from ..proven import Proven
from ..replay.test_bundle import BASE
from ..web_server import serving
from .conftest import RunPytest

pytest_plugins = ["pytester"]

SITE = replace(BASE, name="site")


@pytest.fixture
def proven(tmp_path: Path) -> Proven:
    return Proven(tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with ExitStack() as until:
        yield Source(definition=SITE, store=Store(tmp_path / "store"), progress=Silent(), until=until)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run", "main")


def plan_of(old: Artifacts, new: Artifacts, newest: Artifacts) -> ShardPlan:
    versions = {"old": old.digest, "new": new.digest, "newest": newest.digest}
    image = ImagePlan(
        definition=SITE, boot_paths=(BootPath.DIRECT,), is_thorough=False, digests={"artifacts": old.digest},
        versions=versions, tests=(),
    )  # fmt: skip
    collected = Collected(images=(image,), settings={}, boot_s=60.0, lanes=2)
    return ShardPlan(options=(), collected=collected, shards=(Shard(tests=(), expected_s=0.0),))


def options_of(plan: ShardPlan | None, artifacts: Path | InTree | None = None) -> RunOptions:
    return RunOptions(definitions={"site": SITE}, plan=plan, shard=1, artifacts=artifacts)


def tree_with(proven: Proven, *artifacts: Artifacts) -> str:
    for one in artifacts:
        push(one, str(proven.tree.root))
    return str(proven.tree.root)


def digests(versions: Versions) -> list[str]:
    return [one.digest for one in (versions.under_test, versions.old, versions.new, versions.newest)]


def test_all_versions_of_the_plan_come_from_the_tree_and_then_from_the_store(
    proven: Proven, source: Source, run: Run
) -> None:
    one, two, three = (proven.artifacts(version) for version in ("1", "2", "3"))
    tree, plan = tree_with(proven, one, two, three), plan_of(one, two, three)

    brought = choose_versions(source, options_of(plan, InTree(tree=tree, digest=one.digest[:8])), run)
    found = choose_versions(source, options_of(plan), run)

    assert digests(brought) == [one.digest, one.digest, two.digest, three.digest]
    assert found == brought
    assert all(path.parent == source.store.root / "artifacts" for path in (brought.new.folder, brought.newest.folder))


def test_a_version_that_the_tree_lacks_is_named_with_the_command_that_sends_it(
    proven: Proven, source: Source, run: Run
) -> None:
    one, two = proven.artifacts("1"), proven.artifacts("2")
    place = InTree(tree=tree_with(proven, one), digest=one.digest)

    with pytest.raises(UsageError, match=f"has no artifacts {two.digest[:12]}; .*: bootproof push {two.digest} TREE"):
        choose_versions(source, options_of(plan_of(one, two, two), place), run)


def test_other_artifacts_than_those_of_the_plan_are_refused_with_the_commands_that_bring_them(
    proven: Proven, source: Source, run: Run
) -> None:
    one, two, other = (proven.artifacts(version) for version in ("1", "2", "3"))

    with pytest.raises(UsageError) as refused:
        choose_versions(source, options_of(plan_of(one, two, two), other.folder), run)

    assert f"--plan is about the artifacts {one.digest[:12]} of site, this host has {other.digest[:12]}" in str(
        refused.value
    )
    assert f"bootproof push {one.digest} {two.digest} TREE; here: pytest --artifacts TREE@{one.digest}" in str(
        refused.value
    )


def test_a_digest_that_is_not_of_the_plan_is_refused_before_anything_is_fetched(
    proven: Proven, source: Source, run: Run
) -> None:
    one, two = proven.artifacts("1"), proven.artifacts("2")
    place = InTree(tree="http://192.0.2.1", digest=two.digest)

    with pytest.raises(UsageError, match=f"--plan is not about the artifacts {two.digest[:12]}, but about"):
        choose_versions(source, options_of(plan_of(one, one, one), place), run)


def test_a_folder_is_taken_in_and_compared_with_the_plan(proven: Proven, source: Source, run: Run) -> None:
    one = proven.artifacts("1")

    versions = choose_versions(source, options_of(plan_of(one, one, one), one.folder), run)

    assert digests(versions) == [one.digest] * 4


def test_without_a_plan_artifacts_of_a_tree_are_tested_as_those_of_a_folder_are(
    proven: Proven, source: Source, run: Run
) -> None:
    one, two = proven.artifacts("1"), proven.artifacts("2")
    tree = tree_with(proven, one, two)
    options = options_of(None, InTree(tree=tree, digest=two.digest))

    alone = choose_versions(source, options, run)
    upgraded = choose_versions(source, replace(options, previous=InTree(tree=tree, digest=one.digest)), run)

    assert digests(alone) == [two.digest] * 4
    assert digests(upgraded) == [two.digest, one.digest, two.digest, two.digest]
    assert upgraded.under_test.folder.parent == source.store.root / "artifacts"


def test_a_run_whose_artifacts_cannot_be_brought_says_why_in_a_sentence(
    run_pytest: RunPytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "tree").mkdir()
    common = ("-n0", "--image", "base", f"--run-dir={tmp_path}/runs", "--boot-path", "direct")
    with serving(tmp_path / "tree") as web:
        status, said = run_pytest(*common, f"--artifacts={web.url}@{'1' * 64}")
    assert (status, said.count("has no artifacts 111111111111; send them from a host that has them")) == (4, 1), said

    status, said = run_pytest(*common, f"--artifacts={web.url}@{'1' * 64}")

    assert status == 75, said
    assert "cannot be fetched: curl: (7)" in said
    assert "Traceback" not in said
