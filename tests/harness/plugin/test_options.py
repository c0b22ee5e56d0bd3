"""Options of a run: which are refused before anything starts, and what the others mean."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.model.artifacts import InTree
from harness.model.machine_spec import BootPath
from harness.plugin.options import RunOptions, add_options, read_options

ROOT = Path(__file__).parents[3]
TREE = "https://images.example.org/x@" + "a" * 64


class Parser:
    """pytest's parser, as far as `add_options` uses it: collects the defaults."""

    def __init__(self) -> None:
        self.defaults: dict[str, Any] = {}

    def getgroup(self, *_: str) -> Parser:
        return self

    def addoption(self, name: str, **known: Any) -> None:
        default = False if known.get("action") == "store_true" else known.get("default")
        self.defaults[name.removeprefix("--").replace("-", "_")] = default


def read(roots: tuple[Path, ...] = (ROOT,), **given: Any) -> RunOptions:
    parser: Any = Parser()
    add_options(parser)
    return read_options(SimpleNamespace(**{**parser.defaults, "image": ["base"], **given}), roots)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": ["base", "nova-kvm"], "artifacts": "x"}, "--artifacts belong to one image"),
        ({"kernel_arguments": "quiet"}, "--kernel-arguments needs --artifacts"),
        ({"image": ["base", "nova-kvm"], "artifacts": TREE}, "--artifacts belong to one image"),
        ({"kernel_arguments": "quiet", "artifacts": TREE}, "a published tree have a manifest with their arguments"),
        ({"power_cuts": 0, "thorough": True}, "--power-cuts 0: must be at least 1"),
        ({"power_cuts": 20000}, "--power-cuts needs --thorough"),
        ({"soak": 0, "thorough": True}, "--soak 0: must be at least 1"),
        ({"soak": 5}, "--soak needs --thorough"),
        ({"keep_minutes": 0}, "--keep-minutes 0: must be at least 1"),
        ({"repeat": -1}, "--repeat -1: must be at least 1"),
        ({"policy": "/nonexistent"}, "the policy /nonexistent cannot be read: No such file or directory"),
        ({"network_fault": ["tftp-slow"], "boot_path": ["direct"]}, "boot path direct"),
        ({"hardware": "nonexistent"}, "nonexistent"),
        ({"qemu": "/nowhere/qemu"}, "--qemu /nowhere/qemu: /nowhere/qemu is not a program"),
        ({"qemu": "qemu-system-x86_64,thread=all"}, "thread is single or multi, not 'all'"),
    ],
    ids=str,
)
def test_an_option_that_is_not_valid_is_refused_in_one_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(**given)

    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_defaults_test_every_boot_path_of_the_definition_once() -> None:
    options = read()

    assert options.paths_of("base") == options.definitions["base"].boot_paths
    assert (options.repeats, options.is_thorough, options.keep_failed) == (1, False, False)
    assert options.default_path_of("base") in options.paths_of("base")


def test_given_boot_paths_are_the_only_ones() -> None:
    options = read(boot_path=["direct"])

    assert options.paths_of("base") == (BootPath.DIRECT,)


def test_an_image_that_is_given_twice_is_tested_once() -> None:
    assert list(read(image=["base", "nova-kvm", "base"]).definitions) == ["base", "nova-kvm"]


def test_one_in_a_thousand_power_cuts_is_booted_and_two_at_least() -> None:
    assert read().power_cuts == 20000
    assert [read(power_cuts=count, thorough=True).cut_boots for count in (1, 2999, 3000, 20000)] == [2, 2, 3, 20]


def test_a_host_is_soaked_for_ten_minutes_unless_others_are_given() -> None:
    assert [read().soak_minutes, read(soak=60, thorough=True).soak_minutes] == [10, 60]


def test_definitions_are_found_from_the_second_root_if_the_first_has_none(tmp_path: Path) -> None:
    assert list(read(roots=(tmp_path, ROOT)).definitions) == ["base"]


def test_the_digest_of_the_policy_beside_the_images_is_bound_to_the_run(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("")

    assert len(read(policy=str(policy)).policy) == 64


def test_artifacts_are_a_folder_or_of_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd@12345678").mkdir()

    assert read(artifacts=TREE).artifacts == InTree(tree="https://images.example.org/x", digest="a" * 64)
    assert read(previous="s3:images@12345678").previous == InTree(tree="s3:images", digest="12345678")
    assert read(artifacts="odd@12345678").artifacts == tmp_path / "odd@12345678"
    assert read(artifacts="nowhere").artifacts == tmp_path / "nowhere"
