"""An image with a service that works only because another one usually starts first: check ordering finds the race."""

from __future__ import annotations

from pathlib import Path

from harness.model.verdict import Outcome

from .conftest import ROOT, Judge
from .test_planted_images import text_of

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: One service makes what another needs, and nothing says who is first
      ansible.builtin.shell: |
        printf '%s\\n' '[Service]' Type=oneshot RemainAfterExit=yes 'ExecStart=/bin/touch /run/made' \
            '[Install]' WantedBy=multi-user.target >/etc/systemd/system/made.service
        printf '%s\\n' '[Service]' Type=oneshot RemainAfterExit=yes \
            'ExecStart=/bin/sh -c "for n in 1 2 3 4 5; do test -e /run/made && exit; sleep 1; done; exit 1"' \
            '[Install]' WantedBy=multi-user.target >/etc/systemd/system/needs.service
        systemctl enable made.service needs.service

- import_playbook: {root}/images/base/playbook.yml
"""


def test_a_race_between_two_services_is_found_and_named(judge: Judge, tmp_path: Path) -> None:
    folder = tmp_path / "images" / "racy"
    folder.mkdir(parents=True)
    (folder.parent / "roles").symlink_to(ROOT / "images" / "roles")
    text = (ROOT / "images" / "base" / "image.toml").read_text("utf-8")
    begin, end = text.index("services = ["), text.index("[boot]")
    services = 'services = ["made.service", "needs.service"]\n\n'
    (folder / "image.toml").write_text(text[:begin] + services + text[end:], "utf-8")
    (folder / "playbook.yml").write_text(PLAYBOOK.format(root=ROOT), "utf-8")

    status, verdict = judge("racy", "--thorough", "-n2", "tests/image/test_ordering.py", images=folder.parent)

    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    assert "ordering" in verdict.coverage.failed
    assert any("needs.service" in text_of(finding) for finding in verdict.findings), verdict.findings
