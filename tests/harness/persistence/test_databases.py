"""Databases are recognized by their first bytes, and a changed format is distinguished from an unchanged one."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness.persistence import databases


@pytest.fixture
def location(tmp_path: Path) -> Path:
    """With a database of each kind, and files that are none."""
    (tmp_path / "inner").mkdir()
    with sqlite3.connect(tmp_path / "inner" / "site.db") as base:
        base.execute("CREATE TABLE hosts (name TEXT)")
        base.execute("PRAGMA user_version = 3")
    base.close()
    schema = json.dumps({"name": "Open_vSwitch", "version": "8.3.1", "tables": {}})
    (tmp_path / "conf.db").write_text(f"OVSDB JSON {len(schema)} 0000\n{schema}\n")
    (tmp_path / "PG_VERSION").write_text("15\n")
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\0" + bytes(20))
    (tmp_path / "text").write_text("no database")
    return tmp_path


def look(location: Path) -> dict[str, str]:
    """What is run in a guest, run here."""
    done = subprocess.run([sys.executable, "-", str(location)], input=databases._LOOK.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr
    return {str(Path(path).relative_to(location)): text for path, text in json.loads(done.stdout).items()}


def test_each_kind_is_found_with_its_format(location: Path) -> None:
    found = look(location)

    assert sorted(found) == ["PG_VERSION", "broken.db", "conf.db", "inner/site.db"]
    assert found["PG_VERSION"] == "PostgreSQL 15"
    assert found["conf.db"] == "OVSDB, Open_vSwitch 8.3.1"
    assert found["inner/site.db"].startswith("SQLite, user_version 3, schema ")
    assert found["broken.db"].startswith("unreadable: ")


def test_another_schema_or_version_has_moved_on_and_more_rows_have_not(location: Path) -> None:
    before = look(location)

    with sqlite3.connect(location / "inner" / "site.db") as base:
        base.execute("INSERT INTO hosts VALUES ('one')")
    assert databases.changed_formats(before, look(location)) == ()

    with sqlite3.connect(location / "inner" / "site.db") as base:
        base.execute("ALTER TABLE hosts ADD COLUMN rack TEXT")
    base.close()
    (sentence,) = databases.changed_formats(before, look(location))
    assert sentence.split(": ")[0].endswith("inner/site.db")
