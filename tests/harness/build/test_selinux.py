"""Labels of SELinux: an image that could not start with them is not made."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build.pack import check_labels
from harness.core.errors import ImageError
from harness.model.definition import ImageDefinition

ENFORCING = "# a policy\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc/selinux").mkdir(parents=True)
    (tree / "usr").mkdir()
    (tree / "etc/selinux/config").write_text(ENFORCING)
    return tree


@pytest.mark.parametrize(
    "config",
    [
        ENFORCING,
        "SELINUX=Enforcing\n",
        "SELINUX= enforcing\n",
        "SELINUX=enforcing # on\n",
        "SELINUX=enforcing\nSELINUX=disabled\n",
    ],
)
def test_a_tree_without_labels_is_refused(config: str, tree: Path, definition: ImageDefinition) -> None:
    (tree / "etc/selinux/config").write_text(config)

    with pytest.raises(ImageError, match="the files of its root file system have no labels"):
        check_labels(definition, tree)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets labels where no policy is loaded")
def test_data_without_labels_is_refused_and_labels_of_a_stateless_image_are_enough(
    tree: Path, definition: ImageDefinition
) -> None:
    os.setxattr(tree / "usr", "security.selinux", b"system_u:object_r:usr_t:s0\0")

    with pytest.raises(ImageError, match="role persist makes /data without labels"):
        check_labels(definition, tree)
    check_labels(replace(definition, persistent_paths=()), tree)


@pytest.mark.parametrize(
    "config", [None, "SELINUX=permissive\n", "#SELINUX=enforcing\nSELINUX=Disabled\nSELINUX=enforcing\n"]
)
def test_where_selinux_does_not_enforce_labels_are_not_needed(
    config: str | None, tree: Path, definition: ImageDefinition
) -> None:
    file = tree / "etc/selinux/config"
    file.unlink() if config is None else file.write_text(config)

    check_labels(definition, tree)


def test_a_kernel_argument_may_say_so(tree: Path, definition: ImageDefinition) -> None:
    check_labels(replace(definition, kernel_arguments=("enforcing=0",)), tree)
