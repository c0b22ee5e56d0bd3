"""Databases in persistent paths, and the format that the running version stores each of them in."""

from __future__ import annotations

from collections.abc import Sequence

from harness.machine.verbs import GuestVerbs
from harness.persistence.guest_python import read_json

_LOOK = r"""
import hashlib, json, os, sqlite3, sys

def sqlite(path):
    base = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    (version,) = base.execute("PRAGMA user_version").fetchone()
    rows = base.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name").fetchall()
    return f"SQLite, user_version {version}, schema {hashlib.sha256(repr(rows).encode()).hexdigest()[:8]}"

def ovsdb(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        file.readline()
        schema = json.loads(file.readline())
    return f"OVSDB, {schema.get('name')} {schema.get('version')}"

def format_of(path):
    if os.path.basename(path) == "PG_VERSION":
        return "PostgreSQL " + open(path).read().strip()
    with open(path, "rb") as file:
        magic = file.read(16)
    if magic == b"SQLite format 3\0":
        return sqlite(path)
    return ovsdb(path) if magic.startswith(b"OVSDB JSON ") else ""

found = {}
for location in sys.argv[1:]:
    top = os.path.realpath(location)
    for at, folders, names in os.walk(top):
        for path in (os.path.join(at, name) for name in names):
            try:
                if os.path.isfile(path) and not os.path.islink(path) and (text := format_of(path)):
                    found[os.path.join(location, os.path.relpath(path, top))] = text
            except (OSError, ValueError, sqlite3.Error) as error:
                found[os.path.join(location, os.path.relpath(path, top))] = f"unreadable: {error}"
print(json.dumps(found))
"""
"""Sources: sqlite.org/fileformat.html; ovsdb(5), a log whose first record is the schema; PostgreSQL's PG_VERSION."""


def formats(machine: GuestVerbs, paths: Sequence[str]) -> dict[str, str]:
    """By path, the format of each database that is recognized by its first bytes."""
    found: dict[str, str] = read_json(machine, _LOOK, paths)
    return found


def changed_formats(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """A sentence for each database of ``before`` whose format has changed: pure."""
    return tuple(
        f"{path}: {was} → {after[path]}" for path, was in before.items() if path in after and after[path] != was
    )
