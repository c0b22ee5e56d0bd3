"""What is known while a root file system is read, and what is found by then."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from harness.lint import BY_NAMES, BY_TEXTS, IN_PASSING, Check, check
from harness.lint.image import Image
from harness.lint.tree import Look, Stage, Tree

from ...small_image import GOOD, Content, elf, image

UNITS = "etc/systemd/system"
FAULTS: Mapping[str, Content] = {
    "etc/machine-id": "0123456789abcdef\n",
    f"{UNITS}/ssh.service.d/x.conf": "[Service]\nUser=nobody-here\n",
    "usr/bin/tool": "#!/usr/bin/perl\n",
    "usr/bin/agent": elf(("libnone.so.1",)),
    "opt/x": "glpat-" + "a1" * 10,
    "usr/bin/true": elf(("libc.so.6", "libc.so.6")),
}


def found(value: Image, checks: tuple[Check, ...]) -> set[tuple[str, str, str]]:
    return {(one.id, one.path, one.what) for each in checks for one in each(value)}


def early(value: Image, tree: Tree) -> Image:
    return replace(value, root=replace(tree, capabilities={}), initrd=None)


def test_what_is_found_early_is_found_at_the_end_too() -> None:
    """Also by files of which a half was read."""
    value = image(FAULTS)
    whole = found(value, (lambda one: iter(check(one)),))
    paths = sorted(value.root.files)
    for number in range(0, len(paths), 5):
        passed = set(paths[:number])
        tree = replace(
            value.root,
            files={
                path: file if path in passed or path in value.root.texts else replace(file, content="")
                for path, file in value.root.files.items()
            },
            programs={path: one for path, one in value.root.programs.items() if path in passed},
            scripts={path: one for path, one in value.root.scripts.items() if path in passed},
            secrets={path: one for path, one in value.root.secrets.items() if path in passed},
        )
        assert found(early(value, tree), (*BY_NAMES, *BY_TEXTS, *IN_PASSING)) <= whole, paths[number]


def test_texts_are_read_ahead_and_their_digests_are_known() -> None:
    value = image(FAULTS)
    contents = {path: text.encode() for path, text in {**GOOD, **FAULTS}.items() if isinstance(text, str)}
    seen = dict[Stage, Tree]()
    asked = dict[str, int]()

    def ahead(sizes: Mapping[str, int]) -> Mapping[str, bytes]:
        asked.update(sizes)
        return {path: contents[path] for path in sizes}

    unread = {path: replace(file, content="") for path, file in value.root.files.items()}
    Look(seen.__setitem__, ahead).names(unread)

    assert list(seen) == [Stage.NAMES, Stage.TEXTS]
    assert {"etc/machine-id", f"{UNITS}/ssh.service.d/x.conf", "usr/lib/systemd/system/ssh.service"} <= asked.keys()
    assert "usr/bin/tool" not in asked
    text = contents["etc/machine-id"]
    assert seen[Stage.TEXTS].files["etc/machine-id"].content == hashlib.md5(text).hexdigest()
    ids = {name for name, _, _ in found(early(value, seen[Stage.TEXTS]), BY_TEXTS)}
    assert ids == {"builder-identity", "unit-user-missing"}


def test_of_two_archives_of_an_initrd_the_last_with_a_path_counts() -> None:
    files = image({}).root.files
    file, look = files["etc/machine-id"], Look()

    for text in (b"uninitialized\n", b"0123456789abcdef0123456789abcdef\n"):
        look.contents("etc/machine-id", replace(file, size_bytes=len(text)), text)

    assert look.tree(files).text("etc/machine-id") == "0123456789abcdef0123456789abcdef\n"
