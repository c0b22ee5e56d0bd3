"""Follows links inside of a tree that was read from an image; nothing outside of the tree is ever looked at."""

from __future__ import annotations

from collections.abc import Mapping

from harness.store.squashfs_tree import TreeFile

_MOST_LINKS = 40
"""path_resolution(7)."""


def resolve(files: Mapping[str, TreeFile], path: str, *, follow: bool = True) -> str | None:
    """The path of the file that ``path`` leads to through links; None if there is none. With ``follow`` false, a link
    at its end is the file."""
    todo, done, links = path.strip("/").split("/")[::-1], list[str](), 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        here = "/".join([*done, part])
        file = files.get(here)
        if file is None:
            return None
        if file.kind == "link" and (todo or follow):
            links += 1
            if links > _MOST_LINKS:
                return None
            if file.target.startswith("/"):
                done = []
            todo += file.target.split("/")[::-1]
        else:
            done.append(part)
    return "/".join(done)
