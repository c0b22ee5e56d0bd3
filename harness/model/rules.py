"""Rules that an image definition makes for a ready host, besides those of Bootproof: commands, and goss files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.core.text import escaped


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCheck:
    """``command``, for sh(1), must end with status 0 on a ready host, and the regular expression ``expect`` must match
    a part of what it prints; an empty one matches everything. ``cause`` is the suspected cause if it does not."""

    name: str
    command: str
    expect: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GossResource:
    """A resource of the goss file ``file``: ``kind`` as "file", ``key`` as the file has it.

    ``about`` is the path, name or command that it is about. ``wanted`` maps attributes to matchers, the one that says
    whether it exists first: see `goss_matchers`. ``title`` is its author's. One with ``skip`` is not looked at. A
    command must end within ``timeout_s``.
    """

    file: str
    kind: str
    key: str
    about: str
    wanted: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    skip: bool = False
    timeout_s: float = 10.0

    @property
    def name(self) -> str:
        """Unique in a definition, and printable."""
        return escaped(f"{self.file} {self.kind}:{self.key}")
