"""apk's database, as on Alpine Linux: one file, a paragraph for each package."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from harness.packages.database import NO_FILES, Rights, merged, owned

_INSTALLED = ("lib/apk/db/installed", "usr/lib/apk/db/installed")


class Apk:
    manager = "apk-tools"
    purl_type = "apk"
    list_command = ("apk", "info", "--verbose")
    files = _INSTALLED
    owner_files = "|".join(_INSTALLED)
    sum_files = NO_FILES
    sum_algorithm = "sha1"
    caches = r"(usr/)?lib/apk/db/.*|etc/apk/world"

    def vendor(self, installed: Mapping[str, str]) -> str:  # noqa: ARG002  # only one distribution has it
        return "alpine"

    def purl_version(self, version: str) -> tuple[str, dict[str, str]]:
        return version, {}

    def read_list(self, printed: str) -> dict[str, str]:
        """Lines NAME-VERSION-rNUMBER."""
        return dict(re.findall(r"^(\S+)-([^-\s]+-r\d+)$", printed, re.MULTILINE))

    def read_files(self, files: Mapping[str, bytes]) -> dict[str, str]:
        paragraphs = [dict(paragraph) for paragraph in _paragraphs(files)]
        return {fields["P"]: fields["V"] for fields in paragraphs if "P" in fields}

    def owners(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        return owned((pair for paragraph in _paragraphs(files) for pair in _files(paragraph)), links)

    def sums(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        """A link has the digest of its target, and no path of a tree with contents."""
        found = (pair for paragraph in _paragraphs(files) for pair in _sums(paragraph))
        return {merged(path, links): digest for path, digest in found}

    def rights(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, Rights]:  # noqa: ARG002
        return {}  # it has numbers of owners, and no names


def _paragraphs(files: Mapping[str, bytes]) -> Iterator[list[tuple[str, str]]]:
    """Lines of a letter, a colon and a value: P is the package, V its version, F a folder, R a file in the last F
    (apk-tools, doc/apk-v2.5.scd and src/database.c)."""
    for name in _INSTALLED:
        for paragraph in files.get(name, b"").decode("utf-8", "surrogateescape").split("\n\n"):
            yield re.findall(r"^([A-Za-z]):(.*)$", paragraph, re.MULTILINE)


def _sums(paragraph: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Z is the digest of the last R: "Q1" and the SHA-1 in base64 (apk-tools, src/database.c)."""
    folder = name = ""
    for key, value in paragraph:
        match key:
            case "F":
                folder = value
            case "R":
                name = value
            case "Z" if value.startswith("Q1"):
                with suppress(ValueError):
                    yield f"{folder}/{name}", base64.b64decode(value[2:], validate=True).hex()


def _files(paragraph: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    package = folder = ""
    for key, value in paragraph:
        match key:
            case "P":
                package = value
            case "F":
                folder = value
                yield package, folder
            case "R":
                yield package, f"{folder}/{value}"
