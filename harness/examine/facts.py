"""The facts about a ready host by which operators compare two versions: see `HostFacts`. For the runtime profile."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.core.deadline import Deadline
from harness.examine import clock, defences, storage
from harness.examine.defences import CPU
from harness.examine.devices import place_of
from harness.examine.texts import by_file, lines_of, links, some
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guest.serial_shell import SHELL_UNIT
from harness.model.host_facts import HostFacts, names_of_link

_DEVICES = Probe("devices", "ls -ln /sys/class/net /sys/class/block")
_DISK_LINKS = Probe(
    "links to disks",
    some("ls -ln /dev/disk/by-id /dev/disk/by-path /dev/disk/by-label /dev/disk/by-partlabel"),
)
_NOT_READ = "! -name base_reachable_time ! -name retrans_time"
"""Linux, net/ipv6/ndisc.c: the kernel logs a warning about who reads these; there are others in milliseconds."""
_SYSCTL = Probe("sysctl", some(f"find /proc/sys -xdev -type f -perm /444 {_NOT_READ} -exec grep -asH '' {{}} +"))
"""Without binfmt_misc, which would be mounted by a look at it."""
_LIMITS = ("LimitNOFILE", "LimitNOFILESoft", "LimitNPROC", "LimitMEMLOCK", "LimitCORE", "TasksMax")
_MANAGER = Probe("default limits", f"systemctl show {' '.join(f'-p Default{name}' for name in _LIMITS)}")
_SERVICES = Probe(
    "limits of services",
    "systemctl show '*.service' -p Id -p ActiveState -p ControlGroup -p MemoryMax "
    + " ".join(f"-p {name}" for name in _LIMITS),
)
_TIMERS = Probe(
    "timers",
    "echo look\nsystemctl show '*.timer' -p Id -p Unit -p TimersCalendar -p TimersMonotonic -p Persistent",
)
_CONTROL_GROUPS = Probe(
    "control groups", some("grep -aH '' /sys/fs/cgroup/cgroup.controllers /sys/fs/cgroup/cgroup.subtree_control")
)
_ACCOUNTS = Probe("accounts", "cat /etc/passwd")
_MEMBERS = Probe("members of groups", "cat /etc/group")
_MODULES = Probe("loaded modules", "echo look\n[ ! -e /proc/modules ] || cat /proc/modules")
"""A kernel that can load none has no such file."""
_PROFILES = Probe("profiles of AppArmor", some("grep -aH '' /sys/kernel/security/apparmor/profiles"))
_TARGET = Probe("default target", "systemctl get-default")
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
_SETTINGS = Probe("other settings", some(f"grep -aH '' /etc/nsswitch.conf /sys/fs/selinux/enforce {_HUGE_PAGES}"))
_PLACES = Probe("places", some("ls -dln /etc/resolv.conf /run/log/journal /var/log/journal"))
PROBES = (
    *storage.PROBES, *defences.PROBES, *clock.PROBES, _DEVICES, _DISK_LINKS, _SYSCTL, _MANAGER, _SERVICES, _TIMERS,
    _CONTROL_GROUPS, _ACCOUNTS, _MEMBERS, _MODULES, _PROFILES, _TARGET, _SETTINGS, _PLACES,
)  # fmt: skip

_READ_S = 120.0
_MOST_BYTES = 8 << 20
_CHANGES = re.compile(
    r"kernel\.(random\..*|ns_last_pid|pty\.nr|hostname|domainname|version|osrelease|tainted|cad_pid|bootloader_\w+"
    r"|perf_event_max_sample_rate|sched_domain\..*)"
    r"|fs\.(dentry-state|file-nr|inode-nr|inode-state|aio-nr|quota\..*|nfs\..*)"
    r"|net\.(core\.netdev_rss_key|ipv4\.tcp_fastopen_key|netfilter\.nf_conntrack_count|mpls\.conf\..*"
    r"|ipv[46]\.(conf|neigh)\.(?!(all|default)\.).*|ipv6\.conf\.\w+\.stable_secret)|dev\.cdrom\.info|vm\.stat_refresh"
)
"""Linux, Documentation/admin-guide/sysctl: counters, random numbers, names, and what exists once for each interface."""
_VOLATILE_OPTIONS = re.compile(r"(size|nr_inodes|fd|pgrp|pipe_ino|minproto|maxproto|timeout|inode64)(=.*)?")
_VOLATILE_MOUNTS = re.compile(r"/run/(credentials|user)/.*|/proc/sys/fs/binfmt_misc")
_SESSIONS = ("user@", "user-runtime-dir@", "session-")
_TIME = re.compile(r"\{ (\w+=.*?) ; next_elapse")
_SEARCHED_DEPTH = 5
_COMMON = frozenset({"lo", "tun", "none"})
_COMMON_FOLDERS = ("/proc", "/sys", "/dev", "/run", "/tmp")
"""Names that are in many a text without a meaning."""
_MOST_FILES = 8
"""Of the files that refer to one name."""


def read_facts(channel: Channel, paths: Sequence[str], others: Iterable[str]) -> HostFacts:
    """Ask a ready host, in two round trips. ``paths`` are its persistent paths, in which references to its names, and
    to ``others`` such as those of its units, are looked for. `ImageError` if a command fails, or prints something else
    than expected.
    """
    answers = ask(channel, PROBES, Deadline(_READ_S), most_bytes=_MOST_BYTES)
    facts = parse(answers)
    if not paths:
        return facts
    names = sorted({*names_of(facts), *others})
    found = ask(channel, reference_probes(paths, names), Deadline(_READ_S), most_bytes=_MOST_BYTES)
    return with_references(facts, found, names)


def parse(answers: Mapping[str, str]) -> HostFacts:
    """The facts in the answers to `PROBES`, without references: pure. `ImageError` for an answer that is not as
    expected."""
    model = re.search(r"^model name\s*: (.*)$", answers[CPU.name], re.MULTILINE)
    services = read(answers, _SERVICES, lambda text: list(_running(text)))
    return HostFacts(
        cpu=model[1] if model else "",
        interfaces=read(answers, _DEVICES, lambda text: _devices(text, "/sys/class/net")),
        disks=read(answers, _DEVICES, lambda text: _devices(text, "/sys/class/block"))
        | read(answers, _DISK_LINKS, lambda text: dict(_disk_links(lines_of(text)))),
        mounts=dict(_mounts(storage.parse_mounts(answers))),
        defences=defences.parse(answers),
        profiles=read(answers, _PROFILES, lambda text: dict(_profiles(by_file(lines_of(text))))),
        sysctl=read(answers, _SYSCTL, _sysctl),
        limits=_limits(read(answers, _MANAGER, _pairs), services),
        control_groups=read(answers, _CONTROL_GROUPS, lambda text: dict(_control_groups(text, services))),
        timers=read(answers, _TIMERS, lambda text: dict(_timers("\n".join(lines_of(text))))),
        logins=read(answers, _ACCOUNTS, lambda text: {row[0]: f"{row[5]} {row[6]}" for row in _rows(text)}),
        members=read(answers, _MEMBERS, lambda text: {row[0]: row[3] for row in _rows(text) if row[3]}),
        modules=read(answers, _MODULES, lambda text: dict.fromkeys((line.split()[0] for line in lines_of(text)), "")),
        settings=_settings(answers),
    )


def _rows(text: str) -> Iterator[list[str]]:
    """Of passwd(5) and group(5)."""
    return (line.split(":") for line in text.splitlines())


def _devices(text: str, folder: str) -> dict[str, str]:
    """Place to name of what is in a folder of /sys/class; names at one place are joined."""
    found = defaultdict[str, list[str]](list)
    listed = [(name, target) for where, name, target in links(text.splitlines()) if where == folder]
    if not listed:
        raise ValueError(f"nothing in {folder}")
    for name, target in listed:
        if place := place_of(target):
            found[place].append(name)
    return {place: ", ".join(sorted(names)) for place, names in found.items()}


def _disk_links(lines: list[str]) -> Iterator[tuple[str, str]]:
    for folder, name, target in links(lines):
        yield f"{folder.rpartition('/')[2]}/{name}", target.rpartition("/")[2]


def _mounts(mounts: Sequence[storage.Mount]) -> Iterator[tuple[str, str]]:
    """Of several file systems that are mounted on one folder, the last is the uppermost."""
    for mount in mounts:
        if not _VOLATILE_MOUNTS.fullmatch(mount.place):
            options = ",".join(sorted(one for one in mount.options if not _VOLATILE_OPTIONS.fullmatch(one)))
            source = "" if mount.source in ("none", mount.kind) else f" on {mount.source}"
            yield mount.place, f"{mount.kind}{source}, {options}"


def _profiles(files: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Lines such as "/usr/sbin/libvirtd (enforce)"."""
    for rows in files.values():
        for row in rows:
            name, _, mode = row.rpartition(" (")
            yield name, mode.rstrip(")")


def _sysctl(text: str) -> dict[str, str]:
    files = by_file(lines_of(text))
    values = {
        path.removeprefix("/proc/sys/").replace("/", "."): " ".join(" ".join(rows).split())
        for path, rows in files.items()
    }
    if "kernel.ostype" not in values:
        raise ValueError("no kernel.ostype")
    return {key: value for key, value in sorted(values.items()) if not _CHANGES.fullmatch(key)}


def _pairs(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def _running(text: str) -> Iterator[dict[str, str]]:
    for block in text.split("\n\n"):
        row = _pairs(block)
        is_known = row["Id"] != SHELL_UNIT and not row["Id"].startswith(_SESSIONS)
        if row["ActiveState"] in ("active", "activating", "reloading") and is_known:
            yield row


def _limits(manager: Mapping[str, str], services: Iterable[Mapping[str, str]]) -> dict[str, str]:
    found = {f"default {name}": manager[f"Default{name}"] for name in _LIMITS if f"Default{name}" in manager}
    usual = {name: manager.get(f"Default{name}") for name in _LIMITS} | {"MemoryMax": "infinity"}
    for row in services:
        for name, default in usual.items():
            if name in row and row[name] != default:
                found[f"{row['Id']} {name}"] = row[name]
    return found


def _control_groups(text: str, services: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    files = {path.rpartition("/")[2]: " ".join(rows) for path, rows in by_file(lines_of(text)).items()}
    controllers = files.get("cgroup.controllers")
    yield "version", "1" if controllers is None else "2"
    if controllers is not None:
        yield "controllers", controllers
        yield "controllers of slices", files.get("cgroup.subtree_control", "")
    for row in services:
        if row["ControlGroup"] and not row["ControlGroup"].startswith("/system.slice/"):
            yield row["Id"], row["ControlGroup"]


def _timers(text: str) -> Iterator[tuple[str, str]]:
    for block in filter(None, text.split("\n\n")):
        pairs = [line.split("=", 1) for line in block.splitlines()]
        row = dict(pairs)
        times = [found[1] for key, value in pairs if key.startswith("Timers") and (found := _TIME.match(value))]
        times += ["Persistent"] if row["Persistent"] == "yes" else []
        yield row["Id"], f"{', '.join(times) or 'never'}: {row['Unit']}"


def _settings(answers: Mapping[str, str]) -> dict[str, str]:
    when = clock.parse(answers, 0.0)
    files = read(answers, _SETTINGS, lambda text: by_file(lines_of(text)))
    places = read(answers, _PLACES, lines_of)
    targets = {name: target for _, name, target in links(places)}
    kept = [line.split()[-1] for line in places if line.endswith("/log/journal")]
    hosts = next((line for line in files.get("/etc/nsswitch.conf", ()) if line.startswith("hosts:")), "")
    swaps = ", ".join(swap.name for swap in storage.parse_swaps(answers))
    found = {
        "time zone": when.zone,
        "the board's clock": "local time" if "LOCAL" in when.adjtime.split() else "UTC",
        "default target": answers[_TARGET.name],
        "folders of the journal": ", ".join(kept) or "none",
        "/etc/resolv.conf": targets.get("/etc/resolv.conf", "no link"),
        "names of hosts come from": " ".join(hosts.split()[1:]),
        "swap": swaps or "none",
        "SELinux enforces": " ".join(files.get("/sys/fs/selinux/enforce", [])),
        "transparent huge pages": " ".join(files.get(_HUGE_PAGES, [])),
    }
    return {name: value for name, value in found.items() if value}


def names_of(facts: HostFacts) -> set[str]:
    """The names of a host that files may refer to, without those that are words of any text."""
    folders = {place for place in facts.mounts if place != "/" and not place.startswith(_COMMON_FOLDERS)}
    links_to_disks = {name for link in facts.disks if link.startswith("by-") for name in names_of_link(link)}
    disks = {name for names in facts.disks.values() for name in names.split(", ")} | links_to_disks
    cards = {name for names in facts.interfaces.values() for name in names.split(", ")}
    return (folders | disks | cards | set(facts.timers)) - _COMMON


def reference_probes(paths: Sequence[str], names: Iterable[str]) -> tuple[Probe, Probe]:
    """What to ask about ``paths``: the ``names`` in their files of up to 256 KiB, and their links and owners."""
    where, words = shlex.join(paths), " ".join(f"-e {shlex.quote(name)}" for name in names)
    texts = f"find -H {where} -xdev -type f -size -257k -exec grep -oIsHwF {words} {{}} +"
    others = f"find -H {where} -xdev -maxdepth {_SEARCHED_DEPTH} '(' -type l -o ! -user root ')'"
    return (
        Probe("references", some(texts)),
        Probe("links and owners", some(f"{others} -printf '%y\\t%u\\t%p\\t%l\\n'")),
    )


def with_references(facts: HostFacts, answers: Mapping[str, str], names: Sequence[str]) -> HostFacts:
    """``facts`` with what the answers to `reference_probes` say: pure. `ImageError` for an answer that is not as
    expected."""
    texts, others = reference_probes([], [])
    found = defaultdict[str, dict[str, None]](dict)
    for name, path in (
        *read(answers, texts, lambda text: list(_matches(lines_of(text), names))),
        *read(answers, others, lambda text: list(_links_and_owners(lines_of(text), names))),
    ):
        found[name][path] = None
    kept = {name: tuple(sorted(paths)[:_MOST_FILES]) for name, paths in sorted(found.items())}
    return replace(facts, references=kept)


def _matches(lines: Iterable[str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What ``grep -oH`` printed: a path may have colons too."""
    known = set(names)
    for line in lines:
        path, _, name = line.rpartition(":")
        while path and name not in known:
            path, _, more = path.rpartition(":")
            name = f"{more}:{name}"
        if not path:
            raise ValueError(f"no name that was looked for in {line!r}")
        yield name, path


def _links_and_owners(lines: Iterable[str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A link refers to the names in its own name and in its target; a file to its owner."""
    words = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, sorted(names, key=len, reverse=True))) or '(?!)'})(?!\w)")
    for line in lines:
        kind, owner, path, target = line.split("\t", 3)
        if owner != "root":
            yield owner, path
        if kind == "l":
            base = path.rpartition("/")[2]
            for name in dict.fromkeys((*words.findall(base), *words.findall(target))):
                yield name, path
