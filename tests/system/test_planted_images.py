"""Images built with a fault: the verdict is failed, and a finding names the fault."""

from __future__ import annotations

import pytest

from harness.model.verdict import Finding, Outcome

from .conftest import PLANTED, Judge

FAULTS = {
    # planted image: finding id, and text that the finding must contain
    "failing-service": ("unit-failed", "fails.service"),
    "flapping-service": ("unit-flapping", "flaps.service"),
    "real-folder": ("persist-failed", "/var/local"),
    "no-persist": ("persist-failed", "/data"),
}


def text_of(finding: Finding) -> str:
    return "\n".join((finding.what, *finding.evidence))


@pytest.mark.parametrize("image", FAULTS)
def test_fault_in_an_image_fails_it_with_a_finding_that_names_it(judge: Judge, image: str) -> None:
    finding_id, named = FAULTS[image]

    status, verdict = judge(image, "tests/image/test_image.py", images=PLANTED)

    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    assert any(finding.id == finding_id and named in text_of(finding) for finding in verdict.findings)
