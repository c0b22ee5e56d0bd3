"""A verdict for people: terminal text, a page, a summary for a merge request, annotations for a pipeline."""

from __future__ import annotations

from harness.report.forges import annotate, gitlab_report
from harness.report.page import PAGE, write_page
from harness.report.run import write_all
from harness.report.summary import markdown

__all__ = ["PAGE", "annotate", "gitlab_report", "markdown", "write_all", "write_page"]
