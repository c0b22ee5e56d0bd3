"""A verdict for those who were not there: a page, a summary for a merge request, annotations for a pipeline."""

from __future__ import annotations

from harness.report.forges import annotate, gitlab_report
from harness.report.page import PAGE, write_page
from harness.report.summary import markdown
from harness.report.trends import Trend

__all__ = ["PAGE", "Trend", "annotate", "gitlab_report", "markdown", "write_page"]
