"""Who owns the files in persistent paths: another version may give a user's number to somebody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.machine.verbs import GuestVerbs
from harness.persistence.guest_python import read_json

_NAMES = r"""
import grp, json, os, pwd, sys

def name(find, number):
    try:
        return find(number)[0]
    except KeyError:
        return ""

def owners(path):
    seen = os.lstat(path)
    return {"user": [seen.st_uid, name(pwd.getpwuid, seen.st_uid)],
            "group": [seen.st_gid, name(grp.getgrgid, seen.st_gid)]}
"""
_SAMPLES = r"""
found = {}
for location in sys.argv[1:]:
    known = set()
    for at, folders, names in os.walk(os.path.realpath(location)):
        for path in [at] + [os.path.join(at, name) for name in names]:
            try:
                seen = os.lstat(path)
            except FileNotFoundError:
                continue
            if (seen.st_uid, seen.st_gid) not in known:
                known.add((seen.st_uid, seen.st_gid))
                found[path] = owners(path)
print(json.dumps(found))
"""
_SAME = "print(json.dumps({path: owners(path) for path in sys.argv[1:] if os.path.lexists(path)}))"

Owners = Mapping[str, Mapping[str, tuple[int, str]]]
"""By path, number and name of its ``user`` and ``group``; a number without a name has an empty one."""


def sample(machine: GuestVerbs, paths: Sequence[str]) -> Owners:
    """Of each persistent path, one file for each pair of owners that occurs in it."""
    found: Owners = read_json(machine, _NAMES + _SAMPLES, paths)
    return found


def owners(machine: GuestVerbs, files: Sequence[str]) -> Owners:
    """The owners of those ``files`` that exist."""
    found: Owners = read_json(machine, _NAMES + _SAME, files) if files else {}
    return found


def strangers(before: Owners, after: Owners) -> Iterator[str]:
    """A sentence for each file whose user or group has another name now: pure. A number without a name is nobody's."""
    for path, kinds in before.items():
        for kind, (number, name) in kinds.items() if path in after else ():
            now, other = after[path][kind]
            if name and other != name:
                yield f"{path} and its like were of {kind} {name} ({number}), are of {other or 'nobody'} ({now})"
