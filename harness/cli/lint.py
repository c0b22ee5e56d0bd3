"""The command lint."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_images_dir, add_json, add_tree, print_json

if TYPE_CHECKING:
    from harness.diff import Side
    from harness.lint import LintFinding, LintReport
    from harness.model.artifacts import Artifacts
    from harness.model.definition import ImageDefinition

_DESCRIPTION = """\
Say from the files of a build, before any boot, what is wrong with it: what keeps it from booting, units that cannot
start, what the builder left behind, secrets and open doors, what the definition demands and the build lacks, growth.
Nothing of the image is run, and root is not needed.
"""
_EPILOG = """\
BUILD is one of:
  DIR            a folder of artifacts
  DIGEST         an artifacts digest, or at least its first 8 digits
  IMAGE          the newest build of IMAGE
  IMAGE@VERSION  the build of that version
  IMAGE@STREAM   what that stream points to (needs --tree)

examples:
  bootproof lint base
  bootproof lint nova-kvm --previous nova-kvm@stable --tree /srv/images   also what grew, and numbers that drift
  bootproof lint out/ --json                                              the findings for scripts

exit status: 0 no finding that fails; 1 findings that fail; 4 no such build, or one that is not read
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    summary = "say from the files of a build what is wrong with it"
    parser = add_command(commands, "lint", _lint, summary, _DESCRIPTION, _EPILOG)
    parser.add_argument("build", metavar="BUILD", help="the build to examine")
    parser.add_argument(
        "--previous",
        metavar="BUILD",
        help="the version before, to compare sizes and numbers with (default: what stable points to)",
    )
    add_tree(parser)
    add_images_dir(parser)
    add_json(parser, "the findings")


def _lint(options: argparse.Namespace) -> int:
    from harness.core.errors import ImageError, UsageError
    from harness.lint import lint
    from harness.promotion.select import select, select_promoted

    with ExitStack() as stack:
        artifacts = select(options.build, options.tree, stack).artifacts
        if options.previous:
            before: Side | None = select(options.previous, options.tree, stack)
        else:
            before = select_promoted(options.tree, artifacts.manifest.image, "stable", stack)
        definition = _definition(artifacts, options.images_dir)
        try:
            report = lint(
                artifacts,
                definition,
                previous=before.artifacts if before else None,
                show=_ignore if options.json else _show,
            )
        except ImageError as error:  # here a damaged file is bad input: nothing was found out about the image
            raise UsageError(str(error)) from error
    if options.json:
        print_json(report)
    else:
        _summarize(report)
    return int(bool(report.failing))


def _definition(artifacts: Artifacts, images: Path | None) -> ImageDefinition | None:
    """The definition of the image's name; None if there is none here, unless a folder is named."""
    from harness.core.errors import UsageError
    from harness.model.definition import DEFINITION_FILE, find_images, load_definition

    try:
        folder = (images or find_images(Path.cwd())) / artifacts.manifest.image
    except UsageError:
        return None
    return load_definition(folder) if images or (folder / DEFINITION_FILE).is_file() else None


def _ignore(finding: LintFinding) -> None: ...


def _show(finding: LintFinding) -> None:
    word = "allowed" if finding.allowed else finding.severity
    print(f"{word:<8} {finding.path}: {finding.what} [{finding.id}]", flush=True)
    if finding.allowed:
        print(f"         because {finding.allowed}", flush=True)
        return
    for line in finding.evidence:
        print(f"         | {line}")
    if finding.cause:
        print(f"         cause: {finding.cause}")
    if finding.next:
        print(f"         next: {finding.next}", flush=True)


def _summarize(report: LintReport) -> None:
    counts = {
        "fail": len(report.failing),
        "warn": len(report.warning),
        "are allowed": sum(bool(one.allowed) for one in report.findings),
    }
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing found"
    for sentence in report.unchecked:
        print(f"not examined: {sentence}")
    print(f"{report.image} {report.version} ({report.artifacts[:12]}): {said}")
