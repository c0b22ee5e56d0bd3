"""An image whose persistent paths are a bind mount, an overlay and a folder in a mounted /var, none of them a link."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.pipeline import build
from harness.model.artifacts import Artifacts
from harness.model.definition import load_definition
from harness.model.verdict import Outcome
from harness.store.store import find_store

from .conftest import ROOT, Judge
from .test_planted_images import text_of

PATHS = '["/etc/systemd/network", "/srv/context", "/var/local"]'
PLAYBOOK = """
- import_playbook: {root}/images/base/playbook.yml

- hosts: all
  gather_facts: false
  tasks:
    - name: No links
      ansible.builtin.shell: |
        for path in /etc/systemd/network /srv/context /var/local; do
            rm $path && mv -T /usr/share/persist$path $path
        done
        sed -i 's/^paths=.*/paths=()/' /usr/lib/persist/config

    - name: Mounts instead
      ansible.builtin.copy:
        dest: /etc/fstab
        content: |
          /data/context  /srv/context             none     bind
          /data/var   /var                  none     bind
          overlay     /etc/systemd/network  overlay  {overlay}

    - name: What they need
      ansible.builtin.copy:
        dest: /etc/systemd/system/context-folders.service
        content: |
          [Unit]
          DefaultDependencies=no
          Before=srv-context.mount var.mount etc-systemd-network.mount
          [Service]
          Type=oneshot
          RemainAfterExit=yes
          ExecStart=/bin/sh -ec 'mkdir -p /data/context /data/network/upper /data/network/work; \\
              test -e /data/var || {{ rm -rf /data/.var; cp -a /var /data/.var; sync; mv /data/.var /data/var; }}; sync'
          [Install]
          WantedBy=local-fs.target

    - name: Before they are mounted
      ansible.builtin.shell: systemctl enable context-folders.service; {spoil}
"""
OVERLAY = "lowerdir=/etc/systemd/network,upperdir=/data/network/upper,workdir=/data/network/work"
SUITE = ("-n2", "tests/image/test_links.py", "tests/image/test_identity.py", "tests/image/test_survival.py")
THOROUGH = ("--thorough", "--power-cuts=1000", "tests/image/test_upgrades.py", "tests/image/test_power_cuts.py")


def _build(folder: Path, spoil: str = "true") -> tuple[Path, Artifacts]:
    """A folder with the definition of ``theirs``, which has no [build] table, and its artifacts."""
    text = (ROOT / "images" / "base" / "image.toml").read_text("utf-8")
    begin, end = text.index("paths = ["), text.index("tolerates")
    text = f"{text[:begin]}paths = {PATHS}\n{text[end:]}"
    ours, theirs = folder / "ours" / "theirs", folder / "theirs" / "theirs"
    for one in (ours, theirs):
        one.mkdir(parents=True)
    (ours.parent / "roles").symlink_to(ROOT / "images" / "roles")
    (ours / "image.toml").write_text(text, "utf-8")
    playbook = PLAYBOOK.format(root=ROOT, overlay=OVERLAY, spoil=spoil)
    (ours / "playbook.yml").write_text(playbook, "utf-8")
    (theirs / "image.toml").write_text(text[: text.index("[build]")] + text[text.index("[persist]") :], "utf-8")
    return theirs.parent, build(load_definition(ours), find_store())


@pytest.mark.parametrize("suite", [SUITE, ("-n2", *THOROUGH)], ids=["quick", "thorough"])
def test_other_mechanisms_keep_data_as_well(judge: Judge, tmp_path: Path, suite: tuple[str, ...]) -> None:
    images, artifacts = _build(tmp_path)

    _, verdict = judge("theirs", f"--artifacts={artifacts.folder}", *suite, images=images)

    assert (verdict.findings, verdict.coverage.failed) == ((), ())
    assert {"links", "identity"} <= set(verdict.coverage.passed) or "power-cuts" in verdict.coverage.passed


def test_a_mount_that_is_missing_is_found(judge: Judge, tmp_path: Path) -> None:
    images, artifacts = _build(tmp_path, spoil="sed -i '/srv/d' /etc/fstab")

    status, verdict = judge("theirs", f"--artifacts={artifacts.folder}", "tests/image/test_links.py", images=images)

    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    assert any("/srv/context is on " in text_of(finding) for finding in verdict.findings), verdict.findings
