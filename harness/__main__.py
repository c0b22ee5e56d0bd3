"""The command ``bootproof``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

from harness.cli import attach, inspect, promotion
from harness.core import process
from harness.core.errors import BootproofError, HostError
from harness.core.tables import show
from harness.core.terminal import to_stderr
from harness.model.machine_spec import BootPath

_DESCRIPTION = "Boots proven before promotion: build stateless images, boot them, find out what is wrong."
_EPILOG = """\
examples:
  bootproof build base                 build the image, or say at once that nothing changed
  bootproof boot base                  boot it on a blank disk with a root shell on this terminal; Ctrl-] ends it
  bootproof boot base --disk my.raw    the same, on a copy of a disk; --write-disk to keep what changes there
  bootproof promote base --to stable   let a stream carry what was proven, if its policy is content
  bootproof doctor                     what this host can do, what is missing, and the line that mends it
  bootproof replay runs/latest/X.bundle  have a failure again, from the bundle that its run left
  bootproof bisect base@1 base@2       what turned good into bad: kernel, initrd, arguments, machine, network?
  bootproof attach                     get into a machine that pytest --keep failed has left running
  bootproof explain boot-hangs         what a finding means, and what to do next
  bootproof facts >rack7.toml          this host's hardware, for pytest --hardware rack7.toml
  bootproof store                      what is kept from builds, and how much room it takes
  bootproof store prune                remove what no run will use again
  pytest -n 8 --image base             prove it: boots, reboots, upgrades, and a verdict

exit status: 0 done, 1 the image is at fault, 4 a wrong option or definition, 75 this host is at fault
"""


_PRUNE = """\
Without options, remove what no image's next build or run would use: artifacts of which others of the same image
and version were used since, the layers they came of, older versions of downloaded packages, what is damaged, and what
builds that died left half made. Whatever ran last finds all that it needs.

What a run, a boot or a build uses now stays, whatever the options say, and is named.
"""
_PRUNE_EPILOG = """\
examples:
  bootproof store prune --dry-run              only say what would go
  bootproof store prune --older-than 30d       and what was not used for 30 days
  bootproof store prune --max-size 20G         and the least recently used, until 20 GiB are left
  bootproof store prune --image base           all that is kept of base, and nothing else
  bootproof store prune --image base --older-than 1w
"""

_REPLAY = """\
Bring up the machine of BUNDLE as it was when it failed: its hardware, its disk, its artifacts, its network and what
that did to it; and say whether the same finding comes back. The artifacts are taken from the bundle, from the store,
from --artifacts, from a published tree, or built again from the definition, and are compared by their digest. If a
test failed in the machine, that test is run.
"""
_REPLAY_EPILOG = """\
examples:
  bootproof replay runs/latest/test-x.bundle                       does it come back?
  bootproof replay B.bundle --times 10                             how often?
  bootproof replay B.bundle --change memory=4096                   would more memory have helped?
  bootproof replay B.bundle --change network_faults=                      and a network that behaves?
  bootproof replay B.bundle --at initrd                            a shell before the root is mounted
  bootproof replay B.bundle --gdb --change kernel-argument=nokaslr its kernel, from its first instruction
  bootproof replay B.bundle --change delay=ssh.service:30          what if that unit were later?
  bootproof replay B.bundle --change kernel-argument=rd.debug      the same, and more to read

exit status: 1 the same finding came back (each time), 0 it did not, 75 it came and went, or this host is at fault,
4 a bundle or option that is of no use
"""
_CHANGES = "artifacts, boot-path, cpus, delay, disk, kernel-argument, memory, network-faults, nic"

_BISECT = """\
Find the smallest change that turns GOOD into BAD. With --stream, first over the versions that it carried between the
two. Then over what they are made of: kernel, initrd, root file system, each kernel argument; and if one is a bundle,
over its machine, disks and network faults as well. Each try is a boot, or with --test that test.
"""
_BISECT_EPILOG = """\
each of GOOD and BAD is a folder of artifacts, a digest or its beginning, IMAGE for its newest build, IMAGE@VERSION or,
with a tree, IMAGE@STREAM; or a bundle

examples:
  bootproof bisect nova-kvm@2026.10 nova-kvm@2026.11                 does it still boot, and what broke it?
  bootproof bisect 3f9a01c2 77d0e5aa --stream candidate              of all versions in between
  bootproof bisect base@1 base@2 --test tests/image/test_links.py::test_links_lead_to_data
  bootproof bisect nova-kvm runs/latest/X.bundle --times 5           the machine, or its network? it flickers

exit status: 0 found, 4 GOOD is bad, BAD is good, or a wrong option, 75 this host is at fault
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bootproof",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_build(commands)
    _add_boot(commands)
    promotion.add_parsers(commands)
    inspect.add_parsers(commands)
    _add_replay(commands)
    _add_bisect(commands)
    attach.add_parsers(commands)
    _add_explain(commands)
    _add_store(commands)
    _add_doctor(commands)
    _add_facts(commands)
    return parser


def _add_build(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    build = commands.add_parser(
        "build",
        help="build an image from its definition",
        description="Build IMAGE from images/IMAGE/image.toml. What did not change is taken from the store; "
        "the folder with the artifacts is printed last.",
    )
    build.add_argument("image", metavar="IMAGE", help="the name of a folder in images/")
    build.add_argument("--images-dir", type=Path, metavar="DIR", help="where definitions are (default: images/)")
    build.add_argument("--version", dest="image_version", metavar="V", help="instead of the definition's version")
    build.add_argument("--refresh", action="store_true", help="ask the archive for newer packages")
    build.add_argument("--mirror", metavar="URL", help="fetch packages here (default: mmdebstrap's own choice)")
    build.add_argument("--json", action="store_true", help="for scripts: digest, folder, files and sizes")
    build.set_defaults(run=_build)


def _add_boot(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    boot = commands.add_parser(
        "boot",
        help="boot an image by hand, its console on this terminal",
        description="Boot an image, or a folder of artifacts, in a network of its own. The console is on this "
        "terminal, root is logged in; a reboot in the guest boots it again, its poweroff or Ctrl-] here ends it. "
        "Nothing is left running, and without --write-disk nothing is kept.",
    )
    boot.add_argument("image", metavar="IMAGE|DIR", help="an image to build and boot, or a folder of artifacts")
    boot.add_argument("--artifacts", type=Path, metavar="DIR", help="what another builder made of IMAGE")
    boot.add_argument("--kernel-arguments", metavar="TEXT", help="for --artifacts without manifest.json")
    boot.add_argument("--images-dir", type=Path, metavar="DIR", help="where definitions are (default: images/)")
    boot.add_argument(
        "--boot-path", choices=[path.value for path in BootPath], default="direct", help="default: direct"
    )
    boot.add_argument(
        "--hardware", metavar="NAME|FILE", help="a hardware profile: a name, or a file as `bootproof facts` prints it"
    )
    boot.add_argument(
        "--disk", type=Path, metavar="FILE",
        help="the persistent disk, an image of a host's own: it is not written, what changes is gone at the end",
    )  # fmt: skip
    boot.add_argument("--write-disk", action="store_true", help="write to --disk FILE itself, made if it is missing")
    boot.add_argument(
        "--network-fault", action="append", default=[], metavar="NAME",
        help="what the network does to it, such as http-404-rootfs (repeatable)",
    )  # fmt: skip
    boot.add_argument("--memory", type=int, metavar="MIB", help="default: the definition's")
    boot.add_argument("--accel", choices=["auto", "kvm", "tcg"], default="auto", help="default: auto")
    boot.add_argument("--network", choices=["auto", "lab", "user"], default="auto", help="default: auto")
    boot.set_defaults(run=_boot)


def _add_replay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = commands.add_parser(
        "replay",
        help="bring a failure up again, from the bundle that its run left",
        description=_REPLAY,
        epilog=_REPLAY_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_argument("bundle", type=Path, metavar="BUNDLE")
    replay.add_argument("--times", type=int, default=1, metavar="N", help="try N times, and count (default: 1)")
    replay.add_argument(
        "--change", action="append", default=[], metavar="KEY=VALUE",
        help=f"one thing different (repeatable): {_CHANGES}",
    )  # fmt: skip
    way = replay.add_mutually_exclusive_group()
    for name, means in {
        "shell": "do not judge, but give its console, root logged in; Ctrl-] ends it",
        "console": "the same, and nobody is logged in",
        "monitor": "QEMU's monitor; Ctrl-D ends it",
        "gdb": "its console, and it waits for a debugger before its first instruction, or where --at says",
    }.items():
        way.add_argument(f"--{name}", dest="way", action="store_const", const=name, help=means)
    replay.add_argument(
        "--at",
        metavar="WHERE",
        help="as --shell, and it stops there: firmware (before its first instruction), ipxe, grub, initrd, or "
        "before:UNIT or after:UNIT of a service",
    )
    replay.add_argument("--artifacts", type=Path, metavar="DIR", help="if neither bundle nor store has them")
    promotion.add_tree(replay)
    replay.add_argument("--images-dir", type=Path, metavar="DIR", help="where definitions are (default: images/)")
    replay.add_argument("--run-dir", type=Path, metavar="DIR", help="keep the logs there (default: they are removed)")
    replay.set_defaults(run=_replay)


def _add_bisect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bisect",
        help="the smallest change that turns good into bad",
        description=_BISECT,
        epilog=_BISECT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("good", metavar="GOOD")
    parser.add_argument("bad", metavar="BAD")
    parser.add_argument("--test", default="", metavar="NODEID", help="what fails with BAD (default: the boot)")
    parser.add_argument("--times", type=int, default=1, metavar="N",
                        help="try N times before something passes for good (default: 1)")  # fmt: skip
    parser.add_argument("--stream", metavar="STREAM", help="over the versions that this stream carried")
    promotion.add_tree(parser)
    parser.add_argument("--images-dir", type=Path, metavar="DIR", help="where definitions are (default: images/)")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="keep the logs there (default: they are removed)")
    parser.set_defaults(run=_bisect)


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    finding_catalog = commands.add_parser(
        "explain",
        help="what a finding means, and what to do next",
        description="What the finding ID means, what is usually behind it, and what to do next; without ID, all.",
    )
    finding_catalog.add_argument("id", nargs="?", metavar="ID", help="as in the brackets of a verdict: boot-hangs")
    finding_catalog.set_defaults(run=_explain)


def _add_store(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    store = commands.add_parser(
        "store",
        help="what is kept from builds, and removing it",
        usage="bootproof store [-h] [--json] [prune ...]",
        description="Show what the store keeps: artifacts, build layers, downloaded packages, logs; by whom it is "
        "used now and what no run will use again. `bootproof store prune` removes that, and more if told so.",
    )
    store.add_argument("--json", action="store_true", help="for scripts: everything that is kept, with its paths")
    store.set_defaults(run=_store)
    prune = store.add_subparsers(metavar="prune", prog="bootproof store").add_parser(
        "prune",
        help="remove what no run will use again, or what the options say",
        description=_PRUNE,
        epilog=_PRUNE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prune.add_argument("--older-than", metavar="AGE", help="also what was not used for that long: 30d, 12h, 2w")
    prune.add_argument("--max-size", metavar="SIZE", help="also the least recently used, until SIZE is left: 20G, 500M")
    prune.add_argument(
        "--image", action="append", default=[], metavar="NAME",
        help="nothing but this image's; without another option, all of it (repeatable)",
    )  # fmt: skip
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    prune.set_defaults(run=_prune)


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="what this host can do, and how to mend what is missing",
        description="Try what builds and boots need of this host, offline and without leaving anything behind. What is "
        "'limited' works, but not all of it, or slower; without what is MISSING, images cannot be proven here, and "
        "the exit status is 75. The lines that mend it come last, ready to paste.",
    )
    doctor.add_argument("--json", action="store_true", help="for scripts: a list of checks")
    doctor.set_defaults(run=_doctor)


def _add_facts(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    hardware_scan = commands.add_parser(
        "facts",
        help="this host as a hardware profile, for --hardware FILE",
        description="Print the hardware of the host this runs on as a profile in TOML. Nothing is changed or sent, and "
        "no root is needed.",
    )
    hardware_scan.add_argument(
        "--serials", action="store_true", help="with serial numbers, MACs and UUIDs (some need root)"
    )
    hardware_scan.set_defaults(run=_facts)


def _build(options: argparse.Namespace) -> int:
    from harness.build.pipeline import build
    from harness.core import serialization
    from harness.model.definition import find_definition, find_images
    from harness.runs.progress import BuildProgress
    from harness.store.store import find_store

    images = options.images_dir or find_images(Path.cwd())
    definition = find_definition(options.image, images)
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
        sys.stdout.buffer.write(os.fsencode(artifacts.folder) + b"\n")  # as the file system has it, in any locale
    return 0


def _boot(options: argparse.Namespace) -> int:
    from harness.machine.attend import boot_by_hand

    return boot_by_hand(options)


def _store(options: argparse.Namespace) -> int:
    from harness.core import serialization
    from harness.store import inventory
    from harness.store.store import find_store

    found = inventory.survey(find_store())
    if options.json:
        print(json.dumps(serialization.dump(found), indent=2))
        return 0
    if found.items:
        show(inventory.table(found, time.time()))
        print()
    print(inventory.summary(found))
    return 0


def _prune(options: argparse.Namespace) -> int:
    from harness.core.text import size
    from harness.store import inventory, prune
    from harness.store.store import find_store

    rules = prune.Rules(
        older_than_s=prune.parse_age(options.older_than) if options.older_than else None,
        max_bytes=prune.parse_size(options.max_size) if options.max_size else None,
        images=tuple(options.image),
    )
    store = find_store()
    removals = prune.prune(store, rules, dry_run=options.dry_run)
    if removals:
        show(prune.removal_table(removals, dry_run=options.dry_run))
        print()
    verb = "would be freed" if options.dry_run else "freed"
    print(f"{size(prune.removed_bytes(removals))} {verb}; {inventory.summary(inventory.survey(store))}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from harness.host.doctor import examine, remedies, table

    checks = examine()
    if options.json:
        from harness.core import serialization

        print(json.dumps(serialization.dump(checks), indent=2))
    else:
        show(table(checks))
        lines = remedies(checks)
        if lines:
            print("\n".join(["", "to mend it:", *(f"    {line}" for line in lines)]))
    return 75 if any(check.is_missing for check in checks) else 0


def _explain(options: argparse.Namespace) -> int:
    from harness.model import finding_catalog

    for line in finding_catalog.page(options.id) if options.id else finding_catalog.summary():
        print(line)
    return 0


def _bisect(options: argparse.Namespace) -> int:
    from harness.replay.bisect import bisect

    return bisect(options)


def _replay(options: argparse.Namespace) -> int:
    from harness.replay.replay import replay

    return replay(options)


def _facts(options: argparse.Namespace) -> int:
    from harness.host import hardware_scan

    print(hardware_scan.profile(with_serials=options.serials), end="")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status. Bad input and a wanting host get a sentence, not a traceback."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # an encoding that lacks a character is no error
    options = _parse(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    process.unwind_when_told_to_end()
    try:
        status = run(options)
        sys.stdout.flush()
        return status
    except BootproofError as error:
        to_stderr(f"bootproof: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        to_stderr("bootproof: interrupted")
        return 130
    except BrokenPipeError:  # of `| head`; Python would complain once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # such as a full disk, or a folder that is gone
        to_stderr(f"bootproof: {f'{error.filename}: ' if error.filename else ''}{error.strerror}")
        return HostError.exit_status


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """argparse says 2 for a wrong option; here that is 4, as in pytest."""
    try:
        return _parser().parse_args(arguments)
    except SystemExit as error:
        raise SystemExit(4 if error.code == 2 else error.code) from None


if __name__ == "__main__":
    sys.exit(main())
