"""The command lint."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_images_dir, add_json, add_tree, print_json

if TYPE_CHECKING:
    from harness.lint import LintFinding, LintReport
    from harness.model.artifacts import Artifacts

_DESCRIPTION = """\
Say from the files of a build, before any boot, what is wrong with it: what keeps it from booting, units that cannot
start, what the builder left behind, secrets and open doors, what the definition demands and the build lacks, growth.
Root is not needed. The image's own systemd-analyze, sshd -t and visudo -c are run in namespaces without a network,
where this host allows that.
"""
_EPILOG = """\
BUILD is one of:
  DIR            a folder of artifacts, or of another builder's kernel, initrd and root file system
  DIGEST         an artifacts digest, or at least its first 8 digits
  IMAGE          the newest build of IMAGE, in the version of its definition
  IMAGE@VERSION  the build of that version
  IMAGE@STREAM   what that stream points to (needs --tree)

examples:
  bootproof lint base
  bootproof lint nova-kvm --previous nova-kvm@stable --tree /srv/images   also what grew, and numbers that drift
  bootproof lint out/ --json                                              the findings for scripts
  bootproof lint /srv/theirs --image site                                 another builder's, with images/site

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
    parser.add_argument(
        "--image",
        metavar="NAME",
        help="the definition that a folder of another builder is held to (default: os-release's IMAGE_ID)",
    )
    add_tree(parser)
    add_images_dir(parser)
    add_json(parser, "the findings")


def _lint(options: argparse.Namespace) -> int:
    from harness.cli.builds import definition_of, select_build
    from harness.core.errors import ImageError, UsageError
    from harness.lint import lint

    with ExitStack() as stack:
        build = select_build(options.build, options.tree, stack, images=options.images_dir, image=options.image)
        artifacts = build.artifacts
        before = _before(artifacts.manifest.image, options, stack)
        definition = definition_of(artifacts.manifest.image, options.images_dir)
        if options.image and options.image != artifacts.manifest.image:
            raise UsageError(f"{options.build} holds artifacts of {artifacts.manifest.image}, not of {options.image}")
        try:
            report = lint(artifacts, definition, previous=before, show=_ignore if options.json else _show)
        except ImageError as error:  # here a damaged file is bad input: nothing was found out about the image
            raise UsageError(str(error)) from error
    if options.json:
        print_json(report)
    else:
        _summarize(report)
    return int(bool(report.failing))


def _before(image: str, options: argparse.Namespace, until: ExitStack) -> Artifacts | None:
    """The version before: as named, else what stable points to."""
    from harness.cli.builds import select_build
    from harness.promotion.select import select_promoted

    if options.previous:
        given = options.previous
        return select_build(given, options.tree, until, images=options.images_dir, image=options.image).artifacts
    side = select_promoted(options.tree, image, "stable", until)
    return side.artifacts if side else None


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
    named = " ".join(filter(None, [report.image, report.version]))
    print(f"{named} ({report.artifacts[:12]}): {said}")
