"""What a ready host shows of the resources of goss files: what is asked, and the answers as values of goss."""

from __future__ import annotations

import re
import shlex
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from harness.core.errors import ImageError
from harness.examine import sockets, storage
from harness.examine.texts import by_file, lines_of, some
from harness.guest.probes import Probe, read
from harness.model.goss_matchers import Seen
from harness.model.rules import GossResource
from harness.packages.database import PackageDatabase

T = TypeVar("T")

MOST_BYTES = 256 << 10
"""The longest text of a file or a command that is read."""
_FILES = "files of rules"
_STAT = r"%m\t%y\t%u\t%g\t%U\t%G\t%s\t%p\t%l\n"
_KINDS = {
    "f": "file", "d": "directory", "l": "symlink", "s": "socket", "p": "pipe", "b": "block-device",
    "c": "character-device",
}  # fmt: skip
_TEXTS = ("contents", "contains")
_SUMS = ("md5", "sha256", "sha512")
_ENABLED = ("enabled", "enabled-runtime", "static", "alias", "indirect", "generated")
"""systemctl(1): the states for which is-enabled ends with 0."""
_SOME_PARAMETER = "/proc/sys/kernel/ostype"
"""One that each kernel has."""
_ACTIVE = ("active", "reloading", "refreshing")
_USERS = Probe("users of rules", "cat /etc/passwd")
_GROUPS = Probe("groups of rules", "cat /etc/group")
_PROCESSES = Probe("names of programs that run", "grep -ah '' /proc/[0-9]*/comm || [ $? -le 2 ]")
"""One may end before it was looked at."""


class NotAsked(Exception):
    """The host did not answer; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """In place of a value that this thing does not have, such as the text of a folder: ``why``."""

    why: str


Facts = Mapping[str, Seen | Unreadable]
"""By attribute; the one that says whether the thing exists is False for one that does not, and then alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The ``texts`` that a host answered to probes, by their names; ``refused`` says why a probe has none."""

    texts: Mapping[str, str]
    refused: Mapping[str, str] = field(default_factory=dict)

    def read(self, probe: Probe, parse: Callable[[str], T]) -> T:
        """As `probes.read`; `NotAsked` if there is no answer, or one that cannot be read."""
        if probe.name in self.refused:
            raise NotAsked(self.refused[probe.name])
        try:
            return read(self.texts, probe, parse)
        except ImageError as error:
            raise NotAsked(str(error)) from error


def probes_of(resources: Sequence[GossResource], database: PackageDatabase | None) -> Iterator[Probe]:
    """What to ask about all ``resources``; ``database`` is that of the image's packages, if it is known."""
    about = defaultdict[str, list[str]](list)
    for one in resources:
        about[one.kind].append(one.about)
        if one.kind == "file" and not set(_TEXTS).isdisjoint(one.wanted):
            yield _text_of(one.about)
    if paths := about["file"]:
        yield _files(paths)
        for sums in _SUMS:
            if hashed := [one.about for one in resources if one.kind == "file" and sums in one.wanted]:
                yield _sums(sums, hashed)
    if units := about["service"]:
        yield _services(units)
    if places := [one.about for one in resources if one.kind == "mount" and "usage" in one.wanted]:
        yield _usage(places)
    if keys := about["kernel-param"]:
        yield _parameters(keys)
    if about["package"] and database:
        yield _packages(database)
    for kind, needed in (
        ("port", (sockets.TABLES,)), ("user", (_USERS, _GROUPS)), ("group", (_GROUPS,)), ("mount", storage.PROBES),
        ("process", (_PROCESSES,)),
    ):  # fmt: skip
        if about[kind]:
            yield from needed


def facts_of(
    resource: GossResource, resources: Sequence[GossResource], answers: Answers, database: PackageDatabase | None
) -> Facts:
    """What the host shows of ``resource``, one of those about which it was asked; `NotAsked` if it does not say."""
    try:
        return _facts_of(resource, resources, answers, database)
    except (ValueError, KeyError, IndexError) as error:
        raise NotAsked(f"the answer about {resource.about} cannot be read: {error!r}") from error


def _facts_of(
    resource: GossResource, resources: Sequence[GossResource], answers: Answers, database: PackageDatabase | None
) -> Facts:
    match resource.kind:
        case "file":
            return _file(resource, resources, answers)
        case "service":
            return _service(resource, resources, answers)
        case "port":
            return _port(resource, answers)
        case "package":
            return _package(resource, answers, database)
        case "user":
            return _user(resource, answers)
        case "group":
            return _group(resource, answers)
        case "mount":
            return _mount(resource, resources, answers)
        case "kernel-param":
            return _parameter(resource, resources, answers)
        case "process":
            names = answers.read(_PROCESSES, lambda text: set(text.splitlines()))
            return {"running": resource.about in names}
        case _:
            return {"matches": resource.wanted.get("content", "")}


def _about(kind: str, resources: Iterable[GossResource], attribute: str = "") -> list[str]:
    return [one.about for one in resources if one.kind == kind and (not attribute or attribute in one.wanted)]


def _files(paths: Sequence[str]) -> Probe:
    return Probe(_FILES, some(f"find / {shlex.join(paths)} -maxdepth 0 -printf '{_STAT}'"))


def _rows(text: str) -> dict[str, list[str]]:
    rows = {row[7]: row for row in (line.split("\t", 8) for line in lines_of(text))}
    if "/" not in rows:
        raise ValueError("nothing about /")
    return rows


def _text_of(path: str) -> Probe:
    where = shlex.quote(path)
    command = f"head -c {MOST_BYTES + 1} {where} || exit\necho ."
    return Probe(f"contents of {path}", f"[ -f {where} ] || {{ echo absent; exit; }}\necho present\n{command}")


def _sums(algorithm: str, paths: Sequence[str]) -> Probe:
    return Probe(f"{algorithm} of files", some(f"{algorithm}sum -- /dev/null {shlex.join(paths)}"))


def _file(resource: GossResource, resources: Sequence[GossResource], answers: Answers) -> Facts:
    path = resource.about
    row = answers.read(_files(_about("file", resources)), _rows).get(path)
    if row is None:
        return {"exists": False}
    mode, kind, user, group, uid, gid, size, _, target = row
    found = dict[str, Seen | Unreadable](
        exists=True, mode=f"{stat.S_IMODE(int(mode, 8)):04o}", owner=user, group=group, uid=int(uid), gid=int(gid),
        size=int(size), filetype=_KINDS.get(kind, "file"),
    )  # fmt: skip
    found["linked-to"] = target if kind == "l" else Unreadable(why="is no link")
    for name in set(_TEXTS) & set(resource.wanted):
        found[name] = answers.read(_text_of(path), _contents)
    for name in set(_SUMS) & set(resource.wanted):
        sums = answers.read(_sums(name, _about("file", resources, name)), _sum_rows)
        found[name] = sums.get(path, Unreadable(why="is no regular file that can be read"))
    return found


def _contents(text: str) -> Seen | Unreadable:
    """After the heading the text, and a point, which keeps its last newlines."""
    if text == "absent":
        return Unreadable(why="is no regular file")
    heading, _, content = text.partition("\n")
    if heading != "present" or not content.endswith("."):
        raise ValueError("no heading, or no end")
    too_long = len(content.encode()) > MOST_BYTES + 1
    return Unreadable(why=f"is longer than {MOST_BYTES >> 10} KiB") if too_long else content[:-1]


def _sum_rows(text: str) -> dict[str, str]:
    rows = {path: digest for digest, _, path in (line.partition("  ") for line in lines_of(text))}
    if "/dev/null" not in rows:
        raise ValueError("nothing about /dev/null")
    return rows


def _unit(name: str) -> str:
    return name if re.search(r"\.(service|socket|timer|target|mount|path)$", name) else f"{name}.service"


def _services(names: Sequence[str]) -> Probe:
    units = shlex.join(map(_unit, names))
    return Probe("services of rules", f"systemctl show -p Id -p ActiveState -p UnitFileState -- {units}")


def _service(resource: GossResource, resources: Sequence[GossResource], answers: Answers) -> Facts:
    """systemctl(1) shows the units in the order in which they were named."""
    names = _about("service", resources)

    def states(text: str) -> dict[str, dict[str, str]]:
        blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in text.split("\n\n")]
        return dict(zip(names, blocks, strict=True))

    row = answers.read(_services(names), states)[resource.about]
    return {"enabled": row["UnitFileState"] in _ENABLED, "running": row["ActiveState"] in _ACTIVE}


def _port(resource: GossResource, answers: Answers) -> Facts:
    """Sockets of both protocols of IP have a name of their own in goss: "tcp" and "tcp6"."""
    protocol, _, port = resource.about.rpartition(":")
    protocol = protocol or "tcp"
    listening = answers.read(sockets.TABLES, sockets.parse_tables)
    addresses = [
        one.address.rpartition(":")[0]
        for one in listening
        if one.protocol == protocol.rstrip("6")
        and one.address.endswith(f":{port}")
        and one.address.startswith("[") == protocol.endswith("6")
    ]
    return {"listening": bool(addresses), "ip": [address.strip("[]") for address in addresses]}


def _packages(database: PackageDatabase) -> Probe:
    return Probe("packages of rules", shlex.join(database.list_command))


def _package(resource: GossResource, answers: Answers, database: PackageDatabase | None) -> Facts:
    if database is None:
        raise NotAsked("the manifest lists no packages of a known package manager")
    version = answers.read(_packages(database), database.read_list).get(resource.about)
    return {"installed": False} if version is None else {"installed": True, "versions": [version]}


def _accounts(text: str) -> dict[str, list[str]]:
    return {line.split(":")[0]: line.split(":") for line in text.splitlines()}


def _user(resource: GossResource, answers: Answers) -> Facts:
    row = answers.read(_USERS, _accounts).get(resource.about)
    if row is None:
        return {"exists": False}
    _, _, uid, gid, _, home, shell = row
    rows = answers.read(_GROUPS, lambda text: list(_accounts(text).values()))
    groups = [group[0] for group in rows if group[2] == gid or resource.about in group[3].split(",")]
    return {"exists": True, "uid": int(uid), "gid": int(gid), "home": home, "shell": shell, "groups": list(groups)}


def _group(resource: GossResource, answers: Answers) -> Facts:
    row = answers.read(_GROUPS, _accounts).get(resource.about)
    return {"exists": False} if row is None else {"exists": True, "gid": int(row[2])}


def _usage(places: Sequence[str]) -> Probe:
    return Probe("usage of mounts", some(f"df -P -- / {shlex.join(places)}"))


def _mount(resource: GossResource, resources: Sequence[GossResource], answers: Answers) -> Facts:
    """Of several file systems that are mounted on one folder, the last is the uppermost."""
    table = storage.PROBES[0]
    mounts = answers.read(table, lambda text: storage.parse_mounts({table.name: text}))
    mount = next((one for one in reversed(mounts) if one.place == resource.about), None)
    if mount is None:
        return {"exists": False}
    found = dict[str, Seen | Unreadable](exists=True, opts=list(mount.of_mount), source=mount.source)
    found |= {"vfs-opts": list(mount.of_file_system), "filesystem": mount.kind}
    if "usage" in resource.wanted:
        used = answers.read(_usage(_about("mount", resources, "usage")), lambda text: dict(_shares(lines_of(text))))
        found["usage"] = used.get(resource.about, Unreadable(why="is not told by df"))
    return found


def _shares(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    """df(1): "/dev/sda2 1000 100 900 10% /data", below a heading; "-" for a file system without blocks."""
    if not lines or "/" not in {line.split(None, 5)[-1] for line in lines}:
        raise ValueError("nothing about /")
    for line in lines[1:]:
        *_, share, place = line.split(None, 5)
        yield place, 0 if share == "-" else int(share.rstrip("%"))


def _parameter_file(key: str) -> str:
    return f"/proc/sys/{key.replace('.', '/')}"


def _parameters(keys: Sequence[str]) -> Probe:
    """Each file once, as grep prints a file as often as it is named."""
    files = dict.fromkeys([_SOME_PARAMETER, *map(_parameter_file, keys)])
    return Probe("kernel parameters", some(f"grep -asH '' {shlex.join(files)}"))


def _parameter(resource: GossResource, resources: Sequence[GossResource], answers: Answers) -> Facts:
    files = answers.read(_parameters(_about("kernel-param", resources)), lambda text: by_file(lines_of(text)))
    if _SOME_PARAMETER not in files:
        raise NotAsked(f"grep printed nothing of {_SOME_PARAMETER}")
    rows = files.get(_parameter_file(resource.about))
    return {"value": Unreadable(why="the kernel has no such parameter") if rows is None else "\n".join(rows)}
