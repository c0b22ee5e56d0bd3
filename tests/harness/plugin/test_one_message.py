"""One cause, one message: what pytest prints and writes when many tests fail because of the same thing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.core import serialization
from harness.core.errors import Blame
from harness.machine.errors import BootFailed
from harness.model.definition import ImageDefinition
from harness.model.layout import bundle_name
from harness.model.verdict import Finding, Verdict
from harness.plugin import hooks
from harness.plugin.options import RunOptions
from harness.plugin.state import KEY, RunState
from harness.runs.folder import Run

from ..replay.test_bundle import BASE

pytest_plugins = ["pytester"]

BOOT = Finding(
    id="unit-failed",
    what="systemd-modules-load.service failed: exit status 1",
    where="template-booted, boot 1 (direct)",
    evidence=tuple(f"[   12.{n:02}] line {n}" for n in range(9)),
    cause="no modules for 6.12.118 in /usr/lib/modules",
)


class OneImage:
    """The hooks of a run of ``base``, without preparation: nothing is built, and the tests boot nothing."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(folder, "main")
        options = RunOptions(definitions={"base": BASE})
        self.state = RunState(options=options, runs={"base": self.run})
        self.reports = hooks.Reports(self.state)

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[KEY] = self.state
        config.pluginmanager.register(self.reports)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.user_properties += [("image", "base"), ("test", item.nodeid)]

    pytest_runtest_makereport = staticmethod(hooks.pytest_runtest_makereport)
    pytest_report_teststatus = staticmethod(hooks.pytest_report_teststatus)
    pytest_sessionfinish = staticmethod(hooks.pytest_sessionfinish)
    pytest_terminal_summary = staticmethod(hooks.pytest_terminal_summary)
