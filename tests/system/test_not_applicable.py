"""What could not be looked at is not applicable, with its reason, and has not passed."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.model.definition import KEEPS_NOTHING
from harness.model.verdict import Outcome

from .conftest import ROOT, Judge


def test_late_units_are_not_applicable_to_a_systemd_that_takes_no_drop_ins_as_credentials(judge: Judge) -> None:
    status, verdict = judge("base-bookworm", "--boot-path=direct", "--thorough", "tests/image/test_ordering.py")

    assert verdict.coverage.not_applicable == {
        "ordering": "systemd 252 does not accept drop-ins as credentials, 256 does"
    }
    assert "ordering" not in verdict.coverage.passed
    assert verdict.findings == ()
    assert (status, verdict.outcome) == (75, Outcome.INCONCLUSIVE), "the other checks were not asked for"


def test_an_image_without_persistent_paths_has_no_disk_and_no_check_about_one(judge: Judge) -> None:
    tests = [f"tests/image/test_{name}.py" for name in ("image", "links", "services", "ssh")]
    _, verdict = judge("base-stateless", "--boot-path=direct", *tests)

    assert verdict.findings == ()
    assert {"image", "services", "ssh", "boot:direct"} <= set(verdict.coverage.passed)
    assert verdict.coverage.not_applicable == {"links": KEEPS_NOTHING}
    assert [what for what in verdict.coverage.unchecked if what.startswith("ssh, in part: ")], "its host keys"


def test_an_identity_that_is_new_at_each_boot_fails_unless_the_definition_says_so(judge: Judge, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(ROOT / "images", images)
    file = images / "base-stateless" / "image.toml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("identity")))

    tests = ("tests/image/test_survival.py", "-k", "another_board")
    _, verdict = judge("base-stateless", "--boot-path=direct", *tests, images=images)

    (finding,) = verdict.findings
    assert (finding.id, verdict.outcome) == ("check-failed", Outcome.FAILED)
    assert "SSH host keys was" in finding.what
    assert 'write identity = "new-each-boot" below [expect]' in finding.what
