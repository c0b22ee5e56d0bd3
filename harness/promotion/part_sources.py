"""Where parts of a run come from: folders, archives, URLs."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from harness.core import process
from harness.core.errors import HostError, UsageError
from harness.core.process import CommandFailed

_URLS = ("http", "https")


def open_runs(given: Iterable[str], until: ExitStack) -> list[Path]:
    """A folder for each of ``given``; archives are unpacked into temporary ones, removed when ``until`` closes.

    `UsageError` for what is neither a folder nor an archive, `HostError` for a URL that cannot be fetched.
    """
    return [_open(one, until) for one in dict.fromkeys(given)]


def _open(given: str, until: ExitStack) -> Path:
    if urlsplit(given).scheme in _URLS:
        return _unpacked(_fetched(given, until), given, until)
    path = Path(given)
    if path.is_dir():
        return path.absolute()
    if path.is_file():
        return _unpacked(path, given, until)
    raise UsageError(f"{given}: there is no such folder, archive or URL")


def _fetched(url: str, until: ExitStack) -> Path:
    file = Path(until.enter_context(TemporaryDirectory(prefix="bootproof-merge-"))) / "archive"
    curl = process.require("curl", "curl")
    try:
        process.output([curl, "--fail", "--silent", "--show-error", "--location", "--output", str(file), url])
    except CommandFailed as error:
        raise HostError(f"{url} cannot be fetched: {error.tail}") from error
    return file


def _unpacked(file: Path, name: str, until: ExitStack) -> Path:
    """No file of an archive can lie outside of its folder: tarfile's data filter refuses it, zipfile corrects it."""
    folder = Path(until.enter_context(TemporaryDirectory(prefix="bootproof-merge-")))
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)
            return folder
        with tarfile.open(_plain_tar(file, folder)) as archive:
            archive.extractall(folder / "runs", filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise UsageError(f"{name} is not an archive (tar, zip) that can be unpacked: {error}") from None
    except OSError as error:
        raise HostError(f"{name} cannot be unpacked in {folder}: {error.strerror or error}") from error
    return folder / "runs"


def _plain_tar(file: Path, folder: Path) -> Path:
    """Python 3.11 reads no zstd."""
    with file.open("rb") as opened:
        if opened.read(4) != b"\x28\xb5\x2f\xfd":
            return file
    plain = folder / "archive.tar"
    try:
        process.output([process.require("zstd", "zstd"), "--decompress", "--quiet", "-o", str(plain), str(file)])
    except CommandFailed as error:
        raise UsageError(f"{file} is not a zstd archive: {error.tail}") from None
    return plain
