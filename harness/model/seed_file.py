"""A file that lies on the persistent disk before a machine's first boot, as a deployment tool puts it there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.core.errors import UsageError

_PATH = re.compile(r"(/[^/\s\"'\\]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedFile:
    """A file at ``path``, by the name that services use: below a persistent path of the image. ``owner`` and ``group``
    are users and groups of the image."""

    path: str
    content: bytes
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path) or ".." in self.path.split("/"):
            raise UsageError(f"seed: {self.path!r} is not an absolute path of a file")


def persistent_path_of(file: SeedFile, paths: tuple[str, ...]) -> str:
    """The one of the persistent ``paths`` that has ``file``; `UsageError` if it is in none, so would not be kept."""
    for path in paths:
        if file.path.startswith(f"{path}/"):
            return path
    raise UsageError(
        f"seed: {file.path} is below none of the image's persistent paths", remedy=f"they are: {', '.join(paths)}"
    )
