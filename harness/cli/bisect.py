"""The command bisect."""

from __future__ import annotations

import argparse

from harness.cli.options import BUILD_NAMES, Commands, add_command, add_images_dir, add_run_dir, add_tree

_DESCRIPTION = """\
Find the smallest change that turns GOOD into BAD. With --stream, first find the two neighbouring versions of that
stream between which the failure appears. Then mix the parts of the two: kernel, initrd, root file system, each kernel
argument; if one is a bundle, also the machine, its disks and the network faults. Every try is a boot, or with --test
a run of that test.
"""
_EPILOG = f"""\
{BUILD_NAMES.format("GOOD", "BAD")}  FILE.bundle    the machine of a bundle

examples:
  bootproof bisect nova-kvm@2026.10 nova-kvm@2026.11              which change broke the boot?
  bootproof bisect 3f9a01c2 77d0e5aa --stream candidate           search the versions between the two first
  bootproof bisect base@1 base@2 --test tests/image/test_links.py::test_links_lead_to_data
  bootproof bisect nova-kvm runs/latest/X.bundle --repeat 5       intermittent: 5 tries before a mix counts as good

exit status: 0 found; 4 GOOD fails, BAD does not fail, or a wrong option; 75 a problem of this host
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    summary = "find the smallest change that breaks an image"
    parser = add_command(commands, "bisect", _bisect, summary, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("good", metavar="GOOD", help="a build or bundle that works")
    add("bad", metavar="BAD", help="a build or bundle that fails")
    add("--test", default="", metavar="NODEID", help="the test that fails with BAD (default: boot and check the boot)")
    add("--repeat", type=int, default=1, metavar="N", help="a mix is good if it passes N tries (default: 1)")
    add("--stream", default="", metavar="STREAM", help="search the versions of this stream first")
    add_tree(parser)
    add_images_dir(parser)
    add_run_dir(parser)


def _bisect(options: argparse.Namespace) -> int:
    from harness.promotion.select import tree_name
    from harness.replay.bisect import BisectOptions, bisect

    return bisect(
        BisectOptions(
            good=options.good,
            bad=options.bad,
            test=options.test,
            repeat=options.repeat,
            stream=options.stream,
            tree=tree_name(options.tree),
            images_dir=options.images_dir,
            run_dir=options.run_dir,
        )
    )
