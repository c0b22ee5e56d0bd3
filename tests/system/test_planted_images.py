"""Images built with a fault: the verdict is failed, and a finding names the fault."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.model.verdict import Finding, Outcome

from .conftest import Judge, MakeImage, faults

PLAYBOOKS = Path(__file__).parent / "playbooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What the playbook of that name plants: the finding ``id`` must say ``named``; ``expects`` is one more service."""

    id: str
    named: str
    expects: str = ""


FAULTS = {
    "failing-service": Fault(id="unit-failed", named="fails.service", expects='"fails.service", '),
    "flapping-service": Fault(id="unit-flapping", named="flaps.service", expects='"flaps.service", '),
    "real-folder": Fault(id="persist-failed", named="/var/local"),
    "no-persist": Fault(id="persist-failed", named="/data"),
}


def text_of(finding: Finding) -> str:
    return "\n".join((finding.what, *finding.evidence))


@faults(FAULTS, "flapping-service")
def test_fault_in_an_image_fails_it_with_a_finding_that_names_it(
    judge: Judge, make_image: MakeImage, name: str
) -> None:
    fault = FAULTS[name]
    playbook = (PLAYBOOKS / f"{name}.yml").read_text("utf-8")
    images = make_image(name, playbook, ("services = [", f"services = [{fault.expects}"))

    status, verdict = judge(name, "tests/image/test_image.py", images=images)

    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    assert any(finding.id == fault.id and fault.named in text_of(finding) for finding in verdict.findings)
