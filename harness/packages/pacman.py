"""pacman's database, as on Arch Linux: a folder for each package, with the files ``desc`` and ``files``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.packages.database import NO_FILES, owned

_LOCAL = "var/lib/pacman/local"
_DESC = re.compile(rf"{_LOCAL}/[^/]+/desc")
_OWNED = re.compile(rf"{_LOCAL}/([^/]+)-[^/-]+-[^/-]+/files")
"""The name of the folder is NAME-VERSION-RELEASE."""


class Pacman:
    manager = "pacman"
    purl_type = "alpm"
    list_command = ("pacman", "--query")
    files = (_LOCAL,)
    owner_files = _OWNED.pattern
    sum_files = NO_FILES
    caches = r"var/lib/pacman/.*"

    def vendor(self, installed: Mapping[str, str]) -> str:  # noqa: ARG002  # only one distribution has it
        return "arch"

    def purl_version(self, version: str) -> tuple[str, dict[str, str]]:
        return version, {}

    def read_list(self, printed: str) -> dict[str, str]:
        rows = (line.split() for line in printed.splitlines())
        return {row[0]: row[1] for row in rows}

    def read_files(self, files: Mapping[str, bytes]) -> dict[str, str]:
        texts = [_sections(content) for name, content in files.items() if _DESC.fullmatch(name)]
        return {text["NAME"][0]: text["VERSION"][0] for text in texts}

    def owners(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        texts = {found[1]: _sections(text) for name, text in files.items() if (found := _OWNED.fullmatch(name))}
        return owned(((name, path) for name, text in texts.items() for path in text.get("FILES", [])), links)

    def sums(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:  # noqa: ARG002
        return {}  # it has digests of other kinds


def _sections(content: bytes) -> dict[str, list[str]]:
    """Each paragraph is a name between % and its values, a line each."""
    paragraphs = content.decode("utf-8", "surrogateescape").split("\n\n")
    lines = [paragraph.strip().split("\n") for paragraph in paragraphs]
    return {rows[0].strip("%"): rows[1:] for rows in lines}
