"""The error that a running host which is not fit raises in a test."""

from __future__ import annotations

from harness.lint.finding import LintFailed


class HostFaulty(LintFailed):
    """A ready host has something that fails: ``finding`` is the first."""
