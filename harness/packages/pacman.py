"""pacman's database, as on Arch Linux: a folder for each package, with the files ``desc`` and ``files``."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from harness.core.errors import ImageError
from harness.packages.database import Rights, merged, owned

_LOCAL = "var/lib/pacman/local"
_DESC = re.compile(rf"{_LOCAL}/[^/]+/desc")
_OWNED = re.compile(rf"{_LOCAL}/([^/]+)-[^/-]+-[^/-]+/files")
"""The name of the folder is NAME-VERSION-RELEASE."""
_SUMS = re.compile(rf"{_LOCAL}/([^/]+)/mtree")
_MOST_BYTES = 64 << 20


class Pacman:
    manager = "pacman"
    purl_type = "alpm"
    list_command = ("pacman", "--query")
    files = (_LOCAL,)
    owner_files = _OWNED.pattern
    sum_files = _SUMS.pattern
    sum_algorithm = "sha256"
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

    def sums(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        """From mtree(5); names that begin with a dot are the package's own records."""
        texts = [_unpacked(name, content) for name, content in files.items() if _SUMS.fullmatch(name)]
        found = (pair for text in texts for pair in re.findall(r"(?m)^\./(\S+) .*\bsha256digest=([0-9a-f]{64})", text))
        return {merged(_name(path), links): digest for path, digest in found if not path.startswith(".")}

    def rights(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, Rights]:  # noqa: ARG002
        return {}  # it has numbers of owners, and no names


def _unpacked(name: str, content: bytes) -> str:
    """The text of a file of mtree(5) in gzip."""
    try:
        return zlib.decompressobj(31).decompress(content, _MOST_BYTES).decode("utf-8", "surrogateescape")
    except zlib.error as error:
        raise ImageError(f"/{name}: pacman's database is damaged ({error})") from error


def _name(escaped: str) -> str:
    """mtree(5) has blanks and the like as a backslash and three octal digits."""
    plain = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), escaped)
    return plain.encode("latin-1", "replace").decode("utf-8", "replace") if plain != escaped else plain


def _sections(content: bytes) -> dict[str, list[str]]:
    """Each paragraph is a name between % and its values, a line each."""
    paragraphs = content.decode("utf-8", "surrogateescape").split("\n\n")
    lines = [paragraph.strip().split("\n") for paragraph in paragraphs]
    return {rows[0].strip("%"): rows[1:] for rows in lines}
