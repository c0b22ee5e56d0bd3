"""shellcheck over the shell in docs/, images/, tests/ and .ci/: ``python -m tests.shellcheck``, which `make test` runs.

Scripts are files whose first line names sh or bash. In playbooks it is what ``ansible.builtin.shell`` runs with sh, and
the content of files that scripts read as bash; an expression of Jinja stands for one word.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "images", "tests", ".ci")
_SHEBANG = re.compile(rb"#!.*\b(ba|da)?sh\b")
_BASH_FILES = ("/usr/lib/persist/config",)
_NOT_FOR_FRAGMENTS = "SC2034"
"""A file that another script reads sets variables that it does not use."""


def scripts(root: Path = ROOT) -> Iterator[Path]:
    """Shell scripts below `FOLDERS`."""
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if _SHEBANG.match(file.readline(100)):
                    yield path


def fragments(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """A name and a script with its first line, for each piece of shell in the tasks of playbooks and roles."""
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.yml")):
        for number, (first_line, text) in enumerate(_in_tasks(yaml.safe_load(path.read_text("utf-8"))), 1):
            name = f"{path.relative_to(root)}:{number}".replace("/", ":")
            yield name, f"#!/bin/{first_line}\n{re.sub(r'{{.*?}}', 'word', text)}\n"


def _in_tasks(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _in_tasks(item)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key in ("shell", "ansible.builtin.shell"):
            yield "sh", inner if isinstance(inner, str) else inner["cmd"]
        elif isinstance(inner, dict) and inner.get("dest") in _BASH_FILES:
            yield f"bash\n# shellcheck disable={_NOT_FOR_FRAGMENTS}", inner["content"]
        else:
            yield from _in_tasks(inner)


def main(root: Path, path: str) -> int:
    """The exit status of the shellcheck in ``path`` over everything; it prints its findings."""
    program = shutil.which("shellcheck", path=path)
    if not program:
        print("shellcheck is not installed: make setup")
        return 1
    with TemporaryDirectory() as folder:
        for name, text in fragments(root):
            Path(folder, name).write_text(text, "utf-8")
        files = [*scripts(root), *sorted(Path(folder).iterdir())]
        return subprocess.run([program, *files], cwd=root, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(ROOT, os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))))
