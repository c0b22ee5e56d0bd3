"""A new version converts a database to a format that the previous version cannot read."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.pipeline import build
from harness.model.definition import load_definition
from harness.model.verdict import Outcome
from harness.store.store import find_store

from .conftest import ROOT, Judge
from .test_planted_images import text_of

SERVICE = """\
import sqlite3, sys
mine, refuses = int(sys.argv[1]), sys.argv[2] == "refuses"
base = sqlite3.connect("/var/local/context.db")
(seen,) = base.execute("PRAGMA user_version").fetchone()
if seen > mine and refuses:
    sys.exit(f"the database has format {seen}, mine is {mine}")
if seen < mine:
    base.execute(f"CREATE TABLE format_{mine} (name TEXT)")
    base.execute(f"PRAGMA user_version = {mine}")
    base.commit()
"""
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: A service with a database
      ansible.builtin.copy: {{ src: context.py, dest: /usr/local/lib/context.py }}
    - name: In the format of this version
      ansible.builtin.shell: |
        printf '%s\\n' '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' \
          'ExecStart=/usr/bin/python3 /usr/local/lib/context.py {format} {manner}' \
          '[Install]' 'WantedBy=multi-user.target' >/etc/systemd/system/context.service
        systemctl enable context.service

- import_playbook: {root}/images/base/playbook.yml
"""


@pytest.mark.parametrize("manner", ["refuses", "takes"])
def test_a_rollback_that_a_database_does_not_survive_is_not_safe(judge: Judge, tmp_path: Path, manner: str) -> None:
    old, new = (_images(tmp_path / f"format-{number}", number, manner) for number in (1, 2))
    previous = build(load_definition(old / "context"), find_store())

    _, verdict = judge(
        "context", "--thorough", f"--previous={previous.folder}",
        "tests/image/test_upgrades.py", "-k", "to-the-next-and-back", images=new,
    )  # fmt: skip

    found = [finding for finding in verdict.findings if finding.id == "rollback-not-safe"]
    if manner == "refuses":
        assert verdict.outcome is Outcome.FAILED
        assert any("/var/local/context.db: SQLite, user_version 1" in text_of(finding) for finding in found)
    else:
        assert (verdict.findings, verdict.coverage.failed) == ((), ())


def _images(images: Path, number: int, manner: str) -> Path:
    folder = images / "context"
    folder.mkdir(parents=True)
    (images / "roles").symlink_to(ROOT / "images" / "roles")
    text = (ROOT / "images" / "base" / "image.toml").read_text("utf-8")
    text = text.replace("services = [", 'services = ["context.service", ').replace('"2026.11"', f'"{number}"')
    (folder / "image.toml").write_text(text, "utf-8")
    (folder / "context.py").write_text(SERVICE, "utf-8")
    (folder / "playbook.yml").write_text(PLAYBOOK.format(format=number, manner=manner, root=ROOT), "utf-8")
    return images
