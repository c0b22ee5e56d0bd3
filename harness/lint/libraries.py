"""Finds the libraries of a program as ld.so(8) does."""

from __future__ import annotations

from harness.lint.elf import Program
from harness.lint.tree import Tree

_LIBRARY_FOLDERS = ("lib", "usr/lib", "lib64", "usr/lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
_CAPABILITY_FOLDERS = ("", "/glibc-hwcaps/x86-64-v2", "/glibc-hwcaps/x86-64-v3")


def search_folders(tree: Tree) -> tuple[str, ...]:
    """The folders of ld.so(8), from ld.so.conf and the built-in ones."""
    texts = [tree.text(path) or "" for path in ("etc/ld.so.conf", *sorted(tree.inside("etc/ld.so.conf.d")))]
    listed = [line.strip("/ \t") for text in texts for line in text.splitlines() if line.startswith("/")]
    found = [tree.resolve(folder) for folder in (*listed, *_LIBRARY_FOLDERS)]
    return tuple(dict.fromkeys(folder for folder in found if folder is not None))


def find_library(tree: Tree, library: str, program: Program, folders: tuple[str, ...], path: str = "") -> str | None:
    """The path of a library that ``program`` at ``path`` needs."""
    if "/" in library:
        return tree.resolve(library)

    def fits(found: str) -> bool:
        other = tree.programs.get(found)
        if other is None and found in tree.files and not tree.files[found].size_bytes:
            return False
        return other is None or (other.machine, other.bits) == (program.machine, program.bits)

    origin = path.rpartition("/")[0]
    own = (folder.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for folder in program.search if folder)
    places = (f"{folder}{more}/{library}" for folder in (*own, *folders) for more in _CAPABILITY_FOLDERS)
    return next((found for place in places if (found := tree.resolve(place)) and fits(found)), None)
