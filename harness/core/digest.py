"""SHA-256 digests of files, folders and values."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from pathlib import Path
from typing import Any


def of_file(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_bytes(content: bytes) -> str:
    """SHA-256 of the bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def of_value(value: Any) -> str:
    """SHA-256 of a JSON value in a canonical form, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def of_folder(folder: Path) -> str:
    """SHA-256 of names, executable bits, link targets and contents below ``folder``, in hex."""
    rows = []
    for name, path in sorted((_utf8(path.relative_to(folder)).split("/"), path) for path in folder.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        if path.is_symlink():
            rows.append(["/".join(name), "link", _utf8(path.readlink())])
        elif path.is_file():
            rows.append(["/".join(name), "x" if path.stat().st_mode & 0o100 else "-", of_file(path)])
    return of_value(rows)


def of_package(folder: Path, *, without: str) -> str:
    """SHA-256 of the Python files below ``folder``, except in its folder ``without``, in hex.

    Links are followed: a checkout, where parts of the package are links, has the same digest as its wheel.
    """
    names = [
        name for name in glob.glob("**/*.py", root_dir=folder, recursive=True) if not name.startswith(f"{without}/")
    ]
    return of_value([[name, of_file(folder / name)] for name in sorted(names)])


def _utf8(path: Path) -> str:
    """The same in every locale: file names are bytes."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")
