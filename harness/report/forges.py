"""A verdict in the formats that GitHub and GitLab show beside a change."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping

from harness.core.errors import Blame
from harness.core.text import clean
from harness.model.verdict import Finding, Verdict
from harness.report import words

_SEVERITY = {Blame.IMAGE: "critical", Blame.HOST: "minor", Blame.HARNESS: "minor"}
_FILE = re.compile(r"([\w./-]+\.py)::")
"""The file in a test's id."""


def annotate(verdict: Verdict, environ: Mapping[str, str]) -> Iterator[str]:
    """Workflow commands for GitHub, one for each finding: errors for the image's, then warnings for the others.

    GitHub shows ten of each in a step. Empty outside GitHub: GitLab reads a file, see `gitlab_report`.
    docs.github.com, "Workflow commands for GitHub Actions".
    """
    if environ.get("GITHUB_ACTIONS") != "true":
        return
    for finding in sorted(verdict.findings, key=lambda finding: finding.blame is not Blame.IMAGE):
        kind = "error" if finding.blame is Blame.IMAGE else "warning"
        file = {"file": path} if (path := _file(finding)) else {}
        yield _command(kind, file | {"title": f"{finding.blame}: {finding.what}"}, _message(finding))
    if verdict.coverage.missing:
        title = {"title": f"{verdict.image}: required checks did not run"}
        yield _command("warning", title, ", ".join(verdict.coverage.missing))


def gitlab_report(verdict: Verdict) -> str:
    """A Code Quality report, for ``artifacts:reports:codequality``.

    docs.gitlab.com, "Code Quality", "Code Quality report format": a path in the repository is required.
    """
    definition = f"images/{verdict.image}/image.toml"
    return json.dumps([_issue(finding, definition) for finding in dict.fromkeys(verdict.findings)], indent=2) + "\n"


def _issue(finding: Finding, definition: str) -> dict[str, object]:
    said = f"{finding.blame}: {finding.what} ({finding.where})"
    same = json.dumps([finding.id, finding.what, finding.where, finding.blame])
    return {
        "description": clean("; ".join([said, *words.dependents(finding)])),
        "check_name": finding.id,
        "fingerprint": hashlib.sha256(same.encode()).hexdigest(),
        "severity": _SEVERITY[finding.blame],
        "location": {"path": _file(finding) or definition, "lines": {"begin": 1}},
    }


def _file(finding: Finding) -> str:
    match = _FILE.match(finding.where)
    return match[1] if match else ""


def _message(finding: Finding) -> str:
    cause = [f"cause: {finding.cause}"] if finding.cause else []
    waiting = words.dependents(finding)
    return "\n".join([f"{finding.where} [{finding.id}]", *finding.evidence[-6:], *cause, *waiting])


def _command(name: str, properties: Mapping[str, str], message: str) -> str:
    given = ",".join(f"{key}={_escape(value, ':,')}" for key, value in properties.items())
    return f"::{name} {given}::{_escape(message)}"


def _escape(text: str, more: str = "") -> str:
    """Escape ``%``, line ends and, in properties, separators, as the runner unescapes them."""
    text = clean(text)
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
