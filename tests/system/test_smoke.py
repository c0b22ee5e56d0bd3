"""The shortest real run: build base, boot it over the network, run checks in it, write a verdict."""

from __future__ import annotations

from pathlib import Path

from harness.model.verdict import Outcome

from .conftest import Judge


def test_base_boots_over_the_network_and_is_healthy(judge: Judge) -> None:
    status, verdict = judge("base", "tests/image/test_services.py", "tests/image/test_links.py")

    assert verdict.findings == ()
    assert [boot.boot_path for boot in verdict.boots if boot.ready_s] == ["ipxe-bios"]
    assert {"services", "links"} <= set(verdict.coverage.passed)
    assert (status, verdict.outcome) == (75, Outcome.INCONCLUSIVE), "part of the suite is not the whole of it"
    assert "survival" in verdict.coverage.missing
    console = Path(verdict.boots[0].console).read_text("utf-8")
    assert "Linux version" in console
    assert list(verdict.boots[0].phases) == ["firmware", "ipxe", "kernel", "initrd", "userspace"]
