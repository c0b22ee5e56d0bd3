"""What the definition demands, and what a host needs, is in the image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from harness.lint.finding import LintFinding, fails, warns
from harness.lint.image import Image
from harness.lint.tree import Tree
from harness.lint.unit_files import parse
from harness.lint.units import in_boot
from harness.model.machine_spec import BootPath

Findings = Iterator[LintFinding]

_PROGRAMS = {  # boot path: the programs of the image that it needs, and why
    BootPath.KEXEC: (("kexec", "it starts the next kernel"), ("curl", "it downloads the next kernel")),
}
_CLOCK_UNITS = (
    "systemd-timesyncd.service", "chrony.service", "chronyd.service", "ntp.service", "ntpd.service", "ntpsec.service",
    "openntpd.service", "ptp4l.service", "phc2sys.service", "linuxptp.service", "timemaster.service",
)  # fmt: skip
_UPLOADERS = (
    "systemd-journal-upload.service", "rsyslog.service", "syslog-ng.service", "fluent-bit.service", "vector.service",
    "promtail.service", "filebeat.service", "td-agent.service", "alloy.service", "fluentd.service",
)  # fmt: skip
_MICROCODE = re.compile(
    r"kernel/x86/microcode/(GenuineIntel|AuthenticAMD)\.bin|(usr/)?lib/firmware/(intel|amd)-ucode/.+"
)
_BARE_METAL = re.compile(
    r"(usr/)?lib/modules/[^/]+/kernel/drivers/(net/ethernet/broadcom|scsi/(megaraid|mpt3sas|smartpqi))/.+"
)
_JOURNAL_FILES = (
    "etc/systemd/journald.conf.d",
    "usr/local/lib/systemd/journald.conf.d",
    "usr/lib/systemd/journald.conf.d",
)


def boot_paths(image: Image) -> Findings:
    """The programs that the definition's boot paths run in the image."""
    for path in image.definition.boot_paths if image.definition else ():
        for name, why in _PROGRAMS.get(path, ()):
            if image.root.program(name) is None:
                yield fails(
                    "boot-path-program-missing", f"usr/sbin/{name}", f"the boot path {path} needs {name}: {why}"
                )


def time_synchronisation(image: Image) -> Findings:
    started = in_boot(image)
    if "usr/lib/systemd/systemd" in image.root.files and not any(name in started for name in _CLOCK_UNITS):
        what = "no service that sets the clock by the network is started"
        yield warns(
            "clock-not-set", "etc/systemd/timesyncd.conf", what, f"looked for: {', '.join(_CLOCK_UNITS[:4])}, …"
        )


def journal(image: Image) -> Findings:
    """The journal is kept over a boot, or is sent elsewhere."""
    if "usr/lib/systemd/systemd-journald" not in image.root.files:
        return
    storage, place = "auto", "etc/systemd/journald.conf"
    files = {path.rpartition("/")[2]: path for folder in _JOURNAL_FILES[::-1] for path in image.root.inside(folder)}
    for path in ["etc/systemd/journald.conf", *(files[name] for name in sorted(files))]:
        for setting in parse(image.root.text(path) or "", path):
            if not isinstance(setting, str) and setting.key == "Storage":
                storage, place = setting.value, path
    if storage == "none":
        yield warns(
            "journal-lost", place, "nothing is kept in the journal, not even while the host runs", "Storage=none"
        )
        return
    persistent = image.definition.persistent_paths if image.definition else ()
    is_kept = any("var/log/journal".startswith(path.lstrip("/")) for path in persistent) and storage in (
        "auto",
        "persistent",
    )
    if not is_kept and not any(name in in_boot(image) for name in _UPLOADERS):
        yield warns(
            "journal-lost",
            place,
            "no boot leaves a journal behind: it is in RAM, and nothing sends it elsewhere",
            f"Storage={storage}",
        )


def microcode(image: Image) -> Findings:
    """A kernel with the drivers of real servers comes with the microcode of their CPUs, and with firmware."""
    if not any(_BARE_METAL.fullmatch(path) for path in image.root.files):
        return
    if not any(_MICROCODE.fullmatch(path) for tree in image.trees for path in tree.files):
        yield warns(
            "firmware-missing",
            "usr/lib/firmware",
            "there is no microcode for CPUs, and the kernel has drivers for real servers",
        )
    elif image.initrd and not any(path.startswith("kernel/x86/microcode/") for path in image.initrd.files):
        yield warns(
            "firmware-missing",
            "initrd:kernel/x86/microcode",
            "the initrd does not load the microcode that the root file system has",
        )
    if not any(
        path.startswith(("usr/lib/firmware/", "lib/firmware/")) and file.kind == "file"
        for path, file in image.root.files.items()
    ):
        yield warns(
            "firmware-missing",
            "usr/lib/firmware",
            "there are no firmware files, and the kernel has drivers that need them",
        )


def persistent_paths(image: Image) -> Findings:
    """Each persistent path is a link to /data with defaults, where our own builder made the image."""
    definition, tree = image.definition, image.root
    if definition is None or not image.manifest.is_ours:
        return
    for path in definition.persistent_paths:
        name = path.lstrip("/")
        file = tree.files.get(name)
        parent = name.rpartition("/")[0]
        if tree.resolve(parent, follow=True) is None:
            yield fails("persistent-path-wrong", name, f"{parent} does not exist, so nothing is kept there")
        elif file is None:
            yield fails("persistent-path-wrong", name, f"it is missing: it must be a link to /data{path}")
        elif file.kind != "link":
            count = sum(other.startswith(f"{name}/") for other in tree.files)
            lost = f", and {count:,} files in it would be lost at each boot" if count else ""
            yield fails("persistent-path-wrong", name, f"it is a {file.kind}, not a link to /data{path}{lost}")
        elif file.target.rstrip("/") != f"/data{path}":
            yield fails("persistent-path-wrong", name, f"it leads to {file.target}, not to /data{path}")
        elif f"usr/share/persist{path}" not in tree.files:
            yield warns(
                "persistent-path-wrong",
                name,
                "it has no defaults in /usr/share/persist: a new host finds nothing there",
            )
    for path in tree.files:
        if path.startswith("data/"):
            yield fails("persistent-path-wrong", path, "the disk of the host is mounted over it: this content is lost")
            return


def numbers(image: Image) -> Findings:
    """Users and groups have the numbers of the previous version: a host's files on /data belong to numbers.

    Where both versions keep a host's numbers themselves, those that they keep are a warning.
    """
    previous = image.previous
    if previous is None:
        return
    is_kept = _KEEPS_NUMBERS in image.root.files and _KEEPS_NUMBERS in previous.files
    for what, path, text in (("user", "etc/passwd", previous.users), ("group", "etc/group", previous.groups)):
        kept, lost = list[str](), list[str]()
        for number, sentence in _drifts(what, _numbers(text), _numbers(image.root.text(path) or ""), previous.version):
            (kept if is_kept and number in _KEPT_NUMBERS else lost).append(sentence)
        for sentence in lost:
            yield fails("number-drifts", path, sentence)
        if kept and previous.manifest.image != image.manifest.image:
            yield warns(
                "number-drifts",
                path,
                f"{len(kept)} {what}s have other numbers than in {previous.manifest.image} {previous.version}",
                *kept,
                cause=_KEPT,
            )
        else:
            for sentence in kept:
                yield warns("number-drifts", path, sentence, cause=_KEPT)


_KEEPS_NUMBERS = "usr/lib/persist/keep-numbers"
_KEPT_NUMBERS = range(100, 1000)
"""Those that keep-numbers of role persist records on each host's disk."""
_KEPT = "packages were installed in another order; hosts keep their numbers by keep-numbers, and only new hosts differ"


def _drifts(what: str, old: Mapping[str, str], new: Mapping[str, str], version: str) -> Iterator[tuple[int, str]]:
    """The old number of each account whose number changed or that lost it to a new one, and a sentence."""
    holder = {number: name for name, number in new.items()}
    for name, number in old.items():
        at = int(number) if number.isdecimal() else 0
        if name in new and new[name] != number:
            yield at, f"the {what} {name} has the number {new[name]}, and had {number} in {version}"
        elif name not in new and number in holder and holder[number] not in old:
            yield at, f"the {what} {holder[number]} has the number {number}, which {name} had in {version}"


def _numbers(text: str) -> dict[str, str]:
    return {row[0]: row[2] for line in text.splitlines() if len(row := line.split(":")) > 2}


def accounts(image: Image) -> Findings:
    """Each name and each number is given once."""
    yield from _twice(image.root, "etc/passwd", "user")
    yield from _twice(image.root, "etc/group", "group")


def _twice(tree: Tree, path: str, what: str) -> Findings:
    seen = dict[str, str]()
    for name, number in (
        (row[0], row[2]) for line in (tree.text(path) or "").splitlines() if len(row := line.split(":")) > 2
    ):
        other = seen.setdefault(number, name)
        if other != name and number != "0":
            yield fails("number-drifts", path, f"the {what}s {other} and {name} have one number, {number}")


BY_NAMES = (boot_paths, persistent_paths)
BY_TEXTS = (time_synchronisation, journal, accounts)
BY_CONTENTS = (microcode, numbers)
