"""The command build."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from harness.cli.options import Commands, add_command, add_images_dir
from harness.core.terminal import to_stderr

_DESCRIPTION = """\
Build IMAGE from its definition, images/IMAGE/image.toml: a kernel, an initrd and a root file system. Steps whose
input did not change are taken from the store. Progress is printed to standard error, the folder with the artifacts
to standard output.
"""
_EPILOG = """\
examples:
  bootproof build base                          build, or return at once if nothing changed
  bootproof build base --refresh                use the newest packages of the archive
  artifacts=$(bootproof build base)             for scripts; --json prints digest, files and sizes as well

exit status: 0 built; 1 the definition does not build; 4 a wrong option or definition; 75 a problem of this host
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "build", _build, "build an image from its definition", _DESCRIPTION, _EPILOG)
    parser.add_argument("image", metavar="IMAGE", help="the name of a folder in images/")
    add_images_dir(parser)
    parser.add_argument("--version", dest="image_version", metavar="V", help="override the definition's version")
    parser.add_argument("--refresh", action="store_true", help="ask the archive for newer packages")
    parser.add_argument("--mirror", metavar="URL", help="download packages from URL, not the distribution's archive")
    parser.add_argument("--json", action="store_true", help="print digest, folder, files and sizes as JSON")


def _build(options: argparse.Namespace) -> int:
    from harness.build.pipeline import build
    from harness.core import serialization
    from harness.model.definition import find_definition, find_images
    from harness.runs.progress import BuildProgress
    from harness.store.store import find_store

    definition = find_definition(options.image, options.images_dir or find_images(Path.cwd()))
    artifacts = build(
        definition,
        find_store(),
        version=options.image_version,
        refresh=options.refresh,
        mirror=options.mirror,
        progress=BuildProgress(to_stderr, definition.name),
    )
    if options.json:
        files = serialization.dump(artifacts.manifest.files)
        print(json.dumps({"digest": artifacts.digest, "folder": str(artifacts.folder), "files": files}))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(artifacts.folder) + b"\n")  # the exact bytes of the path, in any locale
    return 0
