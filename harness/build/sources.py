"""The files of a definition as a build uses them: the same whatever the umask and the line ends of the checkout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.core.errors import UsageError
from harness.model.definition import DEFINITION_FILE, ImageDefinition

_MOUNT = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


def sources_over(definition: ImageDefinition, work: Path, argv: Sequence[str]) -> list[str]:
    """The command that runs ``argv`` where copies in ``work`` are mounted over the definition and the roles.

    The copies have git's two modes, 0644 and 0755, as the digest of the sources has: with ``mode: preserve``, the modes
    of a checkout under umask 077 would reach the image. `UsageError` for files with the line ends of Windows.
    """
    command = list(argv)
    for folder in (definition.folder, definition.roles):
        if folder.is_dir():
            copy = work / folder.name
            _copy(folder, copy)
            command = ["sh", "-c", _MOUNT, "mount", str(copy), str(folder), *command]
    if file := next(_with_line_ends_of_windows(definition), None):
        raise UsageError(
            f"{file} has the line ends of Windows (CRLF) and would not work in the image",
            remedy="set core.autocrlf to false in git and check the files out again",
        )
    return command


def _copy(folder: Path, copy: Path) -> None:
    def copy_file(source: str, target: str) -> None:
        shutil.copyfile(source, target)
        Path(target).chmod(0o755 if Path(source).stat().st_mode & 0o100 else 0o644)

    shutil.copytree(folder, copy, symlinks=True, copy_function=copy_file)
    for path in (copy, *copy.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def _with_line_ends_of_windows(definition: ImageDefinition) -> Iterator[Path]:
    """Scripts with CRLF do not run. Other files may have them on purpose, unless image.toml has them too."""
    is_checkout_of_windows = b"\r\n" in (definition.folder / DEFINITION_FILE).read_bytes()
    for folder in (definition.folder, definition.roles):
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file() or path.suffix in (".toml", ".yml", ".yaml"):
                continue
            first, end, _ = (content := path.read_bytes()).partition(b"\r\n")
            is_script, is_text = first.startswith(b"#!"), b"\0" not in content
            if end and b"\n" not in first and (is_script or (is_checkout_of_windows and is_text)):
                yield path
