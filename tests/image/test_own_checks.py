"""A ready host meets the rules that the definition makes itself: ``[[check]]``, and the files of ``[expect] goss``."""

from __future__ import annotations

import pytest

from harness import not_applicable
from harness.examine.rules import RuleFailed, Survey

pytestmark = pytest.mark.check("rules")


def test_a_check_of_the_definition_holds(rules: Survey, own_check: str) -> None:
    if finding := rules.judge(own_check):
        raise RuleFailed(finding)


def test_a_resource_of_a_goss_file_is_as_it_must_be(rules: Survey, goss_resource: str) -> None:
    if rules.is_skipped(goss_resource):
        not_applicable(f"{goss_resource}: the goss file skips it")
    if finding := rules.judge(goss_resource):
        raise RuleFailed(finding)
