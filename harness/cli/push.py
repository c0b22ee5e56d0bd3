"""The command push."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from harness.cli.options import Commands, add_command

_DESCRIPTION = """\
Send artifacts to a published tree, without pointing a stream to them: other hosts bring them into their stores from
there, with pytest --artifacts TREE@DIGEST. TREE is a folder or a remote of rclone. Files that TREE has are not sent
again; every byte is compared. What was interrupted is continued.

BUILD is an artifacts digest or at least its first 8 digits, a folder of artifacts, or IMAGE or IMAGE@VERSION for the
newest build in the store.
"""
_EPILOG = """\
examples:
  bootproof push c650002e0a76 /srv/images              a folder, which a web server may serve to the other hosts
  bootproof push c650002e0a76 1f0c6e5d2a77 s3:images   what `bootproof plan` prints, to a remote that rclone knows as s3
  bootproof push ./nova-kvm /srv/images                a folder of artifacts

  pytest --image nova-kvm --artifacts https://images.example.org@DIGEST   on another host; DIGEST has 64 digits

exit status: 0 sent, or there already; 1 the tree has other bytes; 4 no such artifacts, or they changed; 75 the tree
cannot be written
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "push", _push, "send artifacts to a published tree", _DESCRIPTION, _EPILOG)
    parser.add_argument("builds", nargs="+", metavar="BUILD", help="the artifacts: most often a digest")
    parser.add_argument("tree", metavar="TREE", help="a folder, or rclone's REMOTE:PATH")


def _push(options: argparse.Namespace) -> int:
    from harness.promotion.push import push
    from harness.promotion.select import select

    for build in options.builds:
        with ExitStack() as until:
            artifacts = select(build, None, until).artifacts
            is_sent = push(artifacts, options.tree)
        manifest = artifacts.manifest
        said = "sent to" if is_sent else "already in"
        print(f"{manifest.image} {manifest.version} ({artifacts.digest}) {said} {options.tree}", flush=True)
    return 0
